"""The coordinator: a state machine that hands cohorts to hosts, adds up what they send, merges and commits.

Each lane is a generator that yields the batches it waits for and merges when they are done; it reads like the
serial twin's loop. :meth:`Coordinator.step` moves all lanes as far as the answers allow. Within a round the
lanes run side by side; a round is committed when every lane has finished it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from consortium.evaluation.metrics import ProbeSums, add_sums
from consortium.facts.edit import FactSet
from consortium.journal import Journal
from consortium.lanes import Lane, all_distances, expected_work, open_lanes, unedited
from consortium.merging.method import Contribution
from consortium.progress import Meter, Progress
from consortium.records.directory import RunDirectory
from consortium.rounds import Part, is_evaluated, metric_rows, plan_round
from consortium.scenario.schema import Scenario
from consortium.start import Prior, add_chunks, cached_prior, keep_prior
from consortium.streams.stream import Stream

from consortium_ray.batches import Batch
from consortium_ray.faults import Faults
from consortium_ray.messages import Answer, ArrayRefs, Call, Key, ModelFacts
from consortium_ray.pool import Answered, Lost, Pool, PoolEvent

#: Whether what was waited for is there.
Ready = Callable[[], bool]
#: A lane's work: yields what it waits for.
Work = Generator[Ready, None, None]


@dataclass(frozen=True)
class _Snapshot:
    """A lane's weights as references, and the key that names them."""

    arrays: ArrayRefs

    @property
    def key(self) -> Key:
        return tuple(sorted(self.arrays.versions.items()))


class Coordinator:
    """Runs a scenario over a pool of hosts.

    Args:
        scenario: the scenario as resolved.
        directory: where the run is recorded; it may hold committed rounds already.
        facts: all facts, for the tables; hosts have their own.
        pool: the hosts.
    """

    def __init__(self, scenario: Scenario, directory: RunDirectory, facts: FactSet, pool: Pool) -> None:
        self.scenario = scenario
        self.directory = directory
        self.facts = facts
        self.pool = pool
        self.stream = Stream(scenario.seed, scenario.parties, scenario.stream, facts.relations())
        self.journal = Journal(scenario, lambda: directory.worked_s)
        self.first_round = (directory.committed_round or 0) + 1
        self.progress: list[Progress] = []
        work = expected_work(scenario, self.stream, self.first_round)
        self.meter = Meter(scenario.stream.rounds, work, self.progress.append)
        self.faults = Faults(scenario.faults)
        self._batches: list[Batch] = []
        self._holders: dict[Key, int] = {}
        self._refs: dict[tuple[int, str], Any] = {}
        self._round = 0
        self._main = self._whole_run()
        self._ready: Ready | None = next(self._main)

    # Stepping

    @property
    def is_done(self) -> bool:
        """The last round is committed."""
        return self._ready is None

    def step(self, timeout_s: float) -> list[Progress]:
        """Hand out calls, wait a while for what hosts say, and move on; returns what there is to tell since.

        Raises:
            ConsortiumError: the run cannot go on.
        """
        self._hand_out()
        for event in self.pool.wait(timeout_s):
            self._react(event)
        while self._ready is not None and self._ready():
            self._ready = next(self._main, None)
        self._hand_out()
        self.meter.show(self._waiting_for())
        told, self.progress[:] = list(self.progress), []
        return told

    def _hand_out(self) -> None:
        for host in self.pool.idle():
            for batch in self._batches:
                call = batch.choose(lambda call, host=host: self._suits(call, host))  # type: ignore[misc]
                if call is not None:
                    self.pool.start(host, call)
                    self.faults.started(self.pool, host, batch.phase, self._round)
                    break

    def _suits(self, call: Call, host: int) -> bool:
        """A call goes to the host that holds what it wants, as long as that host lives."""
        holder = self._holders.get(call.wants) if call.wants is not None else None
        return holder is None or holder == host or not self.pool.alive(holder)

    def _react(self, event: PoolEvent) -> None:
        if isinstance(event, Answered):
            batch = next((batch for batch in self._batches if batch.has(event.call)), None)
            if batch is None:  # answered by another host already
                return
            if event.call.holds is not None:
                self._holders[event.call.holds] = event.answer.incarnation
            self._record(batch, event.call, event.answer)
            batch.receive(event.call, event.answer)
            self._batches = [batch for batch in self._batches if not batch.is_done]
        elif isinstance(event, Lost):
            self.journal.event("host-lost", self._round, host=f"host-{event.incarnation}", detail=event.reason)
            owner = next((batch for batch in self._batches if event.call and batch.has(event.call)), None)
            if owner is not None and event.call is not None:
                owner.give_back(event.call)
        else:
            self.journal.event("host-started", self._round, host=f"host-{event.incarnation}")

    def _record(self, batch: Batch, call: Call, answer: Answer) -> None:
        self.meter.advance(self._units(batch.phase, call.cohort), batch.phase)
        self.journal.event(
            batch.phase,
            self._round,
            lanes=batch.lanes,
            layer=batch.layer,
            cohort=call.cohort if self._round else None,
            host=f"host-{answer.incarnation}",
            seconds=answer.seconds,
        )

    def _units(self, phase: str, cohort: int) -> int:
        if phase == "evaluate":
            return self._probed(cohort)
        if phase in ("targets", "collect"):
            return self.stream.num_edits(self._round) * len(self.scenario.cohort(cohort))
        return 1

    def _probed(self, cohort: int) -> int:
        num_edits = self.stream.num_edits(self._round) * len(self.scenario.cohort(cohort))
        sample = self.scenario.evaluate.sample
        share = 1.0 if sample is None else min(1.0, sample / (num_edits * self.scenario.num_cohorts))
        return round(num_edits * share)

    def _waiting_for(self) -> str:
        waiting = sum(not batch.is_done for batch in self._batches)
        return f"{waiting} batches" if waiting > 1 else ""

    # The run

    def _whole_run(self) -> Generator[Ready, None, None]:
        known = yield from self._ask_model()
        prior = yield from self._measure_prior(known)
        yield from self._share_contexts(prior)
        lanes = open_lanes(self.scenario, known.base_weights, self.directory.lane_states())
        if self.directory.committed_round is None:
            self._commit(0, lanes, known)
        else:
            self.journal.event("resumed", self.first_round, detail=f"after round {self.directory.committed_round}")
        for round_number in range(self.first_round, self.scenario.stream.rounds + 1):
            self._round = round_number
            yield from self._one_round(lanes, known, prior)
            self._commit(self._round, lanes, known)

    def _ask_model(self) -> Generator[Ready, None, ModelFacts]:
        answers = yield from self._run_batch("open-model", [Call(("describe",), "describe")])
        known: ModelFacts = answers[0]
        return known

    def _measure_prior(self, known: ModelFacts) -> Generator[Ready, None, Prior]:
        prior = cached_prior(known.prior_fingerprint, self.scenario.editor.edited_layers)
        if prior is None:
            calls = [Call(("prior", chunk), "prior_sum", (chunk,), chunk) for chunk in range(known.prior_chunks)]
            self.meter.enter("prior", 0, len(calls), "chunks")
            prior = add_chunks((yield from self._run_batch("prior", calls)))
            keep_prior(known.prior_fingerprint, prior)
        return prior

    def _share_contexts(self, prior: Prior) -> Generator[Ready, None, None]:
        contexts = self.directory.recall("contexts")
        if contexts is None:
            contexts = (yield from self._run_batch("contexts", [Call(("contexts",), "contexts")]))[0]
            self.directory.remember("contexts", contexts)
        solving = any(lane.method.needs_solver for lane in open_lanes(self.scenario, {}, {}))
        refs = {layer: self.pool.put(gram_KK) for layer, gram_KK in prior.sums.items()} if solving else {}
        self.pool.greet("begin", (tuple(contexts), refs, prior.num_tokens))

    def _run_batch(self, phase: str, calls: Sequence[Call]) -> Generator[Ready, None, list[Any]]:
        values: list[Any] = []
        batch = Batch(phase, calls, lambda _, answer: values.append(answer.value))
        self.add(batch)
        yield _all_done([batch])
        return values

    def _one_round(self, lanes: Sequence[Lane], known: ModelFacts, prior: Prior) -> Work:
        self._holders.clear()
        shared: dict[Key, Batch] = {}
        num_edits = self.stream.num_edits(self._round) * self.scenario.parties.count
        self.meter.enter("targets", self._round, self._num_targets(num_edits, len(lanes)), "edits")
        yield from _side_by_side([self._edit(lane, prior, shared) for lane in lanes])
        if is_evaluated(self.scenario, self._round):
            shown = [unedited(known.base_weights), *lanes]
            total = sum(self._probed(cohort) for cohort in range(self.scenario.num_cohorts)) * len(shown)
            self.meter.enter("evaluate", self._round, total, "edits")
            yield from _side_by_side([self._evaluate(lane, lane in lanes) for lane in shown])

    def _edit(self, lane: Lane, prior: Prior, shared: dict[Key, Batch]) -> Work:
        """One round of one lane."""
        targets_at: dict[int, _Snapshot] = {}
        for step in plan_round(self.scenario.editor, self.scenario.merge.exchange):
            for layer in step.targets:
                targets_at[layer] = self._snapshot(lane)
            optimised = [self._targets(lane, targets_at[layer], layer, shared) for layer in step.targets]
            yield _all_done(optimised)
            weights, history = self._snapshot(lane), self._history(lane)
            sums = [_Sum(self, lane, part, weights, targets_at[part.target_layer], history) for part in step.parts]
            yield _all_done([each.batch for each in sums])
            for part, each in zip(step.parts, sums, strict=True):
                with self.journal.timed("merge", self._round, lanes=[lane.name], layer=part.layer):
                    solver = prior.solver(self.scenario, part.layer, lane.history.get(part.layer))
                    lane.merge(each.total(), solver)

    def _targets(self, lane: Lane, weights: _Snapshot, layer: int, shared: dict[Key, Batch]) -> Batch:
        """Targets under some weights; lanes whose weights are the same share them."""
        key: Key = (weights.key, layer)
        if key not in shared:
            calls = [
                Call(
                    ("targets", key, cohort),
                    "targets",
                    (weights.arrays, self._round, cohort, layer),
                    cohort,
                    holds=(key, cohort),
                )
                for cohort in range(self.scenario.num_cohorts)
            ]
            shared[key] = Batch("targets", calls, lambda _number, _answer: None, layer=layer)
            self.add(shared[key])
        shared[key].lanes.append(lane.name)
        return shared[key]

    def add(self, batch: Batch) -> None:
        """Have a batch worked on."""
        self._batches.append(batch)

    def _evaluate(self, lane: Lane, is_edited: bool) -> Work:
        weights = self._snapshot(lane).arrays
        calls = [
            Call(("evaluate", lane.name, cohort), "evaluate", (weights, self._round, cohort, is_edited), cohort)
            for cohort in range(self.scenario.num_cohorts)
        ]
        parts: list[ProbeSums] = []
        batch = Batch("evaluate", calls, lambda _, answer: parts.append(answer.value), [lane.name])
        self.add(batch)
        yield _all_done([batch])
        self.journal.measured(metric_rows(self.scenario, self._round, lane.name, add_sums(parts)))

    # Weights in the object store

    def _snapshot(self, lane: Lane) -> _Snapshot:
        return _Snapshot(self._stored("weights", lane.weight_versions, lane.weights))

    def _history(self, lane: Lane) -> ArrayRefs:
        if not lane.method.needs_solver:
            return ArrayRefs({}, {})
        return self._stored("history", lane.history_versions, lane.history)

    def _stored(self, kind: str, versions: dict[int, str], arrays: Any) -> ArrayRefs:
        """References to arrays, each put once; those of older versions are let go at the end of the round."""
        refs = {}
        for layer, version in versions.items():
            name = (layer, f"{kind}/{version}")
            if name not in self._refs:
                self._refs[name] = self.pool.put(arrays[layer])
            refs[layer] = self._refs[name]
        return ArrayRefs(dict(versions), refs)

    def _commit(self, round_number: int, lanes: Sequence[Lane], known: ModelFacts) -> None:
        found = all_distances(lanes, known.base_weights, round_number)
        rows = self.journal.close_round(round_number, self.stream, self.facts, found)
        self.directory.commit(round_number, [lane.state(round_number) for lane in lanes], rows)
        self._refs.clear()

    def _num_targets(self, num_edits: int, num_lanes: int) -> int:
        steps = plan_round(self.scenario.editor, self.scenario.merge.exchange)
        first = len(steps[0].targets) * (1 if self._round == 1 else num_lanes)
        return num_edits * (first + num_lanes * sum(len(step.targets) for step in steps[1:]))


class _Sum:
    """The contributions of all cohorts to one layer, added in the order of cohorts as they come."""

    def __init__(
        self,
        coordinator: Coordinator,
        lane: Lane,
        part: Part,
        weights: _Snapshot,
        targets_at: _Snapshot,
        history: ArrayRefs,
    ) -> None:
        self._total: Contribution | None = None
        self._journal, self._lane = coordinator.journal, lane
        round_number = coordinator._round
        calls = [
            Call(
                ("collect", lane.name, round_number, part.layer, cohort),
                "collect",
                (lane.name, round_number, cohort, part, weights.arrays, targets_at.arrays, history),
                cohort,
                wants=((targets_at.key, part.target_layer), cohort),
            )
            for cohort in range(coordinator.scenario.num_cohorts)
        ]
        self.batch = Batch("collect", calls, self._take, [lane.name], part.layer)
        coordinator.add(self.batch)

    def _take(self, cohort: int, answer: Answer) -> None:
        contribution = answer.value.contribution
        contribution.check(f"cohort {cohort}")
        self._journal.sent(self._lane.name, cohort, answer.value.party_bytes)
        self._total = contribution if self._total is None else self._total + contribution

    def total(self) -> Contribution:
        """The sum, once the batch is done."""
        assert self._total is not None
        return self._total


def _all_done(batches: Sequence[Batch]) -> Ready:
    return lambda: all(batch.is_done for batch in batches)


def _side_by_side(works: Iterable[Work]) -> Work:
    """Several lanes' work at once: goes on as soon as any of them can, and ends when all have."""
    running = [(work, ready) for work in works if (ready := next(work, None)) is not None]
    while running:
        yield _any_ready([ready for _, ready in running])
        moved = [(work, next(work, None) if ready() else ready) for work, ready in running]
        running = [(work, ready) for work, ready in moved if ready is not None]


def _any_ready(waiting: Sequence[Ready]) -> Ready:
    return lambda: any(ready() for ready in waiting)
