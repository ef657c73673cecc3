"""What is done for a lane in a round, as generators that yield what they wait for.

Each reads like the serial twin's loop; the coordinator moves them on as answers come.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consortium.data.party_batch import PartyBatch
from consortium.editing.known_facts import Asked, Residuals, add_residuals
from consortium.editing.layer_schedule import Part
from consortium.engine.lanes import Lane, batches_of, without
from consortium.engine.metric_rows import metric_rows
from consortium.engine.prior import Prior
from consortium.engine.round_log import Journal
from consortium.evaluation import registry
from consortium.evaluation.sums import ProbeSums, add_sums
from consortium.features.conflicts.commitments import Slips
from consortium.features.conflicts.resolver import Standing
from consortium.features.screening.checks import Refusal
from consortium.merging.statistics import Basis
from consortium.scenario.schema import Scenario

from consortium_ray.coordinator.batches import LOOK_AHEAD, Batch
from consortium_ray.coordinator.partial_sums import LayerSum, Sending, begin_sum, is_by_machines, look_ahead
from consortium_ray.messages import Answer, ArrayRefs, Call, Key

#: Whether what was waited for is there.
Ready = Callable[[], bool]
#: Work that yields what it waits for.
Work = Generator[Ready, None, None]


@dataclass
class RoundWork:
    """One round of all lanes; a new one for every round.

    Attributes:
        scenario: the scenario.
        round: the round's number.
        prior: the prior.
        journal: told of merges, traffic and metrics.
        add: has a batch worked on.
        put: makes a reference to an array.
        hand_out: gives every idle host what there is to do, before this process is busy for a while.
        standing: what the rounds before settled.
        taking_back: cohorts of which some party takes something back in this round.
        at_merge: told of each lane and layer before it is merged; something may break there on purpose.
        num_machines: machines that hosts are on, now.
    """

    scenario: Scenario
    round: int
    prior: Prior
    journal: Journal
    add: Callable[[Batch], None]
    put: Callable[[Any], Any]
    hand_out: Callable[[], None]
    standing: Standing
    taking_back: Sequence[int] = ()
    at_merge: Callable[[str, int], None] = lambda lane, layer: None
    num_machines: Callable[[], int] = lambda: 1

    def __post_init__(self) -> None:
        self._shared: dict[Key, Batch] = {}
        self._refs: dict[tuple[int, str], Any] = {}
        self._residuals: dict[Key, Mapping[Asked, Residuals]] = {}
        self._batches: Sequence[PartyBatch] = batches_of(self.scenario, self.round)
        self._started: dict[str, ArrayRefs] = {}

    def announce(self) -> Work:
        """Slips of all parties, and what follows from them; comes before any lane's edits."""
        slips = yield from slips_of_round(batches_of(self.scenario, self.round), self.add)
        settled = self.standing.settle(self.round, slips)
        self._batches = [batch.decided("conflicts", each) for batch, each in zip(self._batches, settled, strict=True)]
        self.journal.settled(settled)

    def edit(self, lane: Lane) -> Work:
        """One round of one lane; begun again, as often as parties are refused, without them."""
        lane.begin(self.round)
        self._started[lane.name] = self._weights(lane)
        self.journal.begun(lane.name, lane.absent, lane.absent_before)
        while refusals := (yield from self._attempt(lane)):
            lane.begin_again(each.party for each in refusals)
            self.journal.begun(lane.name, lane.absent, lane.absent_before, self.round, refusals)

    def _attempt(self, lane: Lane) -> Generator[Ready, None, list[Refusal]]:
        """Targets, statistics and merges of a lane, up to the first step at which parties are refused."""
        targets_at: dict[int, ArrayRefs] = {}
        for step in lane.steps:
            for layer in step.targets:
                targets_at[layer] = self._anchor(lane)
            yield all_done([self._targets(lane, targets_at[layer], layer) for layer in step.targets])
            for layer in step.targets:
                found = self._residuals[targets_at[layer].key, layer, lane.absent]
                self.journal.wanted(lane.name, layer, found)
            weights, history = self._anchor(lane), self._history(lane)
            sums = [self._collect(lane, part, weights, dict(targets_at), history) for part in step.parts]
            gone = [self._take_back(lane, part, weights) for part in step.parts]
            yield _all_summed([each for each in (*sums, *gone) if each is not None])
            if refusals := [refusal for each in sums for refusal in each.refusals]:
                return refusals
            for part, each, back in zip(step.parts, sums, gone, strict=True):
                self.hand_out()
                self.at_merge(lane.name, part.layer)
                self.journal.check_finite(lane.name, self.round, each.receipts)
                with self.journal.timed("merge", self.round, lanes=[lane.name], layer=part.layer):
                    solver = self.prior.solver(self.scenario, part.layer, lane.history.get(part.layer))
                    if back is not None:
                        lane.take_back(back.total())
                    lane.merge(each.total(), solver)
                for kind, merged in (("retract", back), ("merge", each)):
                    if merged is not None:
                        self.journal.merged(kind, lane.name, part.layer, merged.receipts, merged.hosts)
        return []

    def _batches_for(self, lane: Lane) -> list[PartyBatch]:
        """The round's batches as a lane sees them: without the parties that it refused."""
        return without(self.scenario, self._batches, lane.absent)

    def _targets(self, lane: Lane, weights: ArrayRefs, layer: int) -> Batch:
        """Targets under some weights; lanes whose weights are the same share them."""
        key: Key = (weights.key, layer, lane.absent)
        if key not in self._shared:
            group_size, num_machines = self.scenario.cluster.group_size, self.num_machines()
            in_groups = is_by_machines(range(self.scenario.num_cohorts), group_size, num_machines)
            calls = [
                Call(
                    ("targets", self.round, *key, batch.number),
                    "targets",
                    (batch, weights, layer),
                    batch.number,
                    holds=(weights.key, layer, batch.excluded, batch.number),
                    wants=(weights.key, layer, batch.excluded, batch.number),
                    group=batch.number // group_size if in_groups else None,
                )
                for batch in self._batches_for(lane)
            ]
            self._residuals[key] = {}
            self._shared[key] = Batch(
                "targets",
                calls,
                lambda _, answer: self._add_residuals(key, answer),
                layer=layer,
                look_ahead=look_ahead(group_size, num_machines) if in_groups else LOOK_AHEAD,
            )
            self.add(self._shared[key])
        self._shared[key].lanes.append(lane.name)
        return self._shared[key]

    def _add_residuals(self, key: Key, answer: Answer) -> None:
        self._residuals[key] = add_residuals([self._residuals[key], answer.value.residuals])

    def _collect(
        self, lane: Lane, part: Part, weights: ArrayRefs, targets_at: Mapping[int, ArrayRefs], history: ArrayRefs
    ) -> LayerSum:
        calls = [
            Call(
                ("collect", lane.name, self.round, part.layer, lane.absent, batch.number),
                "collect",
                (batch, lane.name, part, weights, targets_at, history),
                batch.number,
                wants=(targets_at[part.target_layer].key, part.target_layer, batch.excluded, batch.number),
            )
            for batch in self._batches_for(lane)
        ]
        return self._sum_of(lane, part, calls, "collect")

    def _sum_of(self, lane: Lane, part: Part, calls: Sequence[Call], phase: str) -> LayerSum:
        basis = Basis(lane.name, self.round, part.layer)
        sending = Sending(self.journal, basis, phase, self.scenario.cluster.group_size, self.add)
        return begin_sum(sending, calls, self.num_machines())

    def _take_back(self, lane: Lane, part: Part, weights: ArrayRefs) -> LayerSum | None:
        """What is taken back in this round at one layer; None for nothing."""
        calls = [
            Call(
                ("retract", lane.name, self.round, part.layer, lane.absent, cohort),
                "take_back",
                (PartyBatch(self.round, cohort), lane.name, part, weights, lane.absent_before),
                cohort,
            )
            for cohort in self.taking_back
        ]
        return self._sum_of(lane, part, calls, "retract") if calls else None

    def evaluate(self, lane: Lane, is_edited: bool) -> Work:
        """A lane's metrics; ``is_edited`` is False for the unedited model, which has nothing to retain."""
        weights = self._weights(lane)
        needs_start = any(metric.reference == "start" for metric in registry.asked(self.scenario.evaluate))
        before = self._started.get(lane.name) if needs_start else None
        calls = [
            Call(
                ("evaluate", lane.name, self.round, batch.number),
                "evaluate",
                (batch, weights, is_edited, before),
                batch.number,
            )
            for batch in self._batches
        ]
        total: ProbeSums = {}

        def add_up(_: int, answer: Answer) -> None:
            nonlocal total
            self.journal.told(lane.name, self.round, answer.value.told)
            total = add_sums([total, answer.value.sums])

        batch = Batch("evaluate", calls, add_up, [lane.name], can_wait=True)
        self.add(batch)
        yield all_done([batch])
        self.journal.measured(metric_rows(self.scenario, self.round, lane.name, total))

    def _weights(self, lane: Lane) -> ArrayRefs:
        return self._stored("weights", lane.weight_versions, lane.weights)

    def _anchor(self, lane: Lane) -> ArrayRefs:
        return self._stored("weights", lane.anchor_versions, lane.anchor_weights)

    def _history(self, lane: Lane) -> ArrayRefs:
        if not lane.method.needs_solver:
            return ArrayRefs({}, {})
        return self._stored("history", lane.history_versions, lane.history)

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


def slips_of_round(batches: Sequence[PartyBatch], add: Callable[[Batch], None]) -> Generator[Ready, None, list[Slips]]:
    """What all party batches of a round announce."""
    calls = [Call(("slips", batch.round, batch.number), "slips", (batch,), batch.number) for batch in batches]
    slips: list[Slips] = []
    batch = Batch("announce", calls, lambda _, each: slips.append(each.value))
    add(batch)
    yield all_done([batch])
    return slips


def all_done(batches: Sequence[Batch]) -> Ready:
    """Ready when all batches are done."""
    return lambda: all(batch.is_done for batch in batches)


def side_by_side(works: Iterable[Work]) -> Work:
    """Several lanes' work at once: goes on as soon as any of them can, and ends when all have.

    One lane moves on at a time, so that hosts can be given something to do between two merges.
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
