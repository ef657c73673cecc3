"""What a worker does, without Ray: it holds a model and computes the party batches it is given.

A party batch's answer depends on the scenario and on the weights named in the call, never on what was computed
before or where. Targets and edits stay in here; what leaves is a sum over the party batch's parties.

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from consortium.common.cache import Kept
from consortium.common.counting import count
from consortium.common.seeds import torch_generator
from consortium.data.edit import Edit, FactSet
from consortium.data.party_batch import PartyBatch
from consortium.editing.backend import Backend, States, Targets, Tuning
from consortium.editing.editors import registry as editors
from consortium.editing.editors.editor import KeyMap
from consortium.editing.known_facts import Asked, Detection, Residuals, is_already_known, residual_sums
from consortium.editing.layer_schedule import Part, plan_round
from consortium.editing.target_cache import TargetCache
from consortium.evaluation.telling import Evaluated
from consortium.features.conflicts.keyed_digests import KeyedDigests
from consortium.features.screening.checks import Rejection
from consortium.features.screening.pipeline import UpdatePipeline
from consortium.merging import registry
from consortium.merging.method import Contribution, PartyShare, sum_in_order
from consortium.merging.reference_norms import ReferenceNorms, all_reference_norms
from consortium.merging.sample_weights import weighed
from consortium.merging.solver import CovarianceSolver
from consortium.merging.solvers import Solvers
from consortium.merging.statistics import Basis
from consortium.party.audit_digest import InclusionRecord, inclusion_record_of
from consortium.party.data import PartyDataset
from consortium.party.edited_layers import EditedLayers, History, Weights
from consortium.party.evaluator import Evaluator
from consortium.party.known_facts import ConflictDetector
from consortium.scenario.editor import FineTuningSpec
from consortium.scenario.schema import Scenario

#: Targets kept at most, in bytes; those that had to go are computed again when they are asked for.
_TARGET_BYTES = 256 * 2**20
#: The same where they are quick to make: so few that a worker weighs the same for a hundred parties and for 10,000.
_QUICK_TARGET_BYTES = 16 * 2**20
#: Tuned weights kept at most, in bytes, in place of targets.
_TUNING_BYTES = 512 * 2**20
#: Hidden states kept at most, in bytes, on the device; where they had to go, a layer's keys begin at the bottom again.
_STATE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class TargetReport:
    """What a worker says of a party batch's targets: counts and sums.

    Attributes:
        num_edits: edits of the party batch.
        num_steps: gradient steps spent on all of them, now or when the targets were put on disk.
        loss: sum of the last losses, as far as they are finite.
        num_finished: edits whose loss came under ``editor.target.stop_loss``.
        num_cached: edits whose targets were read from the worker's disk.
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
    def note(self) -> str | None:
        """Where the targets came from, in words; None where all were optimised."""
        if self.num_mended:
            return f"{count(self.num_mended, 'target')} made again: their entry in the disk cache was damaged"
        return (
            f"{self.num_cached} of {count(self.num_edits, 'target')} from the disk cache" if self.num_cached else None
        )


@dataclass(frozen=True)
class Collected:
    """A party batch's part of one layer's merge.

    Attributes:
        contribution: the sum over the party batch's parties; None where one was refused, since the round begins again
            then.
        party_bytes: what each party's own message weighs.
        num_skipped: edits that each party left out, because the model holds them already.
        inclusion_record: which of the party batch's edits it is about, for the audit.
        rejections: parties whose messages were refused by screening.
        max_norm_ratio: the largest size of a message that was admitted, in multiples of what is usual.
        num_not_finite: edits that each party left out besides, since their numbers are not finite; empty for none.
    """

    contribution: Contribution | None
    party_bytes: tuple[int, ...]
    num_skipped: tuple[int, ...]
    inclusion_record: InclusionRecord
    rejections: tuple[Rejection, ...] = ()
    max_norm_ratio: float = 0.0
    num_not_finite: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Found:
    """A party batch's targets, and whether they were read from disk."""

    targets: Targets
    is_cached: bool
    is_mended: bool = False


#: What each party of a party batch makes of the weights by fine-tuning.
Tunings = tuple[Tuning, ...]


class Worker:
    """A model and the parties' private edits; every method is idempotent.

    Args:
        scenario: the scenario as resolved.
        facts: all facts; a party's own follow from the stream.
        backend: the model, unedited.
    """

    def __init__(self, scenario: Scenario, facts: FactSet, backend: Backend) -> None:
        self.scenario = scenario
        self.backend = backend
        self.edited_layers = EditedLayers(backend)
        self.party_data = PartyDataset(scenario, facts)
        self.stream = self.party_data.stream
        self.evaluator = Evaluator(self.party_data, self.edited_layers)
        self.conflict_detector = ConflictDetector(self.party_data, self.edited_layers)
        self.editor = editors.create(scenario.editor)
        methods = {spec.arm: registry.create(spec) for spec in scenario.merge.methods}
        self.methods = {arm: self.editor.merge_method(method) for arm, method in methods.items()}
        target_bytes = _TARGET_BYTES if backend.targets_are_costly else _QUICK_TARGET_BYTES
        self._targets: Kept[_Found] = Kept(target_bytes, lambda found: found.targets.vectors_EV.nbytes)
        self._tunings: Kept[Tunings] = Kept(_TUNING_BYTES, lambda tunings: sum(each.nbytes for each in tunings))
        self._states: Kept[States] = Kept(_STATE_BYTES, lambda states: states.nbytes)
        self._disk = TargetCache() if scenario.cluster.target_cache else None
        self._solvers: Solvers | None = None
        self._pipeline = UpdatePipeline(scenario, self.stream, self.methods)
        self._map_keys: KeyMap | None = None
        self._first_target_layer = plan_round(scenario.editor, scenario.merge.exchange)[0].targets[0]

    # Before the first round

    def covariance_sum(self, chunk: int) -> tuple[dict[int, NDArray[np.float64]], int]:
        """Σ k·kᵀ of each edited layer over one chunk of the key covariance's text, unedited."""
        self.edited_layers.is_base()
        return self.backend.covariance_sum(chunk)

    def contexts(self) -> tuple[str, ...]:
        """Contexts written by the unedited model."""
        self.edited_layers.is_base()
        return self.backend.contexts()

    def begin(
        self,
        contexts: Sequence[str],
        covariance: Mapping[int, NDArray[np.float64]],
        num_tokens: int,
        measures: Mapping[int, ReferenceNorms] | None = None,
    ) -> None:
        """Take the run's contexts, the key covariance's sums over ``num_tokens`` tokens, and what messages are measured
        by.

        Where ``measures`` are left out they are taken from ``covariance``, which must be there then.
        """
        base = self.backend.base_weights() if measures is None else {}
        self._pipeline.all_reference_norms = (
            all_reference_norms(base, covariance, num_tokens) if measures is None else measures
        )
        self.backend.set_contexts(contexts)
        self._solvers = self.editor.solvers(covariance, num_tokens)
        self._map_keys = self.editor.key_map(covariance, num_tokens)

    # In a round

    def keyed_digests(self, batch: PartyBatch) -> KeyedDigests:
        """What the batch's parties announce of their edits: digests."""
        return self.party_data.keyed_digests(batch.round, batch.number)

    def evaluate(
        self, batch: PartyBatch, weights: Weights, retention: bool, before: Weights | None = None
    ) -> Evaluated:
        """Counts and sums of the batch's own probes: see :meth:`consortium.party.evaluator.Evaluator.evaluate`."""
        return self.evaluator.evaluate(batch, weights, retention, before)

    def targets(self, batch: PartyBatch, weights: Weights, layer: int) -> TargetReport:
        """Optimise the batch's targets at ``layer`` under ``weights``, or read them from disk, and keep them.

        An editor that tunes weights does so here; its parties' tuned weights are kept in place of targets.
        """
        if self.editor.spec.tunes_weights:
            return self._report(self._tuned(batch, weights))
        found = self._find_targets(batch, weights, layer)
        targets = found.targets
        stop_loss = self.scenario.editor.target.stop_loss
        detections: Sequence[Detection] = ()
        if layer == self._first_target_layer and self.scenario.conflicts.detect == "model_answer":
            detections = self.conflict_detector.detections(
                batch, self.conflict_detector.contradicted(batch, weights, targets.shifts)
            )
        return TargetReport(
            num_edits=len(targets.losses),
            num_steps=sum(targets.num_steps),
            loss=sum(filter(math.isfinite, targets.losses)),
            num_finished=sum(loss < stop_loss for loss in targets.losses),
            num_cached=len(targets.losses) if found.is_cached else 0,
            num_mended=len(targets.losses) if found.is_mended else 0,
            residuals=residual_sums(self.party_data.asked(batch), targets.shifts, self.scenario.overlap, detections),
        )

    def _report(self, tunings: Tunings) -> TargetReport:
        losses = [loss for tuning in tunings for loss in tuning.losses]
        settings = self.editor.spec
        assert isinstance(settings, FineTuningSpec), "an editor of another kind makes targets"
        return TargetReport(
            num_edits=len(losses),
            num_steps=sum(tuning.num_steps * len(tuning.losses) for tuning in tunings),
            loss=sum(filter(math.isfinite, losses)),
            num_finished=sum(loss < settings.stop_loss for loss in losses),
        )

    def _tuned(self, batch: PartyBatch, weights: Weights) -> Tunings:
        """What each party of a batch makes of ``weights`` by fine-tuning them on its own edits; nothing if absent."""

        def make() -> Tunings:
            self.edited_layers.load(weights)
            edits = self.party_data.edits(batch)
            return tuple(self._fine_tuned(edits[own]) for own in self.party_data.columns(batch).values())

        return self._tunings.get((weights.key, batch.key), make)

    def _fine_tuned(self, edits: Sequence[Edit]) -> Tuning:
        """What a party makes of its edits; those that are not finite by themselves are left out, or else all."""
        nothing = Tuning({layer: torch.zeros(shape) for layer, shape in self.edited_layers.shapes.items()}, 0, ())
        if not edits:
            return nothing
        tuning = self.backend.fine_tune(edits)
        if tuning.is_finite:
            return tuning
        sound = [edit for edit in edits if self.backend.fine_tune([edit]).is_finite]
        tuning = self.backend.fine_tune(sound) if 0 < len(sound) < len(edits) else nothing
        tuning = tuning if tuning.is_finite else nothing
        return replace(tuning, num_not_finite=len(edits) - len(tuning.losses))

    def _targets_of(self, batch: PartyBatch, weights: Weights, layer: int) -> Targets:
        return self._find_targets(batch, weights, layer).targets

    def _find_targets(self, batch: PartyBatch, weights: Weights, layer: int) -> _Found:
        """A batch's targets from memory, from disk, or made now, under the name of all that they depend on."""

        def make() -> _Found:
            self.edited_layers.load(weights)
            return self._read_or_optimise(self.party_data.edits(batch), layer)

        return self._targets.get((weights.key, batch.key, layer), make)

    def _read_or_optimise(self, edits: Sequence[Edit], layer: int) -> _Found:
        if not edits:  # all parties of the party batch have left, or all edits were rejected
            return _Found(
                Targets(layer, torch.zeros(0, self.edited_layers.shapes[layer][0]), (), (), ()), is_cached=False
            )
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

    def collect(
        self,
        batch: PartyBatch,
        arm: str,
        part: Part,
        weights: Weights,
        targets_at: Mapping[int, Weights],
        history: History,
    ) -> Collected:
        """The batch's contribution to one layer.

        Args:
            batch: the batch.
            arm: name of the arm; its method says what a contribution is.
            part: the layer and how the residual is shared.
            weights: weights under which keys and residuals are taken.
            targets_at: layer → weights under which its targets were optimised, for all that were in this round.
            history: the arm's history, for methods whose parties solve.
        """
        if self.editor.spec.tunes_weights:
            return self._collect_tuned(batch, arm, part.layer, targets_at[part.target_layer])
        keys_KE, residuals_VE = self._missing(batch, part, weights, targets_at[part.target_layer])
        method = self.methods[arm]
        solver = self._solver(part.layer, history) if method.spec.needs_solver else None
        basis = Basis(arm, batch.round, part.layer)
        shares = []
        columns, num_skipped = self.party_data.columns(batch), []
        left_out = self._left_out(batch, arm, targets_at)
        sound_E = _finite_columns(keys_KE, residuals_VE)
        for party, own in columns.items():
            missing = sum(not sound_E[place] for place in _places(own))
            is_whole = not missing and not any(left_out)
            wanting = own if is_whole else [each for each in _places(own) if sound_E[each] and not left_out[each]]
            num_skipped.append(own.stop - own.start - missing - keys_KE[:, wanting].shape[1])
            generators = self._generators(basis, party)
            form = self.scenario.merge.statistics
            shares.append(
                PartyShare(basis, keys_KE[:, wanting], residuals_VE[:, wanting], form, *generators, party=party)
            )
        sent = method.contribute(self.editor.with_updates(shares, solver), solver)
        num_summed = sum(share.keys_KE.shape[1] for share in shares)
        accepted = self.party_data.accepted(batch)
        inclusion_record = inclusion_record_of(batch.number, accepted, num_summed)
        bad = [place for place, each in enumerate(accepted) if each.copy is None and not sound_E[place]]
        num_not_finite = tuple(sum(place in _places(own) for place in bad) for own in columns.values())
        found = self._admitted(batch, basis, sent, num_skipped, inclusion_record, solver)
        return replace(found, num_not_finite=num_not_finite)

    def _admitted(
        self,
        batch: PartyBatch,
        basis: Basis,
        sent: Sequence[Contribution],
        num_skipped: Sequence[int],
        inclusion_record: InclusionRecord,
        solver: CovarianceSolver | None,
    ) -> Collected:
        """The sum of what the batch's parties sent, or who was refused."""
        screened = self._pipeline.screen(batch, basis, sent, solver)
        total = None if screened.rejections else sum_in_order(screened.admitted)
        num_bytes = tuple(each.nbytes for each in sent)
        return Collected(
            total, num_bytes, tuple(num_skipped), inclusion_record, screened.rejections, screened.max_norm_ratio
        )

    def _generators(self, basis: Basis, party: int, what: str = "") -> tuple[torch.Generator, torch.Generator]:
        """A party's generators for hiding its keys and for dropping entries, of what it sends or removes."""
        place = basis.arm, basis.round, basis.layer, party
        return (
            torch_generator(self.scenario.seed, f"rotation{what}", *place),
            torch_generator(self.scenario.seed, f"drops{what}", *place),
        )

    def _left_out(self, batch: PartyBatch, arm: str, targets_at: Mapping[int, Weights]) -> list[bool]:
        """Which of the batch's edits their parties leave out, by what they saw before anything was merged."""
        num_edits = len(self.party_data.accepted(batch))
        if arm not in self.scenario.arms_that_skip:
            return [False] * num_edits
        layer = self._first_target_layer
        shifts = self._targets_of(batch, targets_at[layer], layer).shifts
        found = [False] * num_edits
        if arm in self.scenario.arms_that_check:
            found = [is_already_known(self.scenario.overlap, shift) for shift in shifts]
        if self.scenario.conflicts.detect == "model_answer" and self.scenario.conflicts.on_detect == "skip":
            contradicted = self.conflict_detector.contradicted(batch, targets_at[layer], shifts)
            found = [held or other for held, other in zip(found, contradicted, strict=True)]
        return found

    def _missing(
        self, batch: PartyBatch, part: Part, weights: Weights, targets_at: Weights
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys [K, E] and residuals [V, E], shared out and weighed, of all edits of a batch, by parties."""
        weights_E = [each.weight for each in self.party_data.accepted(batch)]
        if not weights_E:
            return self._no_columns(part.layer)
        targets = self._targets_of(batch, targets_at, part.target_layer)
        states = self._states_of(batch, weights, part.layer)
        self.edited_layers.load(weights)
        keys_KE, missing_VE = self.backend.keys_and_residuals(states, targets)
        assert self._map_keys is not None, "begin comes first"
        keys_KE = self._map_keys(part.layer, keys_KE)
        return weighed(keys_KE, missing_VE / part.divisor, torch.tensor(weights_E, dtype=torch.float64))

    def _no_columns(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys [K, 0] and residuals [V, 0] of a layer."""
        value_width, key_width = self.edited_layers.shapes[layer]
        nothing = torch.zeros(key_width + value_width, 0, dtype=torch.float64)
        return nothing[:key_width], nothing[key_width:]

    def unlearn(
        self,
        batch: PartyBatch,
        arm: str,
        part: Part,
        weights: Weights,
        absent: Mapping[int, frozenset[int]] | None = None,
    ) -> Collected:
        """What the batch's parties remove in a round at one layer, to be subtracted from the arm's retained sum.

        Each earlier round is computed again as a whole, as it was when its statistics were sent: targets depend in
        their last bits on what is optimised beside them. A party sends one contribution over all rounds.

        Args:
            batch: a batch of which some party takes something back, in the round in which it does.
            arm: name of the arm, whose reference is ``initial``.
            part: the layer and how the residual is shared.
            weights: the unedited weights.
            absent: earlier round → parties that were out in it; what they asked for then was not merged.
        """
        basis, form = Basis(arm, batch.round, part.layer), self.scenario.merge.statistics
        shares = {}
        for party, pieces in self._pieces_removed(batch, part, weights, absent or {}).items():
            keys_KE, residuals_VE = (torch.cat(each, dim=1) for each in zip(*pieces, strict=True))
            generators = self._generators(basis, party, "-back")
            shares[party] = PartyShare(basis, keys_KE, residuals_VE, form, *generators)
        sent = dict(zip(shares, self.methods[arm].contribute(list(shares.values()), None), strict=True))
        num_bytes = [sent[party].nbytes if party in sent else 0 for party in self.scenario.party_batch(batch.number)]
        removed = self.party_data.removed(batch.round, batch.number, absent or {})
        inclusion_record = inclusion_record_of(batch.number, removed)
        return Collected(sum_in_order(sent.values()), tuple(num_bytes), (0,) * len(num_bytes), inclusion_record)

    def _pieces_removed(
        self, batch: PartyBatch, part: Part, weights: Weights, absent: Mapping[int, frozenset[int]]
    ) -> dict[int, list[tuple[torch.Tensor, torch.Tensor]]]:
        """Party → keys and residuals that it removes in a round, for each earlier round that they are of."""
        parties = self.scenario.party_batch(batch.number)
        places = {party: self.stream.removals.places(batch.round, party) for party in parties}
        pieces: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for earlier in sorted({number for own in places.values() for number, _ in own}):
            # Nothing was decided in rounds whose edits can be removed, but who was out.
            then = PartyBatch(earlier, batch.number, absent.get(earlier, frozenset()).intersection(places))
            keys_KE, residuals_VE = self._missing(then, part, weights, weights)
            sound_E = _finite_columns(keys_KE, residuals_VE)  # the others were not sent
            for party, columns in self.party_data.columns(then).items():
                chosen = [columns.start + index for number, index in places[party] if number == earlier]
                chosen = [place for place in chosen if sound_E[place]]
                if chosen and party not in then.excluded:
                    pieces.setdefault(party, []).append((keys_KE[:, chosen], residuals_VE[:, chosen]))
        for party in (each for each, own in places.items() if own):
            pieces.setdefault(party, [self._no_columns(part.layer)])  # nothing of it was merged
        return dict(sorted(pieces.items()))

    def _collect_tuned(self, batch: PartyBatch, arm: str, layer: int, weights: Weights) -> Collected:
        """The batch's contribution of what its parties tuned; no keys, so nothing for a history."""
        shares, basis = [], Basis(arm, batch.round, layer)
        tunings = self._tuned(batch, weights)
        for party, tuning in zip(self.scenario.party_batch(batch.number), tunings, strict=True):
            delta_VK = tuning.deltas[layer].double()
            no_keys_KE, no_residuals_VE = delta_VK.new_zeros(delta_VK.shape[1], 0), delta_VK[:, :0]
            generators = self._generators(basis, party)
            shares.append(PartyShare(basis, no_keys_KE, no_residuals_VE, "factored", *generators, update=(delta_VK,)))
        method = self.methods[arm]
        assert self._solvers is not None, "begin comes first"
        solver = self._solvers.get(layer)
        sent = method.contribute(shares, solver)
        missing = tuple(tuning.num_not_finite for tuning in tunings)
        accepted = self.party_data.accepted(batch)
        inclusion_record = inclusion_record_of(batch.number, accepted, len(accepted) - sum(missing))
        found = self._admitted(batch, basis, sent, (0,) * len(sent), inclusion_record, solver)
        return replace(found, num_not_finite=missing)

    def _states_of(self, batch: PartyBatch, weights: Weights, layer: int) -> States:
        """The batch's states at the input of ``layer``, carried on from the nearest edited layer that is kept.

        They depend on the edited layers before alone, so arms share those at the first one.
        """

        def name(at: int) -> Hashable:
            known = tuple((below, version) for below, version in weights.key if below < at)
            return batch.key, at, known

        def make() -> States:
            kept = [self._states.peek(name(at)) for at in sorted(weights.versions) if at < layer]
            nearest = next((states for states in reversed(kept) if states is not None), None)
            self.edited_layers.load(weights)
            return self.backend.states(self.party_data.edits(batch), layer, nearest)

        return self._states.get(name(layer), make)

    def _solver(self, layer: int, history: History) -> CovarianceSolver:
        assert self._solvers is not None, "begin comes first"
        return self._solvers.get(layer, history.versions.get(layer), lambda: history.read(layer))


def _finite_columns(*matrices: torch.Tensor) -> list[bool]:
    """Which columns, an edit each, are finite in all of some matrices."""
    finite: list[bool] = torch.stack([matrix.isfinite().all(0) for matrix in matrices]).all(0).tolist()
    return finite


def _places(columns: slice) -> range:
    return range(columns.start, columns.stop)
