"""What a host does, without Ray: it holds a model and computes the cohorts it is given.

A cohort's answer depends on the scenario and on the weights named in the call, never on what was computed
before or where. Targets and edits stay in here; what leaves is a sum over the cohort's parties.

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from consortium.agreement.accepted import Accepted, accepted
from consortium.agreement.settlement import UNSETTLED, Place, Settled, Verdict, settle
from consortium.agreement.slips import Slips, shared_key, slips_of
from consortium.agreement.weighing import weighed
from consortium.editing.backend import Answer, Backend, States, Targets, Tuning
from consortium.editing.editors import registry as editors
from consortium.editing.editors.editor import KeyMap
from consortium.editing.overlap import Asked, Residuals, is_held, residual_sums
from consortium.editing.target_cache import TargetCache
from consortium.evaluation import knowedit
from consortium.evaluation.conflicts import MAGNITUDE, Case, case_of, losing_nlls, magnitude
from consortium.evaluation.harm import open_harm
from consortium.evaluation.metrics import ProbeSums, Question, ask
from consortium.facts.edit import Edit, FactSet
from consortium.merging import registry
from consortium.merging.history import GramHistory
from consortium.merging.method import Contribution, PartyShare, sum_in_order
from consortium.merging.solver import PriorSolver
from consortium.merging.solvers import Solvers
from consortium.retractions import retracted_requests
from consortium.rounds import (
    Part,
    is_first_evaluation,
    plan_round,
    probed_rounds,
    sampled_requests,
    superseded,
)
from consortium.scenario.schema import Decoding, Scenario
from consortium.seeds import torch_generator
from consortium.statistics import Basis
from consortium.streams.repeats import times_asked
from consortium.streams.request import Request
from consortium.streams.stream import Stream

#: Targets kept at most, in bytes; those that had to go are computed again when they are asked for.
_TARGET_BYTES = 256 * 2**20
#: Tuned weights kept at most, in bytes, in place of targets.
_TUNING_BYTES = 512 * 2**20
#: Hidden states kept at most, in bytes, on the device; where they had to go, a layer's keys begin at the bottom again.
_STATE_BYTES = 512 * 2**20
#: Tokens kept at most of the unedited model's own answers, by which those of later models are measured.
_ANSWER_TOKENS = 1 << 20

#: Metrics whose probes are not those of an edit of the round.
_QUESTIONS_OF_THEIR_OWN = {"retention", "conflict", MAGNITUDE, "retracted", *knowedit.METRICS}

BASE = "base"


@dataclass(frozen=True)
class Weights:
    """Edited weights by name, read only when they are not loaded already.

    Attributes:
        versions: layer → a name that no other contents ever have in this run.
        read: gives the weight [V, K] float32 of a layer.
    """

    versions: Mapping[int, str]
    read: Callable[[int], NDArray[np.float32]]

    @property
    def key(self) -> tuple[tuple[int, str], ...]:
        """The versions as something to look up by."""
        return tuple(sorted(self.versions.items()))


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
        loss: sum of the last losses.
        num_finished: edits whose loss came under ``editor.target.stop_loss``.
        num_cached: edits whose targets were read from the host's disk.
        residuals: sums of residuals' lengths, by how the edits were asked for.
    """

    num_edits: int
    num_steps: int
    loss: float
    num_finished: int
    num_cached: int = 0
    residuals: Mapping[Asked, Residuals] = field(default_factory=dict)

    @property
    def remark(self) -> str | None:
        """Where the targets came from, in words; None where all were optimised."""
        return f"{self.num_cached} of {self.num_edits} targets from the disk cache" if self.num_cached else None


@dataclass(frozen=True)
class Collected:
    """A cohort's part of one layer's merge.

    Attributes:
        contribution: the sum over the cohort's parties.
        party_bytes: what each party's own message weighs.
        num_left_out: edits that each party left out, because the model holds them already.
    """

    contribution: Contribution
    party_bytes: tuple[int, ...]
    num_left_out: tuple[int, ...]


@dataclass(frozen=True)
class _Found:
    """A cohort's targets, and whether they were read from disk."""

    targets: Targets
    is_cached: bool


#: What each party of a cohort makes of the weights by fine-tuning.
Tunings = tuple[Tuning, ...]

Value = TypeVar("Value")


class _Kept(Generic[Value]):
    """The values used last, as many as fit."""

    def __init__(self, limit: int, weigh: Callable[[Value], int]) -> None:
        self.limit = limit
        self.weigh = weigh
        self.values: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        if key not in self.values:
            self.values[key] = make()
            while sum(map(self.weigh, self.values.values())) > self.limit and len(self.values) > 1:
                self.values.popitem(last=False)
        self.values.move_to_end(key)
        return self.values[key]

    def peek(self, key: Hashable) -> Value | None:
        """The value if it is kept; this is no use of it."""
        return self.values.get(key)


class CohortWorker:
    """A model and the parties' private edits; every method is idempotent.

    Args:
        scenario: the scenario as resolved.
        facts: all facts; a party's own follow from the stream.
        backend: the model, unedited.
    """

    def __init__(self, scenario: Scenario, facts: FactSet, backend: Backend) -> None:
        self.scenario = scenario
        self.facts = facts
        self.backend = backend
        self.stream = Stream(scenario.seed, scenario.parties, scenario.stream, facts.relations())
        self.editor = editors.create(scenario.editor)
        methods = {spec.lane: registry.create(spec.name, spec.parameters) for spec in scenario.merge.methods}
        self.methods = {lane: self.editor.merge_method(method) for lane, method in methods.items()}
        self._loaded: dict[int, str] = dict.fromkeys(scenario.editor.edited_layers, BASE)
        self._targets: _Kept[_Found] = _Kept(_TARGET_BYTES, lambda found: found.targets.vectors_EV.nbytes)
        self._tunings: _Kept[Tunings] = _Kept(_TUNING_BYTES, lambda tunings: sum(each.nbytes for each in tunings))
        self._states: _Kept[States] = _Kept(_STATE_BYTES, lambda states: states.nbytes)
        self._answers: _Kept[knowedit.OwnAnswers] = _Kept(_ANSWER_TOKENS, knowedit.num_tokens)
        self._disk = TargetCache() if scenario.cluster.target_cache else None
        self._harm = open_harm(scenario.evaluate, scenario.seed)
        self._solvers: Solvers | None = None
        self._map_keys: KeyMap | None = None
        self._contradicted: tuple[int, dict[int, int]] = (0, {})
        self._withdrawn: dict[int, frozenset[Place]] = {}
        self._first_target_layer = plan_round(scenario.editor, scenario.merge.exchange)[0].targets[0]

    @cached_property
    def _shapes(self) -> dict[int, tuple[int, int]]:
        """Layer → (V, K)."""
        base = self.backend.base_weights()
        return {layer: (weight_VK.shape[0], weight_VK.shape[1]) for layer, weight_VK in base.items()}

    # Before the first round

    def prior_sum(self, chunk: int) -> tuple[dict[int, NDArray[np.float64]], int]:
        """Σ k·kᵀ of each edited layer over one chunk of the prior's text, unedited."""
        self._loaded = dict.fromkeys(self._loaded, BASE)
        return self.backend.prior_sum(chunk)

    def contexts(self) -> tuple[str, ...]:
        """Contexts written by the unedited model."""
        self._loaded = dict.fromkeys(self._loaded, BASE)
        return self.backend.contexts()

    def begin(self, contexts: Sequence[str], prior: Mapping[int, NDArray[np.float64]], num_tokens: int) -> None:
        """Take the run's shared contexts and the prior's sums over ``num_tokens`` tokens."""
        self.backend.set_contexts(contexts)
        self._solvers = self.editor.solvers(prior, num_tokens)
        self._map_keys = self.editor.key_map(prior, num_tokens)

    # In a round

    def slips(self, round_number: int, cohort: int) -> Slips:
        """What the cohort's parties announce of their edits: digests."""
        asked = [(request.party, self._edit(request)) for request in self._requests(round_number, cohort)]
        return slips_of(shared_key(self.scenario.seed), round_number, asked)

    def edits(self, round_number: int, cohort: int, settled: Settled = UNSETTLED) -> list[Edit]:
        """The cohort's edits of a round that go into the merge, party after party."""
        return [each.copy or self._edit(each.request) for each in self._accepted(round_number, cohort, settled)]

    def _accepted(self, round_number: int, cohort: int, settled: Settled) -> list[Accepted]:
        return accepted(self.scenario, settled, self._requests(round_number, cohort), self._edit)

    def _requests(self, round_number: int, cohort: int) -> list[Request]:
        parties = self.scenario.cohort(cohort)
        return [request for party in parties for request in self.stream.requests(round_number, party)]

    def _edit(self, request: Request) -> Edit:
        return self.facts.edit(request.fact, request.variant)

    def _load(self, weights: Weights) -> None:
        for layer, version in weights.versions.items():
            if self._loaded[layer] != version:
                self.backend.load_weights({layer: weights.read(layer)})
                self._loaded[layer] = version

    def targets(
        self, weights: Weights, round_number: int, cohort: int, layer: int, settled: Settled = UNSETTLED
    ) -> TargetReport:
        """Optimise the cohort's targets at ``layer`` under ``weights``, or read them from disk, and keep them.

        ``settled`` says what was settled about the cohort's edits.
        An editor that tunes weights does so here; its parties' tuned weights are kept in place of targets.
        """
        if self.editor.tunes_weights:
            return self._report(self._tuned(weights, round_number, cohort))
        found = self._find_targets(weights, round_number, cohort, layer, settled)
        targets = found.targets
        stop_loss = self.scenario.editor.target.stop_loss
        return TargetReport(
            num_edits=len(targets.losses),
            num_steps=sum(targets.num_steps),
            loss=sum(targets.losses),
            num_finished=sum(loss < stop_loss for loss in targets.losses),
            num_cached=len(targets.losses) if found.is_cached else 0,
            residuals=residual_sums(self._asked(round_number, cohort, settled), targets.shifts, self.scenario.overlap),
        )

    def _asked(self, round_number: int, cohort: int, settled: Settled) -> list[Asked]:
        requests = [each.request for each in self._accepted(round_number, cohort, settled)]
        return [(request.kind, times_asked(self.stream, request)) for request in requests]

    def _report(self, tunings: Tunings) -> TargetReport:
        losses = [loss for tuning in tunings for loss in tuning.losses]
        stop_loss = self.scenario.editor.ft.stop_loss
        return TargetReport(
            num_edits=len(losses),
            num_steps=sum(tuning.num_steps * len(tuning.losses) for tuning in tunings),
            loss=sum(losses),
            num_finished=sum(loss < stop_loss for loss in losses),
        )

    def _tuned(self, weights: Weights, round_number: int, cohort: int) -> Tunings:
        """What each party of a cohort makes of ``weights`` by fine-tuning them on its own edits."""

        def make() -> Tunings:
            self._load(weights)
            groups = [self.stream.requests(round_number, party) for party in self.scenario.cohort(cohort)]
            return tuple(self.backend.fine_tune([self._edit(request) for request in group]) for group in groups)

        return self._tunings.get((weights.key, round_number, cohort), make)

    def _targets_of(self, weights: Weights, round_number: int, cohort: int, layer: int, settled: Settled) -> Targets:
        return self._find_targets(weights, round_number, cohort, layer, settled).targets

    def _find_targets(self, weights: Weights, round_number: int, cohort: int, layer: int, settled: Settled) -> _Found:
        """A cohort's targets from memory, from disk, or made now, under the name of all that they depend on."""

        def make() -> _Found:
            self._load(weights)
            return self._read_or_optimise(self.edits(round_number, cohort, settled), layer)

        return self._targets.get((weights.key, round_number, cohort, settled.key, layer), make)

    def _read_or_optimise(self, edits: Sequence[Edit], layer: int) -> _Found:
        if not edits:  # all parties of the cohort have left, or all edits were withdrawn
            return _Found(Targets(layer, torch.zeros(0, self._shapes[layer][0]), (), (), ()), is_cached=False)
        fingerprint = self.backend.targets_fingerprint(edits, layer) if self._disk is not None else None
        if self._disk is None or fingerprint is None:
            return _Found(self.backend.targets(edits, layer), is_cached=False)
        kept = self._disk.load(fingerprint)
        if kept is not None:
            return _Found(kept, is_cached=True)
        targets = self.backend.targets(edits, layer)
        self._disk.store(fingerprint, targets)
        return _Found(targets, is_cached=False)

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
            return self._collect_tuned(lane, round_number, cohort, part.layer, targets_at[part.target_layer])
        optimised_at = targets_at[part.target_layer]
        keys_KE, residuals_VE = self._missing(round_number, cohort, part, weights, optimised_at, settled)
        method = self.methods[lane]
        solver = self._solver(part.layer, history) if method.needs_solver else None
        basis = Basis(lane, round_number, part.layer)
        shares = []
        columns, num_left_out = self._columns(round_number, cohort, settled), []
        shifts = self._shifts(targets_at, round_number, cohort, settled)
        for party, own in columns.items():
            wanting = own if shifts is None else self._wanting(own, shifts)
            num_left_out.append(own.stop - own.start - keys_KE[:, wanting].shape[1])
            generators = self._generators(lane, round_number, part.layer, party)
            form = self.scenario.merge.statistics
            shares.append(PartyShare(basis, keys_KE[:, wanting], residuals_VE[:, wanting], form, *generators))
        sent = method.contribute(self.editor.with_updates(shares, solver), solver)
        return Collected(sum_in_order(sent), tuple(each.nbytes for each in sent), tuple(num_left_out))

    def _generators(
        self, lane: str, round_number: int, layer: int, party: int, what: str = ""
    ) -> tuple[torch.Generator, torch.Generator]:
        """A party's generators for hiding its keys and for dropping entries, of what it sends or takes back."""
        place = lane, round_number, layer, party
        return (
            torch_generator(self.scenario.seed, f"rotation{what}", *place),
            torch_generator(self.scenario.seed, f"drops{what}", *place),
        )

    def _shifts(
        self, targets_at: Mapping[int, Weights], round_number: int, cohort: int, settled: Settled
    ) -> tuple[float, ...] | None:
        """Relative residuals of the cohort's edits before anything of the round was merged; None if nobody looks."""
        if self.scenario.overlap.detect == "none":
            return None
        layer = self._first_target_layer
        return self._targets_of(targets_at[layer], round_number, cohort, layer, settled).shifts

    def _wanting(self, own: slice, shifts: Sequence[float]) -> list[int]:
        """A party's columns, but for those of edits that it leaves out."""
        return [place for place in range(own.start, own.stop) if not is_held(self.scenario.overlap, shifts[place])]

    def _columns(self, round_number: int, cohort: int, settled: Settled) -> dict[int, slice]:
        """Party → its columns in what is computed of a cohort's round; none for a party that has left."""
        parties = self.scenario.cohort(cohort)
        counts = Counter(each.request.party for each in self._accepted(round_number, cohort, settled))
        ends = accumulate((counts[party] for party in parties), initial=0)
        return dict(zip(parties, (slice(*ends_of) for ends_of in pairwise(ends)), strict=True))

    def _missing(
        self, round_number: int, cohort: int, part: Part, weights: Weights, targets_at: Weights, settled: Settled
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys [K, E] and residuals [V, E], shared out and weighed, of all edits of a cohort's round, by parties."""
        weights_E = [each.weight for each in self._accepted(round_number, cohort, settled)]
        if not weights_E:
            value_width, key_width = self._shapes[part.layer]
            nothing = torch.zeros(key_width + value_width, 0, dtype=torch.float64)
            return nothing[:key_width], nothing[key_width:]
        targets = self._targets_of(targets_at, round_number, cohort, part.target_layer, settled)
        states = self._states_of(weights, round_number, cohort, part.layer, settled)
        self._load(weights)
        keys_KE, missing_VE = self.backend.keys_and_residuals(states, targets)
        assert self._map_keys is not None, "begin comes first"
        keys_KE = self._map_keys(part.layer, keys_KE)
        return weighed(keys_KE, missing_VE / part.divisor, torch.tensor(weights_E, dtype=torch.float64))

    def take_back(self, lane: str, round_number: int, cohort: int, part: Part, weights: Weights) -> Collected:
        """What the cohort's parties take back in a round at one layer, to be subtracted from the lane's live sum.

        Each earlier round is computed again as a whole, as it was when its statistics were sent: targets depend in
        their last bits on what is optimised beside them. A party sends one contribution over all rounds.

        Args:
            lane: name of the lane, whose anchor is ``base``.
            round_number: the round in which they are taken back.
            cohort: a cohort of which some party takes something back.
            part: the layer and how the residual is shared.
            weights: the unedited weights.
        """
        basis, form = Basis(lane, round_number, part.layer), self.scenario.merge.statistics
        shares = {}
        for party, pieces in self._pieces_taken_back(round_number, cohort, part, weights).items():
            keys_KE, residuals_VE = (torch.cat(each, dim=1) for each in zip(*pieces, strict=True))
            generators = self._generators(lane, round_number, part.layer, party, "-back")
            shares[party] = PartyShare(basis, keys_KE, residuals_VE, form, *generators)
        sent = dict(zip(shares, self.methods[lane].contribute(list(shares.values()), None), strict=True))
        num_bytes = [sent[party].nbytes if party in sent else 0 for party in self.scenario.cohort(cohort)]
        return Collected(sum_in_order(sent.values()), tuple(num_bytes), (0,) * len(num_bytes))

    def _pieces_taken_back(
        self, round_number: int, cohort: int, part: Part, weights: Weights
    ) -> dict[int, list[tuple[torch.Tensor, torch.Tensor]]]:
        """Party → keys and residuals that it takes back in a round, for each earlier round that they are of."""
        places = {party: self.stream.departures.places(round_number, party) for party in self.scenario.cohort(cohort)}
        pieces: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for earlier in sorted({number for own in places.values() for number, _ in own}):
            # Rounds are not settled where edits can be taken back.
            keys_KE, residuals_VE = self._missing(earlier, cohort, part, weights, weights, UNSETTLED)
            for party, columns in self._columns(earlier, cohort, UNSETTLED).items():
                chosen = [columns.start + index for number, index in places[party] if number == earlier]
                if chosen:
                    pieces.setdefault(party, []).append((keys_KE[:, chosen], residuals_VE[:, chosen]))
        return dict(sorted(pieces.items()))

    def _collect_tuned(self, lane: str, round_number: int, cohort: int, layer: int, weights: Weights) -> Collected:
        """The cohort's contribution of what its parties tuned; no keys, so nothing for a history."""
        shares = []
        for party, tuning in zip(self.scenario.cohort(cohort), self._tuned(weights, round_number, cohort), strict=True):
            delta_VK = tuning.deltas[layer].double()
            no_keys_KE, no_residuals_VE = delta_VK.new_zeros(delta_VK.shape[1], 0), delta_VK[:, :0]
            basis = Basis(lane, round_number, layer)
            generators = self._generators(lane, round_number, layer, party)
            shares.append(PartyShare(basis, no_keys_KE, no_residuals_VE, "factored", *generators, update=(delta_VK,)))
        method = self.methods[lane]
        assert self._solvers is not None, "begin comes first"
        sent = method.contribute(shares, self._solvers.get(layer))
        return Collected(sum_in_order(sent), tuple(each.nbytes for each in sent), (0,) * len(sent))

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
            self._load(weights)
            return self.backend.states(self.edits(round_number, cohort, settled), layer, nearest)

        return self._states.get(name(layer), make)

    def _solver(self, layer: int, history: History) -> PriorSolver:
        assert self._solvers is not None, "begin comes first"
        return self._solvers.get(layer, history.versions.get(layer), lambda: history.read(layer))

    def evaluate(
        self,
        weights: Weights,
        round_number: int,
        cohort: int,
        retention: bool,
        settled: Settled = UNSETTLED,
        before: Weights | None = None,
    ) -> ProbeSums:
        """Counts and sums of the cohort's own probes: this round's edits, and with ``retention`` earlier ones.

        With them come those of its part of the text and the general probe. Without ``retention`` the weights are the
        unedited ones, of which these are measured once.

        Args:
            weights: weights to evaluate.
            round_number: the round.
            cohort: the cohort.
            retention: whether earlier rounds' edits are probed.
            settled: what was settled about the cohort's edits; those withdrawn are not probed.
            before: the round's first weights, against which the fall of losing answers is measured; None not to.
        """
        requests = self._sampled(round_number, cohort, settled)
        edits = [self._edit(request) for request, verdict in requests if verdict.fate != "withdrawn"]
        cases = self._cases(requests) if MAGNITUDE in self.scenario.evaluate.metrics and before is not None else []
        was = self._losing_before(cases, before)
        own = self._own_answers(round_number, cohort, settled, edits)
        self._load(weights)
        sums = ask(self.backend, self._questions(round_number, cohort, retention, settled))
        sums |= self._knowedit(round_number, cohort, edits, own)
        if cases:
            sums |= magnitude(round_number, was, losing_nlls(self.backend, cases))
        if retention or is_first_evaluation(self.scenario, round_number):
            sums |= self._harm.measure(self.backend, cohort, self.scenario.num_cohorts)
        return sums

    def _sampled(self, round_number: int, cohort: int, settled: Settled) -> list[tuple[Request, Verdict]]:
        """The round's requests that are probed, and what was settled about each."""
        requests = sampled_requests(self.scenario, self.stream, round_number, self.scenario.cohort(cohort))
        return [(each, settled.of(each.party, each.index)) for each in requests]

    def _cases(self, requests: Sequence[tuple[Request, Verdict]]) -> list[Case]:
        found = [case_of(self.facts, request, verdict) for request, verdict in requests]
        return [case for case in found if case is not None]

    def _losing_before(self, cases: Sequence[Case], before: Weights | None) -> list[float]:
        """Negative log likelihoods of the losing answers under the round's first weights."""
        if not cases or before is None:
            return []
        self._load(before)
        return losing_nlls(self.backend, cases)

    def _knowedit(self, round_number: int, cohort: int, edits: Sequence[Edit], own: knowedit.OwnAnswers) -> ProbeSums:
        spec = self.scenario.evaluate
        if not set(knowedit.METRICS) & set(spec.metrics):
            return {}
        generator = torch_generator(self.scenario.seed, "fluency", round_number, cohort)
        return knowedit.measure(self.backend, edits, round_number, spec, own, generator)

    def _own_answers(
        self, round_number: int, cohort: int, settled: Settled, edits: Sequence[Edit]
    ) -> knowedit.OwnAnswers:
        """What the unedited model says to the questions of ``locality``: the model is put back to be asked."""

        def answer(decoding: Decoding) -> tuple[Answer, ...]:
            self._load_base()
            return tuple(self.backend.answer(knowedit.locality_probes(edits), decoding))

        if "locality" not in self.scenario.evaluate.metrics:
            return {}
        decodings = self.scenario.evaluate.decoding
        name = round_number, cohort, settled.key
        return self._answers.get(name, lambda: {each: answer(each) for each in decodings})

    def _load_base(self) -> None:
        if any(version != BASE for version in self._loaded.values()):
            self.backend.load_weights(self.backend.base_weights())
            self._loaded = dict.fromkeys(self._loaded, BASE)

    def _questions(
        self, round_number: int, cohort: int, retention: bool, settled: Settled = UNSETTLED
    ) -> list[Question]:
        parties = self.scenario.cohort(cohort)
        metrics = self.scenario.evaluate.metrics
        shown = [metric for metric in metrics if metric not in _QUESTIONS_OF_THEIR_OWN]
        questions = []
        for of_round, request in self._probed_requests(round_number, parties):
            verdict = (settled if of_round == round_number else UNSETTLED).of(request.party, request.index)
            if verdict.fate != "withdrawn":
                questions += [Question(metric, of_round, self._edit(request)) for metric in shown]
            case = case_of(self.facts, request, verdict) if "conflict" in metrics else None
            if case is not None:
                questions.append(Question("conflict", of_round, case.chosen, case.losing))
        if retention and "retention" in metrics:
            questions += self._retention_questions(round_number, parties)
        if "retracted" in metrics:
            found = retracted_requests(self.scenario, self.stream, round_number, parties)
            questions += [Question(metric, back_in, self._edit(request)) for metric, back_in, request in found]
        return questions

    def _retention_questions(self, round_number: int, parties: range) -> list[Question]:
        """Earlier rounds' edits, but for those that a later request contradicted or that were taken back."""
        earlier = self._standing_requests(range(1, round_number), round_number, parties)
        return [Question("retention", of_round, self._edit(request)) for of_round, request in earlier]

    def _probed_requests(self, round_number: int, parties: range) -> list[tuple[int, Request]]:
        """Round and request of all edits that are probed: all of this round's, and those that stand of others."""
        earlier = probed_rounds(self.scenario, round_number)[:-1]
        now = sampled_requests(self.scenario, self.stream, round_number, parties)
        standing = self._standing_requests(earlier, round_number, parties) if earlier else []
        return [*standing, *((round_number, request) for request in now)]

    def _standing_requests(self, rounds: range, round_number: int, parties: range) -> list[tuple[int, Request]]:
        """Sampled requests of earlier rounds that were not withdrawn, and none up to now contradicted or took back."""
        last_contradicted = self._contradicted_until(round_number)
        return [
            (earlier, request)
            for earlier in rounds
            for request in sampled_requests(self.scenario, self.stream, earlier, parties)
            if last_contradicted.get(request.fact, 0) <= earlier
            and self.stream.is_live(request, round_number)
            and (request.party, request.index) not in self._withdrawn_in(earlier)
        ]

    def _withdrawn_in(self, round_number: int) -> frozenset[Place]:
        """Requests of an earlier round that were withdrawn.

        A party remembers what it withdrew. A host stands in for parties and may be new, so it settles that round again.
        """
        conflicts = self.scenario.conflicts
        if conflicts.policy == "none":
            return frozenset()
        if round_number not in self._withdrawn:
            groups = settle([self.slips(round_number, each) for each in range(self.scenario.num_cohorts)], conflicts)
            found = [
                place for each in groups for place, verdict in each.verdicts.items() if verdict.fate == "withdrawn"
            ]
            self._withdrawn[round_number] = frozenset(found)
        return self._withdrawn[round_number]

    def _contradicted_until(self, round_number: int) -> dict[int, int]:
        """Fact → last round, up to this one, in which it was contradicted; goes on from where it was looked up last."""
        known_until, known = self._contradicted
        if round_number < known_until or any(
            known_until < each <= round_number for each in self.stream.departures.rounds()
        ):
            known_until, known = 0, {}  # what was taken back since contradicts nothing any more
        if round_number > known_until:
            known = known | superseded(self.stream, self.scenario, range(known_until + 1, round_number + 1))
        self._contradicted = (round_number, known)
        return known
