"""What a host does, without Ray: it holds a model and computes the cohorts it is given.

A cohort's answer depends on the scenario and on the weights named in the call, never on what was computed
before or where. Targets and edits stay in here; what leaves is a sum over the cohort's parties.

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from consortium.editing.backend import Backend, Targets
from consortium.evaluation.metrics import ProbeSums, Question, ask
from consortium.facts.edit import Edit, FactSet
from consortium.merging import registry
from consortium.merging.method import Contribution, PartyShare, sum_in_order
from consortium.merging.solver import PriorSolver
from consortium.rounds import Part, prior_matrix, sampled_requests, superseded
from consortium.scenario.schema import Scenario
from consortium.seeds import torch_generator
from consortium.statistics import Basis
from consortium.streams.request import Request
from consortium.streams.stream import Stream

#: Targets kept at most, in bytes; those that had to go are computed again when they are asked for.
_TARGET_BYTES = 256 * 2**20
#: Solvers kept: a cohort's layers come one after the other, lanes in turn.
_NUM_SOLVERS = 6

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
    read: Callable[[int], NDArray[np.float64]]


@dataclass(frozen=True)
class TargetReport:
    """What a host says of a cohort's targets: counts and sums."""

    num_edits: int
    num_steps: int
    loss: float
    num_finished: int


@dataclass(frozen=True)
class Collected:
    """A cohort's part of one layer's merge.

    Attributes:
        contribution: the sum over the cohort's parties.
        party_bytes: what each party's own message weighs.
    """

    contribution: Contribution
    party_bytes: tuple[int, ...]


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
        self.methods = {spec.lane: registry.create(spec.name, spec.parameters) for spec in scenario.merge.methods}
        self._prior: Mapping[int, NDArray[np.float64]] = {}
        self._prior_tokens = 0
        self._loaded: dict[int, str] = dict.fromkeys(scenario.editor.edited_layers, BASE)
        self._targets: _Kept[Targets] = _Kept(_TARGET_BYTES, lambda kept: kept.vectors_EV.nbytes)
        self._solvers: _Kept[PriorSolver] = _Kept(_NUM_SOLVERS, lambda _: 1)
        self._contradicted: tuple[int, dict[int, int]] = (0, {})

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
        self._prior, self._prior_tokens = prior, num_tokens

    # In a round

    def edits(self, round_number: int, cohort: int) -> list[Edit]:
        """The cohort's edits of a round, party after party."""
        return [self._edit(request) for requests in self._requests(round_number, cohort) for request in requests]

    def _requests(self, round_number: int, cohort: int) -> list[tuple[Request, ...]]:
        return [self.stream.requests(round_number, party) for party in self.scenario.cohort(cohort)]

    def _edit(self, request: Request) -> Edit:
        return self.facts.edit(request.fact, request.variant)

    def _load(self, weights: Weights) -> None:
        for layer, version in weights.versions.items():
            if self._loaded[layer] != version:
                self.backend.load_weights({layer: weights.read(layer)})
                self._loaded[layer] = version

    def targets(self, weights: Weights, round_number: int, cohort: int, layer: int) -> TargetReport:
        """Optimise the cohort's targets at ``layer`` under ``weights`` and keep them."""
        targets = self._targets_of(weights, round_number, cohort, layer)
        stop_loss = self.scenario.editor.target.stop_loss
        return TargetReport(
            num_edits=len(targets.losses),
            num_steps=sum(targets.num_steps),
            loss=sum(targets.losses),
            num_finished=sum(loss < stop_loss for loss in targets.losses),
        )

    def _targets_of(self, weights: Weights, round_number: int, cohort: int, layer: int) -> Targets:
        def make() -> Targets:
            self._load(weights)
            return self.backend.targets(self.edits(round_number, cohort), layer)

        return self._targets.get((weights.key, round_number, cohort, layer), make)

    def collect(
        self,
        lane: str,
        round_number: int,
        cohort: int,
        part: Part,
        weights: Weights,
        targets_at: Weights,
        history: History,
    ) -> Collected:
        """The cohort's contribution to one layer.

        Args:
            lane: name of the lane; its method says what a contribution is.
            round_number: the round.
            cohort: the cohort.
            part: the layer and how the residual is shared.
            weights: weights under which keys and residuals are taken.
            targets_at: weights under which the targets are or were optimised.
            history: the lane's history, for methods whose parties solve.
        """
        targets = self._targets_of(targets_at, round_number, cohort, part.target_layer)
        requests = self._requests(round_number, cohort)
        edits = [self._edit(request) for group in requests for request in group]
        self._load(weights)
        keys_KE = self.backend.keys(edits, [part.layer])[part.layer]
        residuals_VE = self.backend.residuals(edits, targets, part.layer) / part.divisor
        method = self.methods[lane]
        solver = self._solver(part.layer, history) if method.needs_solver else None
        basis = Basis(lane, round_number, part.layer)
        shares = []
        start = 0
        for party, group in zip(self.scenario.cohort(cohort), requests, strict=True):
            own = slice(start, start + len(group))
            start += len(group)
            generator = torch_generator(self.scenario.seed, "rotation", lane, round_number, part.layer, party)
            form = self.scenario.merge.statistics
            share = PartyShare(basis, keys_KE[:, own], residuals_VE[:, own], form, generator)
            shares.append(method.contribute(share, solver))
        return Collected(sum_in_order(shares), tuple(share.nbytes for share in shares))

    def _solver(self, layer: int, history: History) -> PriorSolver:
        def make() -> PriorSolver:
            prior_KK = prior_matrix(self._prior[layer], self._prior_tokens, self.scenario.editor.prior_weight)
            history_KK = history.read(layer) if layer in history.versions else None
            return PriorSolver(prior_KK, history_KK, f"layer {layer}")

        return self._solvers.get((layer, history.versions.get(layer)), make)

    def evaluate(self, weights: Weights, round_number: int, cohort: int, retention: bool) -> ProbeSums:
        """Counts and sums of the cohort's own probes: this round's edits, and with ``retention`` earlier ones."""
        self._load(weights)
        return ask(self.backend, self._questions(round_number, cohort, retention))

    def _questions(self, round_number: int, cohort: int, retention: bool) -> list[Question]:
        parties = self.scenario.cohort(cohort)
        metrics = self.scenario.evaluate.metrics
        questions = []
        for request in sampled_requests(self.scenario, self.stream, round_number, parties):
            edit = self._edit(request)
            shown = [metric for metric in metrics if metric not in ("retention", "conflict")]
            questions += [Question(metric, round_number, edit) for metric in shown]
            if "conflict" in metrics and request.rival_variant is not None:
                rival = self.facts.edit(request.fact, request.rival_variant).target_new
                questions.append(Question("conflict", round_number, edit, rival))
        if retention and "retention" in metrics:
            questions += self._retention_questions(round_number, parties)
        return questions

    def _retention_questions(self, round_number: int, parties: range) -> list[Question]:
        """Earlier rounds' edits, but for those that a later request contradicted."""
        last_contradicted = self._contradicted_until(round_number)
        return [
            Question("retention", earlier, self._edit(request))
            for earlier in range(1, round_number)
            for request in sampled_requests(self.scenario, self.stream, earlier, parties)
            if last_contradicted.get(request.fact, 0) <= earlier
        ]

    def _contradicted_until(self, round_number: int) -> dict[int, int]:
        """Fact → last round, up to this one, in which it was contradicted; goes on from where it was looked up last."""
        known_until, known = self._contradicted
        if round_number < known_until:
            known_until, known = 0, {}
        if round_number > known_until:
            known = known | superseded(self.stream, self.scenario, range(known_until + 1, round_number + 1))
        self._contradicted = (round_number, known)
        return known
