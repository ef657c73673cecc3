"""What is done for an arm in a round, as generators that yield what they wait for.

Each reads like the serial twin's loop; the coordinator moves them on as answers come.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consortium.data.party_batch import PartyBatch
from consortium.editing.known_facts import RequestGroup, Residuals, add_residuals
from consortium.editing.layer_schedule import Part
from consortium.engine.arms import Arm
from consortium.engine.key_covariance import KeyCovariance
from consortium.engine.metric_rows import metric_rows
from consortium.engine.round_log import RoundLog
from consortium.engine.rounds import batches_of, batches_without, decided, merge_parts, removals_of_round
from consortium.evaluation import registry
from consortium.evaluation.sums import ProbeSums, add_sums
from consortium.features.hooks import Rejection, RoundHook
from consortium.merging.statistics import Basis
from consortium.scenario.schema import Scenario

from consortium_ray.coordinator.batches import LOOK_AHEAD, CallBatch
from consortium_ray.coordinator.partial_sums import LayerSum, Sending, begin_sum, is_by_machines, look_ahead
from consortium_ray.messages import ArrayRefs, Call, Key, Reply

#: Whether what was waited for is there.
Ready = Callable[[], bool]
#: Work that yields what it waits for.
Steps = Generator[Ready, None, None]


@dataclass
class RoundWork:
    """One round of all arms; a new one for every round.

    Attributes:
        scenario: the scenario.
        round: the round's number.
        covariance: the key covariance.
        round_log: told of merges, traffic and metrics.
        add: has a batch worked on.
        put: makes a reference to an array.
        hand_out: gives every idle worker what there is to do, before this process is busy for a while.
        hooks: what features do in a round.
        at_merge: told of each arm and layer before it is merged; something may break there on purpose.
        num_machines: machines that workers are on, now.
    """

    scenario: Scenario
    round: int
    covariance: KeyCovariance
    round_log: RoundLog
    add: Callable[[CallBatch], None]
    put: Callable[[Any], Any]
    hand_out: Callable[[], None]
    hooks: Sequence[RoundHook] = ()
    at_merge: Callable[[str, int], None] = lambda arm, layer: None
    num_machines: Callable[[], int] = lambda: 1

    def __post_init__(self) -> None:
        self._shared: dict[Key, CallBatch] = {}
        self._refs: dict[tuple[int, str], Any] = {}
        self._residuals: dict[Key, Mapping[RequestGroup, Residuals]] = {}
        self._batches: Sequence[PartyBatch] = batches_of(self.scenario, self.round)
        self._started: dict[str, ArrayRefs] = {}

    def announce(self) -> Steps:
        """What all parties announce, and what features decide from it; comes before any arm's edits."""
        for hook in (each for each in self.hooks if each.announces):
            announced = yield from announced_by(hook, self._batches, self.add)
            self._batches = decided(self._batches, hook, announced)
        self.round_log.decided(self._batches)

    def edit(self, arm: Arm) -> Steps:
        """One round of one arm; begun again, as often as parties are refused, without them."""
        arm.begin(self.round)
        self._started[arm.name] = self._weights(arm)
        self.round_log.begun(arm.name, arm.excluded, arm.excluded_before)
        while rejections := (yield from self._attempt(arm)):
            arm.begin_again(each.party for each in rejections)
            self.round_log.begun(arm.name, arm.excluded, arm.excluded_before, self.round, rejections)

    def _attempt(self, arm: Arm) -> Generator[Ready, None, list[Rejection]]:
        """Targets, statistics and merges of an arm, up to the first step at which parties are refused."""
        targets_at: dict[int, ArrayRefs] = {}
        for step in arm.steps:
            for layer in step.targets:
                targets_at[layer] = self._reference(arm)
            yield all_done([self._targets(arm, targets_at[layer], layer) for layer in step.targets])
            for layer in step.targets:
                found = self._residuals[targets_at[layer].key, layer, arm.excluded]
                self.round_log.wanted(arm.name, layer, found)
            weights, history = self._reference(arm), self._history(arm)
            sums = [self._collect(arm, part, weights, dict(targets_at), history) for part in step.parts]
            gone = [self._unlearn(arm, part, weights) for part in step.parts]
            yield _all_summed([each for each in (*sums, *gone) if each is not None])
            if rejections := [rejection for each in sums for rejection in each.rejections]:
                return rejections
            for part, each, back in zip(step.parts, sums, gone, strict=True):
                self.hand_out()
                self.at_merge(arm.name, part.layer)
                merge_parts(self.round_log, self.covariance, arm, self.round, part, each, back)
        return []

    def _batches_for(self, arm: Arm) -> list[PartyBatch]:
        """The round's batches as an arm sees them: without the parties that it refused."""
        return batches_without(self.scenario, self._batches, arm.excluded)

    def _targets(self, arm: Arm, weights: ArrayRefs, layer: int) -> CallBatch:
        """Targets under some weights; arms whose weights are the same share them."""
        key: Key = (weights.key, layer, arm.excluded)
        if key not in self._shared:
            reduce_fanout, num_machines = self.scenario.cluster.reduce_fanout, self.num_machines()
            in_groups = is_by_machines(range(self.scenario.num_party_batches), reduce_fanout, num_machines)
            calls = [
                Call(
                    ("targets", self.round, *key, batch.number),
                    "targets",
                    (batch, weights, layer),
                    batch.number,
                    holds=(weights.key, layer, batch.excluded, batch.number),
                    wants=(weights.key, layer, batch.excluded, batch.number),
                    group=batch.number // reduce_fanout if in_groups else None,
                )
                for batch in self._batches_for(arm)
            ]
            self._residuals[key] = {}
            self._shared[key] = CallBatch(
                "targets",
                calls,
                lambda _, answer: self._add_residuals(key, answer),
                layer=layer,
                look_ahead=look_ahead(reduce_fanout, num_machines) if in_groups else LOOK_AHEAD,
            )
            self.add(self._shared[key])
        self._shared[key].arms.append(arm.name)
        return self._shared[key]

    def _add_residuals(self, key: Key, answer: Reply) -> None:
        self._residuals[key] = add_residuals([self._residuals[key], answer.value.residuals])

    def _collect(
        self, arm: Arm, part: Part, weights: ArrayRefs, targets_at: Mapping[int, ArrayRefs], history: ArrayRefs
    ) -> LayerSum:
        calls = [
            Call(
                ("collect", arm.name, self.round, part.layer, arm.excluded, batch.number),
                "collect",
                (batch, arm.name, part, weights, targets_at, history),
                batch.number,
                wants=(targets_at[part.target_layer].key, part.target_layer, batch.excluded, batch.number),
            )
            for batch in self._batches_for(arm)
        ]
        return self._sum_of(arm, part, calls, "collect")

    def _sum_of(self, arm: Arm, part: Part, calls: Sequence[Call], phase: str) -> LayerSum:
        basis = Basis(arm.name, self.round, part.layer)
        sending = Sending(self.round_log, basis, phase, self.scenario.cluster.reduce_fanout, self.add)
        return begin_sum(sending, calls, self.num_machines())

    def _unlearn(self, arm: Arm, part: Part, weights: ArrayRefs) -> LayerSum | None:
        """What is removed in this round at one layer; None for nothing."""
        calls = [
            Call(
                ("unlearn", arm.name, self.round, part.layer, arm.excluded, batch.number),
                "unlearn",
                (feature, batch, arm.name, part, weights),
                batch.number,
            )
            for feature, batch in removals_of_round(self.hooks, arm, self.round)
        ]
        return self._sum_of(arm, part, calls, "unlearn") if calls else None

    def evaluate(self, arm: Arm, is_edited: bool) -> Steps:
        """An arm's metrics; ``is_edited`` is False for the unedited model, which has nothing to retain."""
        weights = self._weights(arm)
        needs_start = any(metric.reference == "start" for metric in registry.asked(self.scenario.evaluate))
        before = self._started.get(arm.name) if needs_start else None
        calls = [
            Call(
                ("evaluate", arm.name, self.round, batch.number),
                "evaluate",
                (batch, weights, is_edited, before),
                batch.number,
            )
            for batch in self._batches
        ]
        total: ProbeSums = {}

        def add_up(_: int, answer: Reply) -> None:
            nonlocal total
            self.round_log.told(arm.name, self.round, answer.value.told)
            total = add_sums([total, answer.value.sums])

        batch = CallBatch("evaluate", calls, add_up, [arm.name], can_wait=True)
        self.add(batch)
        yield all_done([batch])
        self.round_log.measured(metric_rows(self.scenario, self.round, arm.name, total))

    def _weights(self, arm: Arm) -> ArrayRefs:
        return self._stored("weights", arm.weight_versions, arm.weights)

    def _reference(self, arm: Arm) -> ArrayRefs:
        return self._stored("weights", arm.reference_versions, arm.reference_weights)

    def _history(self, arm: Arm) -> ArrayRefs:
        if not arm.method.spec.needs_solver:
            return ArrayRefs({}, {})
        return self._stored("history", arm.history_versions, arm.history)

    def _stored(self, kind: str, versions: Mapping[int, str], arrays: Mapping[int, Any]) -> ArrayRefs:
        """References to arrays, each put once in a round."""
        refs = {}
        for layer, version in versions.items():
            name = (layer, f"{kind}/{version}")
            if name not in self._refs:
                self._refs[name] = self.put(arrays[layer])
            refs[layer] = self._refs[name]
        return ArrayRefs(dict(versions), refs)


def _all_summed(sums: Sequence[LayerSum]) -> Ready:
    return lambda: all(each.is_done for each in sums)


def announced_by(
    hook: RoundHook, batches: Sequence[PartyBatch], add: Callable[[CallBatch], None]
) -> Generator[Ready, None, list[Any]]:
    """What the parties of a round's batches announce to a feature, in order."""
    calls = [
        Call(("announce", hook.name, batch.round, batch.number), "announce", (hook.name, batch), batch.number)
        for batch in batches
    ]
    announced: list[Any] = []
    asked = CallBatch("announce", calls, lambda _, each: announced.append(each.value))
    add(asked)
    yield all_done([asked])
    return announced


def all_done(batches: Sequence[CallBatch]) -> Ready:
    """Ready when all batches are done."""
    return lambda: all(batch.is_done for batch in batches)


def interleaved(works: Iterable[Steps]) -> Steps:
    """Several arms' work at once: goes on as soon as any of them can, and ends when all have.

    One arm moves on at a time, so that workers can be given something to do between two merges.
    """
    running = [(work, ready) for work in works if (ready := next(work, None)) is not None]
    while running:
        yield _any_ready([ready for _, ready in running])
        place = next(place for place, (_, ready) in enumerate(running) if ready())
        work, _ = running.pop(place)
        ready = next(work, None)
        if ready is not None:
            running.append((work, ready))


def _any_ready(waiting: Sequence[Ready]) -> Ready:
    return lambda: any(ready() for ready in waiting)
