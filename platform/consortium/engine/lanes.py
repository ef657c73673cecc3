"""A lane while a round is worked on: its weights and histories as merged so far, each under a name of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from consortium.data.party_batch import PartyBatch
from consortium.data.stream import Stream
from consortium.editing.editors.registry import create
from consortium.editing.layer_schedule import Step, plan_round
from consortium.evaluation.schedule import is_evaluated, num_probed
from consortium.features.screening.quarantine import Quarantine, quarantine_of
from consortium.features.unlearning.requests import cohorts_taking_back, num_taken_back
from consortium.merging import registry, retained_sum
from consortium.merging.history import history_weight_of
from consortium.merging.key_overlap import Coincidence, coincidence
from consortium.merging.lane_state import LaneState
from consortium.merging.layer_update import Distances, distances, merge_layer
from consortium.merging.method import Contribution, MergeMethod
from consortium.merging.solver import PriorSolver
from consortium.party.shard import BASE, History, Weights
from consortium.scenario.schema import UNEDITED, LanguageModelSpec, MethodSpec, ModelSpec, Scenario

FloatWeights = Mapping[int, NDArray[np.float32]]
_NOBODY = Quarantine(1)


class Lane:
    """One line of model versions.

    Args:
        name: name of the lane.
        method: its merge method.
        state: where it stands.
        history_weight: h.
        steps: what it does in a round.
        base: W₀ of each layer, for a lane with anchor ``base``; None when statistics are taken against the merged
            weights.
        quarantine: who was refused so far, and for how long.
        largest: the largest number that the model's type can hold.
    """

    def __init__(  # noqa: PLR0913  (all that a lane is)
        self,
        name: str,
        method: MergeMethod,
        state: LaneState,
        history_weight: float,
        steps: Sequence[Step] = (),
        base: FloatWeights | None = None,
        quarantine: Quarantine = _NOBODY,
        largest: float = math.inf,
    ) -> None:
        self.name = name
        self.steps = steps
        self.method = method
        self.history_weight = history_weight
        self.weights = dict(state.weights)
        self.history = dict(state.history)
        self.live = dict(state.live)
        self.quarantine = quarantine
        self._largest = largest
        self._base = base
        self._round, self._attempt = state.round, 0
        started = BASE if state.round == 0 else self._version(state.round)
        self.weight_versions = dict.fromkeys(self.weights, started)
        self.coincidence: Coincidence | None = None
        self._mark()

    def _mark(self) -> None:
        self._at_start = dict(self.weights), dict(self.history), dict(self.live), dict(self.weight_versions)

    def begin(self, round_number: int) -> None:
        """A round begins from what the lane is now."""
        self._round, self._attempt = round_number, 0
        self._mark()

    def begin_again(self, refused: Iterable[int]) -> None:
        """The round begins from its start once more, without the parties that were refused."""
        self.quarantine = self.quarantine.with_refused(self._round, refused)
        weights, history, retained_sum, versions = self._at_start
        self.weights, self.history, self.live = dict(weights), dict(history), dict(retained_sum)
        self.weight_versions, self.coincidence = dict(versions), None
        self._attempt += 1

    @property
    def absent(self) -> frozenset[int]:
        """Parties that are out in this round."""
        return self.quarantine.absent(self._round)

    @property
    def absent_before(self) -> dict[int, frozenset[int]]:
        """Earlier round → the parties that were out in it; rounds in which all were there are left out."""
        found = {number: self.quarantine.absent(number) for number in range(1, self._round)}
        return {number: absent for number, absent in found.items() if absent}

    def _version(self, round_number: int) -> str:
        """A name that no other weights of the lane have: what was merged with a refused party has one of its own."""
        return f"{self.name}@{round_number}" + (f"~{self._attempt}" if self._attempt else "")

    def snapshot(self) -> Weights:
        """The weights as they are now."""
        weights = dict(self.weights)
        return Weights(dict(self.weight_versions), weights.__getitem__)

    @property
    def anchor_weights(self) -> FloatWeights:
        """The weights that statistics and targets are taken against."""
        return self.weights if self._base is None else self._base

    @property
    def anchor_versions(self) -> dict[int, str]:
        """Layer → name of its :attr:`anchor_weights`."""
        return self.weight_versions if self._base is None else dict.fromkeys(self._base, BASE)

    def anchor(self) -> Weights:
        """The weights that statistics and targets are taken against, as they are now."""
        return Weights(dict(self.anchor_versions), dict(self.anchor_weights).__getitem__)

    def history_now(self) -> History:
        """The histories as they are now."""
        history = dict(self.history)
        return History(self.history_versions, history.__getitem__)

    @property
    def history_versions(self) -> dict[int, str]:
        """Layer → name of its history as it is now."""
        named = {layer: history.version for layer, history in self.history.items()}
        return {layer: version for layer, version in named.items() if version is not None}

    def take_back(self, gone: Contribution) -> None:
        """Take edits of earlier rounds out of one layer's live sum; the round's merge of the layer comes after."""
        assert self._base is not None, "nothing can be taken back from merged weights"
        layer = gone.basis.layer
        self.live[layer] = retained_sum.without(self.live[layer], gone)

    def merge(self, total: Contribution, solver: PriorSolver) -> None:
        """Put one layer's sum into the weights, and into the history or the live sum."""
        layer, round_number = total.basis.layer, total.basis.round
        weight_VK, history_weight = self.weights[layer], self.history_weight
        if layer == min(self.weights):  # the same requests meet at every layer
            self.coincidence = coincidence(total)
        if self._base is not None:
            total = self.live[layer] = retained_sum.with_round(self.live.get(layer), total)
            weight_VK, history_weight = self._base[layer], 0.0
        history = self.history.get(layer)
        merged = merge_layer(self.method, total, solver, weight_VK, history, history_weight, self._largest)
        self.weights[layer] = merged.weight_VK
        self.weight_versions[layer] = self._version(round_number)
        if merged.history is not None:
            self.history[layer] = merged.history

    def state(self, round_number: int) -> LaneState:
        """The state to commit."""
        refused = self.quarantine.refused
        return LaneState(self.name, round_number, dict(self.weights), dict(self.history), dict(self.live), refused)


def unedited(base: FloatWeights) -> Lane:
    """The unedited model as a lane that never merges, to be evaluated beside the others."""
    return Lane(UNEDITED, registry.create("global", {}), LaneState(UNEDITED, 0, base, {}), 0.0)


def open_lanes(scenario: Scenario, base: FloatWeights, committed: Mapping[str, LaneState]) -> list[Lane]:
    """The scenario's lanes where they were committed last, or unedited."""
    lanes = []
    editor = create(scenario.editor)
    for spec in scenario.merge.methods:
        state = committed.get(spec.lane) or LaneState(spec.lane, 0, base, {})
        method = editor.merge_method(registry.create(spec.name, spec.parameters))
        own_base = base if scenario.merge.anchor_of(spec) == "base" else None
        history_weight = history_weight_of(scenario, spec) * editor.history_scale
        quarantine = quarantine_of(scenario, state.refused)
        steps, largest = steps_of(scenario, spec), _largest(scenario.model)
        lanes.append(Lane(spec.lane, method, state, history_weight, steps, own_base, quarantine, largest))
    return lanes


def _largest(model: ModelSpec) -> float:
    """The largest number that the type of a model's weights can hold; bfloat16 reaches about as far as float32."""
    is_half = isinstance(model, LanguageModelSpec) and model.dtype == "float16"
    return float(np.finfo(np.float16).max) if is_half else math.inf


def batches_of(scenario: Scenario, round_number: int) -> list[PartyBatch]:
    """A round's party batches before anything is decided about them."""
    return [PartyBatch(round_number, number) for number in range(scenario.num_cohorts)]


def without(scenario: Scenario, batches: Sequence[PartyBatch], parties: frozenset[int]) -> list[PartyBatch]:
    """Party batches as an arm sees them that goes without some parties."""
    return [batch.without(parties.intersection(scenario.cohort(batch.number))) for batch in batches]


def steps_of(scenario: Scenario, spec: MethodSpec) -> tuple[Step, ...]:
    """The steps of a lane's round."""
    return plan_round(scenario.editor, scenario.merge.exchange_of(spec))


def all_distances(lanes: Sequence[Lane], base: FloatWeights, round_number: int) -> dict[str, Distances]:
    """Every lane's distances, from the first lane that runs ``global`` if there is one, and its coincidences."""
    reference = next((lane.state(round_number) for lane in lanes if lane.method.name == "global"), None)
    found = {lane.name: distances(lane.state(round_number), base, reference) for lane in lanes}
    return {lane.name: replace(found[lane.name], coincidence=lane.coincidence) for lane in lanes}


def expected_work(scenario: Scenario, stream: Stream, first_round: int) -> dict[str, int]:
    """Phase → units of work from ``first_round`` to the last, for :class:`consortium.common.progress.Meter`."""
    num_lanes = len(scenario.merge.methods)
    num_parts = sum(len(step.parts) for step in steps_of(scenario, scenario.merge.methods[0]))  # as in every lane
    work = {"targets": 0, "collect": 0, "evaluate": 0}
    if stream.departures.taken_back:
        work["retract"] = 0
    for round_number in range(first_round, scenario.stream.rounds + 1):
        num_edits = stream.num_requests(round_number)
        work["targets"] += num_edits * num_optimisations(scenario, round_number)
        work["collect"] += num_edits * num_parts * num_lanes
        for cohort in cohorts_taking_back(scenario, stream, round_number):
            work["retract"] += units_of(scenario, stream, "retract", round_number, cohort) * num_parts * num_lanes
        if is_evaluated(scenario, round_number):
            probed = num_probed(scenario, stream, round_number, range(scenario.parties.count))
            work["evaluate"] += probed * (num_lanes + 1)
    return work


def num_optimisations(scenario: Scenario, round_number: int) -> int:
    """How often a round's targets are optimised: once for each lane, but lanes share those of the unedited model.

    In round 1 these are the targets of every lane's first step, later only those of lanes with anchor ``base``.
    """
    shared: set[int] = set()
    own = 0
    for spec in scenario.merge.methods:
        first, *later = steps_of(scenario, spec)
        if round_number == 1 or scenario.merge.anchor_of(spec) == "base":
            shared.update(first.targets)
        else:
            own += len(first.targets)
        own += sum(len(step.targets) for step in later)
    return len(shared) + own


def units_of(scenario: Scenario, stream: Stream, phase: str, round_number: int, cohort: int) -> int:
    """Units of work in a cohort's part of a phase."""
    parties = scenario.cohort(cohort)
    if phase == "evaluate":
        return num_probed(scenario, stream, round_number, parties)
    if phase in ("targets", "collect"):
        return stream.num_requests(round_number, parties)
    if phase == "retract":
        return num_taken_back(stream, round_number, parties)
    return 1
