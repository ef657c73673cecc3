"""An arm while a round is worked on: its weights and histories as merged so far, each under a name of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from consortium.data.stream import Stream
from consortium.editing.edited_layers import BASE, History, Weights
from consortium.editing.editors.registry import create_editor
from consortium.editing.layer_schedule import Step, plan_round
from consortium.engine.exclusions import Exclusions, exclusions_of
from consortium.evaluation.schedule import is_evaluated, num_probed
from consortium.merging import registry, retained_sum
from consortium.merging.arm_state import ArmState
from consortium.merging.history import history_weight_of
from consortium.merging.key_overlap import KeyOverlap, key_overlap
from consortium.merging.layer_update import Distances, distances, merge_layer
from consortium.merging.method import Contribution, MergeMethod
from consortium.merging.solver import CovarianceSolver
from consortium.scenario.methods import GlobalSpec, MethodSpec
from consortium.scenario.schema import UNEDITED, LanguageModelSpec, ModelSpec, Scenario

FloatWeights = Mapping[int, NDArray[np.float32]]


class Arm:
    """One line of model versions.

    Args:
        name: name of the arm.
        method: its merge method.
        state: where it stands.
        history_weight: h.
        steps: what it does in a round.
        base: W₀ of each layer, for an arm with reference ``initial``; None when statistics are taken against the merged
            weights.
        exclusions: who was refused so far, and for how long that keeps a party out.
        largest: the largest number that the model's type can hold.
    """

    def __init__(  # noqa: PLR0913  (all that an arm is)
        self,
        name: str,
        method: MergeMethod,
        state: ArmState,
        history_weight: float,
        steps: Sequence[Step] = (),
        base: FloatWeights | None = None,
        exclusions: Exclusions = Exclusions(),  # noqa: B008  (frozen)
        largest: float = math.inf,
    ) -> None:
        self.name = name
        self.steps = steps
        self.method = method
        self.history_weight = history_weight
        self.weights = dict(state.weights)
        self.history = dict(state.history)
        self.retained = dict(state.retained)
        self.exclusions = exclusions
        self._largest = largest
        self._base = base
        self._round, self._attempt = state.round, 0
        started = BASE if state.round == 0 else self._version(state.round)
        self.weight_versions = dict.fromkeys(self.weights, started)
        self.key_overlap: KeyOverlap | None = None
        self._mark()

    def _mark(self) -> None:
        self._at_start = dict(self.weights), dict(self.history), dict(self.retained), dict(self.weight_versions)

    def begin(self, round_number: int) -> None:
        """A round begins from what the arm is now."""
        self._round, self._attempt = round_number, 0
        self._mark()

    def begin_again(self, rejected: Iterable[int]) -> None:
        """The round begins from its start once more, without the parties that were refused."""
        self.exclusions = self.exclusions.with_rejected(self._round, rejected)
        weights, history, retained_sum, versions = self._at_start
        self.weights, self.history, self.retained = dict(weights), dict(history), dict(retained_sum)
        self.weight_versions, self.key_overlap = dict(versions), None
        self._attempt += 1

    @property
    def excluded(self) -> frozenset[int]:
        """Parties that are out in this round."""
        return self.exclusions.of(self._round)

    @property
    def excluded_before(self) -> dict[int, frozenset[int]]:
        """Earlier round → the parties that were out in it; rounds in which all were there are left out."""
        found = {number: self.exclusions.of(number) for number in range(1, self._round)}
        return {number: parties for number, parties in found.items() if parties}

    def _version(self, round_number: int) -> str:
        """A name that no other weights of the arm have: what was merged with a refused party has one of its own."""
        return f"{self.name}@{round_number}" + (f"~{self._attempt}" if self._attempt else "")

    def snapshot(self) -> Weights:
        """The weights as they are now."""
        weights = dict(self.weights)
        return Weights(dict(self.weight_versions), weights.__getitem__)

    @property
    def reference_weights(self) -> FloatWeights:
        """The weights that statistics and targets are taken against."""
        return self.weights if self._base is None else self._base

    @property
    def reference_versions(self) -> dict[int, str]:
        """Layer → name of its :attr:`reference_weights`."""
        return self.weight_versions if self._base is None else dict.fromkeys(self._base, BASE)

    def reference(self) -> Weights:
        """The weights that statistics and targets are taken against, as they are now."""
        return Weights(dict(self.reference_versions), dict(self.reference_weights).__getitem__)

    def history_now(self) -> History:
        """The histories as they are now."""
        history = dict(self.history)
        return History(self.history_versions, history.__getitem__)

    @property
    def history_versions(self) -> dict[int, str]:
        """Layer → name of its history as it is now."""
        named = {layer: history.version for layer, history in self.history.items()}
        return {layer: version for layer, version in named.items() if version is not None}

    def unlearn(self, gone: Contribution) -> None:
        """Take edits of earlier rounds out of one layer's retained sum; the round's merge of the layer comes after."""
        assert self._base is not None, "nothing can be removed from merged weights"
        layer = gone.basis.layer
        self.retained[layer] = retained_sum.subtracted(self.retained[layer], gone)

    def merge(self, total: Contribution, solver: CovarianceSolver) -> None:
        """Put one layer's sum into the weights, and into the history or the retained sum."""
        layer, round_number = total.basis.layer, total.basis.round
        weight_VK, history_weight = self.weights[layer], self.history_weight
        if layer == min(self.weights):  # the same requests meet at every layer
            self.key_overlap = key_overlap(total)
        if self._base is not None:
            total = self.retained[layer] = retained_sum.with_round(self.retained.get(layer), total)
            weight_VK, history_weight = self._base[layer], 0.0
        history = self.history.get(layer)
        merged = merge_layer(self.method, total, solver, weight_VK, history, history_weight, self._largest)
        self.weights[layer] = merged.weight_VK
        self.weight_versions[layer] = self._version(round_number)
        if merged.history is not None:
            self.history[layer] = merged.history

    def state(self, round_number: int) -> ArmState:
        """The state to commit."""
        rejected = self.exclusions.rejected
        return ArmState(self.name, round_number, dict(self.weights), dict(self.history), dict(self.retained), rejected)


def unedited(base: FloatWeights) -> Arm:
    """The unedited model as an arm that never merges, to be evaluated beside the others."""
    return Arm(UNEDITED, registry.create_method(GlobalSpec()), ArmState(UNEDITED, 0, base, {}), 0.0)


def open_arms(scenario: Scenario, base: FloatWeights, committed: Mapping[str, ArmState]) -> list[Arm]:
    """The scenario's arms where they were committed last, or unedited."""
    arms = []
    editor = create_editor(scenario.editor)
    for spec in scenario.merge.methods:
        state = committed.get(spec.arm) or ArmState(spec.arm, 0, base, {})
        method = editor.merge_method(registry.create_method(spec))
        own_base = base if scenario.merge.reference_of(spec) == "initial" else None
        history_weight = history_weight_of(scenario, spec) * editor.history_scale
        exclusions = exclusions_of(scenario, state.rejected)
        steps, largest = steps_of(scenario, spec), _largest(scenario.model)
        arms.append(Arm(spec.arm, method, state, history_weight, steps, own_base, exclusions, largest))
    return arms


def _largest(model: ModelSpec) -> float:
    """The largest number that the type of a model's weights can hold; bfloat16 reaches about as far as float32."""
    is_half = isinstance(model, LanguageModelSpec) and model.dtype == "float16"
    return float(np.finfo(np.float16).max) if is_half else math.inf


def steps_of(scenario: Scenario, spec: MethodSpec) -> tuple[Step, ...]:
    """The steps of an arm's round."""
    return plan_round(scenario.editor, scenario.merge.exchange_of(spec))


def all_distances(arms: Sequence[Arm], base: FloatWeights, round_number: int) -> dict[str, Distances]:
    """Every arm's distances, from the first arm that runs ``global`` if there is one, and its coincidences."""
    reference = next((arm.state(round_number) for arm in arms if arm.method.spec.name == "global"), None)
    found = {arm.name: distances(arm.state(round_number), base, reference) for arm in arms}
    return {arm.name: replace(found[arm.name], key_overlap=arm.key_overlap) for arm in arms}


def expected_work(scenario: Scenario, stream: Stream, first_round: int) -> dict[str, int]:
    """Phase → units of work from ``first_round`` to the last, for :class:`consortium.common.progress.Meter`."""
    num_arms = len(scenario.merge.methods)
    num_parts = sum(len(step.parts) for step in steps_of(scenario, scenario.merge.methods[0]))  # as in every arm
    work = {"targets": 0, "collect": 0, "evaluate": 0}
    if stream.removals.removed:
        work["unlearn"] = 0
    for round_number in range(first_round, scenario.stream.rounds + 1):
        num_edits = stream.num_requests(round_number)
        work["targets"] += num_edits * num_optimisations(scenario, round_number)
        work["collect"] += num_edits * num_parts * num_arms
        for party_batch in stream.removals.batches(round_number, scenario.cluster.parties_per_batch):
            work["unlearn"] += units_of(scenario, stream, "unlearn", round_number, party_batch) * num_parts * num_arms
        if is_evaluated(scenario, round_number):
            probed = num_probed(scenario, stream, round_number, range(scenario.parties.count))
            work["evaluate"] += probed * (num_arms + 1)
    return work


def num_optimisations(scenario: Scenario, round_number: int) -> int:
    """How often a round's targets are optimised: once for each arm, but arms share those of the unedited model.

    In round 1 these are the targets of every arm's first step, later only those of arms with reference ``initial``.
    """
    shared: set[int] = set()
    own = 0
    for spec in scenario.merge.methods:
        first, *later = steps_of(scenario, spec)
        if round_number == 1 or scenario.merge.reference_of(spec) == "initial":
            shared.update(first.targets)
        else:
            own += len(first.targets)
        own += sum(len(step.targets) for step in later)
    return len(shared) + own


def units_of(scenario: Scenario, stream: Stream, phase: str, round_number: int, party_batch: int) -> int:
    """Units of work in a party batch's part of a phase."""
    parties = scenario.party_batch(party_batch)
    if phase == "evaluate":
        return num_probed(scenario, stream, round_number, parties)
    if phase in ("targets", "collect"):
        return stream.num_requests(round_number, parties)
    if phase == "unlearn":
        return stream.removals.num_edits(round_number, parties)
    return 1
