"""What a host does, without Ray: it holds a model and computes the cohorts it is given.

A cohort's answer depends on the scenario and on the weights named in the call, never on what was computed
before or where. Targets and edits stay in here; what leaves is a sum over the cohort's parties.

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from consortium.common.cache import Kept
from consortium.common.counting import count
from consortium.common.seeds import torch_generator
from consortium.data.edit import Edit, FactSet
from consortium.editing.backend import Backend, States, Targets, Tuning
from consortium.editing.editors import registry as editors
from consortium.editing.editors.editor import KeyMap
from consortium.editing.known_facts import Asked, Noticed, Residuals, is_held, residual_sums
from consortium.editing.layer_schedule import Part, plan_round
from consortium.editing.target_cache import TargetCache
from consortium.evaluation.metrics import ProbeSums
from consortium.evaluation.telling import Evaluated, Told
from consortium.features.conflicts.commitments import Slips
from consortium.features.conflicts.resolution import UNSETTLED, Settled
from consortium.features.screening.checks import Refusal
from consortium.features.screening.pipeline import Entrance
from consortium.merging import registry
from consortium.merging.history import GramHistory
from consortium.merging.method import Contribution, PartyShare, sum_in_order
from consortium.merging.reference_norms import Yardstick, yardsticks
from consortium.merging.sample_weights import weighed
from consortium.merging.solver import PriorSolver
from consortium.merging.solvers import Solvers
from consortium.merging.statistics import Basis
from consortium.party.audit_digest import Receipt, receipt_of
from consortium.party.data import PrivateEdits
from consortium.party.evaluator import Prober
from consortium.party.known_facts import Noticer
from consortium.party.shard import Shard, Weights
from consortium.scenario.schema import Scenario

#: Targets kept at most, in bytes; those that had to go are computed again when they are asked for.
_TARGET_BYTES = 256 * 2**20
#: The same where they are quick to make: so few that a host weighs the same for a hundred parties and for 10,000.
_QUICK_TARGET_BYTES = 16 * 2**20
#: Tuned weights kept at most, in bytes, in place of targets.
_TUNING_BYTES = 512 * 2**20
#: Hidden states kept at most, in bytes, on the device; where they had to go, a layer's keys begin at the bottom again.
_STATE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class History:
    """The histories H of a lane's layers by name; a layer without an entry in ``versions`` has H = 0."""

    versions: Mapping[int, str]
    read: Callable[[int], GramHistory]


@dataclass(frozen=True)
class TargetReport:
    """What a host says of a cohort's targets: counts and sums.

    Attributes:
        num_edits: edits of the cohort.
        num_steps: gradient steps spent on all of them, now or when the targets were put on disk.
        loss: sum of the last losses, as far as they are finite.
        num_finished: edits whose loss came under ``editor.target.stop_loss``.
        num_cached: edits whose targets were read from the host's disk.
        residuals: sums of residuals' lengths, by how the edits were asked for.
        num_mended: edits whose targets were on disk, but damaged, and were made again.
    """

    num_edits: int
    num_steps: int
    loss: float
    num_finished: int
    num_cached: int = 0
    residuals: Mapping[Asked, Residuals] = field(default_factory=dict)
    num_mended: int = 0

    @property
    def remark(self) -> str | None:
        """Where the targets came from, in words; None where all were optimised."""
        if self.num_mended:
            return f"{count(self.num_mended, 'target')} made again: their entry in the disk cache was damaged"
        return (
            f"{self.num_cached} of {count(self.num_edits, 'target')} from the disk cache" if self.num_cached else None
        )


@dataclass(frozen=True)
class Collected:
    """A cohort's part of one layer's merge.

    Attributes:
        contribution: the sum over the cohort's parties; None where one was refused, since the round begins again then.
        party_bytes: what each party's own message weighs.
        num_left_out: edits that each party left out, because the model holds them already.
        receipt: which of the cohort's edits it is about, for the ledger.
        refusals: parties whose messages were refused at the door.
        largest_norm: the largest size of a message that was admitted, in multiples of what is usual.
        num_not_finite: edits that each party left out besides, since their numbers are not finite; empty for none.
    """

    contribution: Contribution | None
    party_bytes: tuple[int, ...]
    num_left_out: tuple[int, ...]
    receipt: Receipt
    refusals: tuple[Refusal, ...] = ()
    largest_norm: float = 0.0
    num_not_finite: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Found:
    """A cohort's targets, and whether they were read from disk."""

    targets: Targets
    is_cached: bool
    is_mended: bool = False


#: What each party of a cohort makes of the weights by fine-tuning.
Tunings = tuple[Tuning, ...]


class CohortWorker:
    """A model and the parties' private edits; every method is idempotent.

    Args:
        scenario: the scenario as resolved.
        facts: all facts; a party's own follow from the stream.
        backend: the model, unedited.
    """

    def __init__(self, scenario: Scenario, facts: FactSet, backend: Backend) -> None:
        self.scenario = scenario
        self.backend = backend
        self.shard = Shard(backend)
        self.private = PrivateEdits(scenario, facts)
        self.stream = self.private.stream
        self.prober = Prober(self.private, self.shard)
        self.noticer = Noticer(self.private, self.shard)
        self.editor = editors.create(scenario.editor)
        methods = {spec.lane: registry.create(spec.name, spec.parameters) for spec in scenario.merge.methods}
        self.methods = {lane: self.editor.merge_method(method) for lane, method in methods.items()}
        target_bytes = _TARGET_BYTES if backend.targets_are_costly else _QUICK_TARGET_BYTES
        self._targets: Kept[_Found] = Kept(target_bytes, lambda found: found.targets.vectors_EV.nbytes)
        self._tunings: Kept[Tunings] = Kept(_TUNING_BYTES, lambda tunings: sum(each.nbytes for each in tunings))
        self._states: Kept[States] = Kept(_STATE_BYTES, lambda states: states.nbytes)
        self._disk = TargetCache() if scenario.cluster.target_cache else None
        self._solvers: Solvers | None = None
        self._entrance = Entrance(scenario, self.stream, self.methods)
        self._map_keys: KeyMap | None = None
        self._first_target_layer = plan_round(scenario.editor, scenario.merge.exchange)[0].targets[0]

    # Before the first round

    def prior_sum(self, chunk: int) -> tuple[dict[int, NDArray[np.float64]], int]:
        """Σ k·kᵀ of each edited layer over one chunk of the prior's text, unedited."""
        self.shard.is_base()
        return self.backend.prior_sum(chunk)

    def contexts(self) -> tuple[str, ...]:
        """Contexts written by the unedited model."""
        self.shard.is_base()
        return self.backend.contexts()

    def begin(
        self,
        contexts: Sequence[str],
        prior: Mapping[int, NDArray[np.float64]],
        num_tokens: int,
        measures: Mapping[int, Yardstick] | None = None,
    ) -> None:
        """Take the run's contexts, the prior's sums over ``num_tokens`` tokens, and what messages are measured by.

        Where ``measures`` are left out they are taken from ``prior``, which must be there then.
        """
        base = self.backend.base_weights() if measures is None else {}
        self._entrance.yardsticks = yardsticks(base, prior, num_tokens) if measures is None else measures
        self.backend.set_contexts(contexts)
        self._solvers = self.editor.solvers(prior, num_tokens)
        self._map_keys = self.editor.key_map(prior, num_tokens)

    # In a round

    def slips(self, round_number: int, cohort: int) -> Slips:
        """What the cohort's parties announce of their edits: digests."""
        return self.private.slips(round_number, cohort)

    def evaluate(
        self,
        weights: Weights,
        round_number: int,
        cohort: int,
        retention: bool,
        settled: Settled = UNSETTLED,
        before: Weights | None = None,
    ) -> ProbeSums:
        """Counts and sums of the cohort's own probes: see :meth:`consortium.party.evaluator.Prober.evaluate`."""
        return self.prober.evaluate(weights, round_number, cohort, retention, settled, before)

    def evaluate_and_tell(
        self,
        weights: Weights,
        round_number: int,
        cohort: int,
        retention: bool,
        settled: Settled = UNSETTLED,
        before: Weights | None = None,
    ) -> Evaluated:
        """The same, and what each probe was answered with; only where ``evaluate.per_edit`` asks for it."""
        assert self.scenario.evaluate.per_edit, "answers stay with their parties unless the scenario asks for them"
        told: list[Told] = []
        sums = self.prober.evaluate(weights, round_number, cohort, retention, settled, before, told)
        return Evaluated(sums, tuple(told))

    def targets(
        self, weights: Weights, round_number: int, cohort: int, layer: int, settled: Settled = UNSETTLED
    ) -> TargetReport:
        """Optimise the cohort's targets at ``layer`` under ``weights``, or read them from disk, and keep them.

        ``settled`` says what was settled about the cohort's edits.
        An editor that tunes weights does so here; its parties' tuned weights are kept in place of targets.
        """
        if self.editor.tunes_weights:
            return self._report(self._tuned(weights, round_number, cohort, settled))
        found = self._find_targets(weights, round_number, cohort, layer, settled)
        targets = found.targets
        stop_loss = self.scenario.editor.target.stop_loss
        asked = self.private.asked(round_number, cohort, settled)
        noticed: Sequence[Noticed] = ()
        if layer == self._first_target_layer and self.scenario.conflicts.detect == "answer":
            contradicted = self.noticer.contradicted(weights, round_number, cohort, settled, targets.shifts)
            noticed = self.noticer.noticed(round_number, cohort, settled, contradicted)
        return TargetReport(
            num_edits=len(targets.losses),
            num_steps=sum(targets.num_steps),
            loss=sum(filter(math.isfinite, targets.losses)),
            num_finished=sum(loss < stop_loss for loss in targets.losses),
            num_cached=len(targets.losses) if found.is_cached else 0,
            num_mended=len(targets.losses) if found.is_mended else 0,
            residuals=residual_sums(asked, targets.shifts, self.scenario.overlap, noticed),
        )

    def _report(self, tunings: Tunings) -> TargetReport:
        losses = [loss for tuning in tunings for loss in tuning.losses]
        stop_loss = self.scenario.editor.ft.stop_loss
        return TargetReport(
            num_edits=len(losses),
            num_steps=sum(tuning.num_steps * len(tuning.losses) for tuning in tunings),
            loss=sum(filter(math.isfinite, losses)),
            num_finished=sum(loss < stop_loss for loss in losses),
        )

    def _tuned(self, weights: Weights, round_number: int, cohort: int, settled: Settled) -> Tunings:
        """What each party of a cohort makes of ``weights`` by fine-tuning them on its own edits; nothing if absent."""

        def make() -> Tunings:
            self.shard.load(weights)
            parties = self.scenario.cohort(cohort)
            groups = [() if each in settled.absent else self.stream.requests(round_number, each) for each in parties]
            return tuple(self._fine_tuned([self.private.edit(request) for request in group]) for group in groups)

        return self._tunings.get((weights.key, round_number, cohort, settled.key), make)

    def _fine_tuned(self, edits: Sequence[Edit]) -> Tuning:
        """What a party makes of its edits; those that are not finite by themselves are left out, or else all."""
        nothing = Tuning({layer: torch.zeros(shape) for layer, shape in self.shard.shapes.items()}, 0, ())
        if not edits:
            return nothing
        tuning = self.backend.fine_tune(edits)
        if tuning.is_finite:
            return tuning
        sound = [edit for edit in edits if self.backend.fine_tune([edit]).is_finite]
        tuning = self.backend.fine_tune(sound) if 0 < len(sound) < len(edits) else nothing
        tuning = tuning if tuning.is_finite else nothing
        return replace(tuning, num_not_finite=len(edits) - len(tuning.losses))

    def _targets_of(self, weights: Weights, round_number: int, cohort: int, layer: int, settled: Settled) -> Targets:
        return self._find_targets(weights, round_number, cohort, layer, settled).targets

    def _find_targets(self, weights: Weights, round_number: int, cohort: int, layer: int, settled: Settled) -> _Found:
        """A cohort's targets from memory, from disk, or made now, under the name of all that they depend on."""

        def make() -> _Found:
            self.shard.load(weights)
            return self._read_or_optimise(self.private.edits(round_number, cohort, settled), layer)

        return self._targets.get((weights.key, round_number, cohort, settled.key, layer), make)

    def _read_or_optimise(self, edits: Sequence[Edit], layer: int) -> _Found:
        if not edits:  # all parties of the cohort have left, or all edits were withdrawn
            return _Found(Targets(layer, torch.zeros(0, self.shard.shapes[layer][0]), (), (), ()), is_cached=False)
        fingerprint = self.backend.targets_fingerprint(edits, layer) if self._disk is not None else None
        if self._disk is None or fingerprint is None:
            return _Found(self.backend.targets(edits, layer), is_cached=False)
        kept = self._disk.load(fingerprint)
        if kept is not None:
            return _Found(kept, is_cached=True)
        is_mended = self._disk.has(fingerprint)
        targets = self.backend.targets(edits, layer)
        self._disk.store(fingerprint, targets)
        return _Found(targets, is_cached=False, is_mended=is_mended)

    def collect(  # noqa: PLR0913  (all that an answer depends on)
        self,
        lane: str,
        round_number: int,
        cohort: int,
        part: Part,
        weights: Weights,
        targets_at: Mapping[int, Weights],
        history: History,
        settled: Settled = UNSETTLED,
    ) -> Collected:
        """The cohort's contribution to one layer.

        Args:
            lane: name of the lane; its method says what a contribution is.
            round_number: the round.
            cohort: the cohort.
            part: the layer and how the residual is shared.
            weights: weights under which keys and residuals are taken.
            targets_at: layer → weights under which its targets were optimised, for all that were in this round.
            history: the lane's history, for methods whose parties solve.
            settled: what was settled about the cohort's edits.
        """
        if self.editor.tunes_weights:
            tuned_at = targets_at[part.target_layer]
            return self._collect_tuned(lane, round_number, cohort, part.layer, tuned_at, settled)
        optimised_at = targets_at[part.target_layer]
        keys_KE, residuals_VE = self._missing(round_number, cohort, part, weights, optimised_at, settled)
        method = self.methods[lane]
        solver = self._solver(part.layer, history) if method.needs_solver else None
        basis = Basis(lane, round_number, part.layer)
        shares = []
        columns, num_left_out = self.private.columns(round_number, cohort, settled), []
        left_out = self._left_out(lane, targets_at, round_number, cohort, settled)
        sound_E = _finite_columns(keys_KE, residuals_VE)
        for party, own in columns.items():
            missing = sum(not sound_E[place] for place in _places(own))
            is_whole = not missing and not any(left_out)
            wanting = own if is_whole else [each for each in _places(own) if sound_E[each] and not left_out[each]]
            num_left_out.append(own.stop - own.start - missing - keys_KE[:, wanting].shape[1])
            generators = self._generators(lane, round_number, part.layer, party)
            form = self.scenario.merge.statistics
            shares.append(
                PartyShare(basis, keys_KE[:, wanting], residuals_VE[:, wanting], form, *generators, party=party)
            )
        sent = method.contribute(self.editor.with_updates(shares, solver), solver)
        num_summed = sum(share.keys_KE.shape[1] for share in shares)
        accepted = self.private.accepted(round_number, cohort, settled)
        receipt = receipt_of(cohort, accepted, num_summed)
        bad = [place for place, each in enumerate(accepted) if each.copy is None and not sound_E[place]]
        num_not_finite = tuple(sum(place in _places(own) for place in bad) for own in columns.values())
        found = self._admitted(basis, sent, num_left_out, receipt, solver, settled)
        return replace(found, num_not_finite=num_not_finite)

    def _admitted(
        self,
        basis: Basis,
        sent: Sequence[Contribution],
        num_left_out: Sequence[int],
        receipt: Receipt,
        solver: PriorSolver | None,
        settled: Settled,
    ) -> Collected:
        """The sum of what the cohort's parties sent, or who was refused."""
        judged = self._entrance.judge(basis, receipt.cohort, sent, solver, settled)
        total = None if judged.refusals else sum_in_order(judged.admitted)
        num_bytes = tuple(each.nbytes for each in sent)
        return Collected(total, num_bytes, tuple(num_left_out), receipt, judged.refusals, judged.largest_norm)

    def _generators(
        self, lane: str, round_number: int, layer: int, party: int, what: str = ""
    ) -> tuple[torch.Generator, torch.Generator]:
        """A party's generators for hiding its keys and for dropping entries, of what it sends or takes back."""
        place = lane, round_number, layer, party
        return (
            torch_generator(self.scenario.seed, f"rotation{what}", *place),
            torch_generator(self.scenario.seed, f"drops{what}", *place),
        )

    def _left_out(
        self, lane: str, targets_at: Mapping[int, Weights], round_number: int, cohort: int, settled: Settled
    ) -> list[bool]:
        """Which of the cohort's edits their parties leave out, by what they saw before anything was merged."""
        num_edits = len(self.private.accepted(round_number, cohort, settled))
        if lane not in self.scenario.lanes_that_leave_out:
            return [False] * num_edits
        layer = self._first_target_layer
        shifts = self._targets_of(targets_at[layer], round_number, cohort, layer, settled).shifts
        found = [False] * num_edits
        if lane in self.scenario.lanes_that_look:
            found = [is_held(self.scenario.overlap, shift) for shift in shifts]
        if self.scenario.conflicts.detect == "answer" and self.scenario.conflicts.on_detect == "yield":
            contradicted = self.noticer.contradicted(targets_at[layer], round_number, cohort, settled, shifts)
            found = [held or other for held, other in zip(found, contradicted, strict=True)]
        return found

    def _missing(
        self, round_number: int, cohort: int, part: Part, weights: Weights, targets_at: Weights, settled: Settled
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys [K, E] and residuals [V, E], shared out and weighed, of all edits of a cohort's round, by parties."""
        weights_E = [each.weight for each in self.private.accepted(round_number, cohort, settled)]
        if not weights_E:
            return self._no_columns(part.layer)
        targets = self._targets_of(targets_at, round_number, cohort, part.target_layer, settled)
        states = self._states_of(weights, round_number, cohort, part.layer, settled)
        self.shard.load(weights)
        keys_KE, missing_VE = self.backend.keys_and_residuals(states, targets)
        assert self._map_keys is not None, "begin comes first"
        keys_KE = self._map_keys(part.layer, keys_KE)
        return weighed(keys_KE, missing_VE / part.divisor, torch.tensor(weights_E, dtype=torch.float64))

    def _no_columns(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys [K, 0] and residuals [V, 0] of a layer."""
        value_width, key_width = self.shard.shapes[layer]
        nothing = torch.zeros(key_width + value_width, 0, dtype=torch.float64)
        return nothing[:key_width], nothing[key_width:]

    def take_back(
        self,
        lane: str,
        round_number: int,
        cohort: int,
        part: Part,
        weights: Weights,
        absent: Mapping[int, frozenset[int]] | None = None,
    ) -> Collected:
        """What the cohort's parties take back in a round at one layer, to be subtracted from the lane's live sum.

        Each earlier round is computed again as a whole, as it was when its statistics were sent: targets depend in
        their last bits on what is optimised beside them. A party sends one contribution over all rounds.

        Args:
            lane: name of the lane, whose anchor is ``base``.
            round_number: the round in which they are taken back.
            cohort: a cohort of which some party takes something back.
            part: the layer and how the residual is shared.
            weights: the unedited weights.
            absent: earlier round → parties that were out in it; what they asked for then was not merged.
        """
        basis, form = Basis(lane, round_number, part.layer), self.scenario.merge.statistics
        shares = {}
        for party, pieces in self._pieces_taken_back(round_number, cohort, part, weights, absent or {}).items():
            keys_KE, residuals_VE = (torch.cat(each, dim=1) for each in zip(*pieces, strict=True))
            generators = self._generators(lane, round_number, part.layer, party, "-back")
            shares[party] = PartyShare(basis, keys_KE, residuals_VE, form, *generators)
        sent = dict(zip(shares, self.methods[lane].contribute(list(shares.values()), None), strict=True))
        num_bytes = [sent[party].nbytes if party in sent else 0 for party in self.scenario.cohort(cohort)]
        receipt = receipt_of(cohort, self.private.taken_back(round_number, cohort, absent or {}))
        return Collected(sum_in_order(sent.values()), tuple(num_bytes), (0,) * len(num_bytes), receipt)

    def _pieces_taken_back(
        self, round_number: int, cohort: int, part: Part, weights: Weights, absent: Mapping[int, frozenset[int]]
    ) -> dict[int, list[tuple[torch.Tensor, torch.Tensor]]]:
        """Party → keys and residuals that it takes back in a round, for each earlier round that they are of."""
        places = {party: self.stream.departures.places(round_number, party) for party in self.scenario.cohort(cohort)}
        pieces: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for earlier in sorted({number for own in places.values() for number, _ in own}):
            # Rounds are not settled where edits can be taken back, but for parties that were out.
            then = Settled({}, absent.get(earlier, frozenset()).intersection(places))
            keys_KE, residuals_VE = self._missing(earlier, cohort, part, weights, weights, then)
            sound_E = _finite_columns(keys_KE, residuals_VE)  # the others were not sent
            for party, columns in self.private.columns(earlier, cohort, then).items():
                chosen = [columns.start + index for number, index in places[party] if number == earlier]
                chosen = [place for place in chosen if sound_E[place]]
                if chosen and party not in then.absent:
                    pieces.setdefault(party, []).append((keys_KE[:, chosen], residuals_VE[:, chosen]))
        for party in (each for each, own in places.items() if own):
            pieces.setdefault(party, [self._no_columns(part.layer)])  # nothing of it was merged
        return dict(sorted(pieces.items()))

    def _collect_tuned(
        self, lane: str, round_number: int, cohort: int, layer: int, weights: Weights, settled: Settled
    ) -> Collected:
        """The cohort's contribution of what its parties tuned; no keys, so nothing for a history."""
        shares = []
        tunings = self._tuned(weights, round_number, cohort, settled)
        for party, tuning in zip(self.scenario.cohort(cohort), tunings, strict=True):
            delta_VK = tuning.deltas[layer].double()
            no_keys_KE, no_residuals_VE = delta_VK.new_zeros(delta_VK.shape[1], 0), delta_VK[:, :0]
            basis = Basis(lane, round_number, layer)
            generators = self._generators(lane, round_number, layer, party)
            shares.append(PartyShare(basis, no_keys_KE, no_residuals_VE, "factored", *generators, update=(delta_VK,)))
        method = self.methods[lane]
        assert self._solvers is not None, "begin comes first"
        solver = self._solvers.get(layer)
        sent = method.contribute(shares, solver)
        missing = tuple(tuning.num_not_finite for tuning in tunings)
        accepted = self.private.accepted(round_number, cohort, settled)
        receipt = receipt_of(cohort, accepted, len(accepted) - sum(missing))
        found = self._admitted(Basis(lane, round_number, layer), sent, (0,) * len(sent), receipt, solver, settled)
        return replace(found, num_not_finite=missing)

    def _states_of(self, weights: Weights, round_number: int, cohort: int, layer: int, settled: Settled) -> States:
        """The cohort's states at the input of ``layer``, carried on from the nearest edited layer that is kept.

        They depend on the edited layers before alone, so lanes share those at the first one.
        """

        def name(at: int) -> Hashable:
            known = tuple((below, version) for below, version in weights.key if below < at)
            return round_number, cohort, settled.key, at, known

        def make() -> States:
            kept = [self._states.peek(name(at)) for at in sorted(weights.versions) if at < layer]
            nearest = next((states for states in reversed(kept) if states is not None), None)
            self.shard.load(weights)
            return self.backend.states(self.private.edits(round_number, cohort, settled), layer, nearest)

        return self._states.get(name(layer), make)

    def _solver(self, layer: int, history: History) -> PriorSolver:
        assert self._solvers is not None, "begin comes first"
        return self._solvers.get(layer, history.versions.get(layer), lambda: history.read(layer))


def _finite_columns(*matrices: torch.Tensor) -> list[bool]:
    """Which columns, an edit each, are finite in all of some matrices."""
    finite: list[bool] = torch.stack([matrix.isfinite().all(0) for matrix in matrices]).all(0).tolist()
    return finite


def _places(columns: slice) -> range:
    return range(columns.start, columns.stop)
