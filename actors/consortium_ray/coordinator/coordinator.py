"""The coordinator: a state machine that hands cohorts to hosts, adds up what they send, merges and commits.

The run is a generator that yields what it waits for; :meth:`Coordinator.step` moves it as far as the answers
allow. Within a round the lanes run side by side; a round is committed when every lane has finished it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from consortium.common.progress import Meter, Progress
from consortium.data.edit import FactSet
from consortium.editing.editors.registry import create
from consortium.engine.commit import Commit
from consortium.engine.lanes import (
    Lane,
    all_distances,
    batches_of,
    expected_work,
    num_optimisations,
    open_lanes,
    unedited,
    units_of,
)
from consortium.engine.prior import (
    Prior,
    add_chunk,
    cached_prior,
    hold_model_against,
    keep_prior,
    left_out_of,
    unmeasured,
)
from consortium.engine.round_log import NOT_FINITE, Journal
from consortium.evaluation.schedule import is_evaluated, num_probed
from consortium.features.conflicts.resolver import Standing
from consortium.features.unlearning.requests import cohorts_taking_back
from consortium.features.virtual_time.stream import open_stream
from consortium.loading.inputs import model_inputs
from consortium.merging.lane_state import LaneState
from consortium.merging.reference_norms import yardsticks
from consortium.party.worker import TargetReport
from consortium.records.directory import RunDirectory
from consortium.records.rows import NodeRow
from consortium.scenario.schema import Scenario

from consortium_ray.coordinator.batches import Batch
from consortium_ray.coordinator.dispatcher import Dispatcher
from consortium_ray.coordinator.round_tasks import Ready, RoundWork, Work, all_done, side_by_side, slips_of_round
from consortium_ray.faults.injection import Faults
from consortium_ray.messages import Answer, Call, ModelFacts
from consortium_ray.nodes.metrics import Glance
from consortium_ray.workers.pool import Answered, Pool

#: How long a step waits for a disk at once.
_NAP_S = 0.05


@dataclass(frozen=True)
class _Done:
    """A round that is done and not yet written down."""

    round: int
    journal: Journal
    states: list[LaneState]


class Coordinator:
    """Runs a scenario over a pool of hosts.

    Args:
        scenario: the scenario as resolved.
        directory: where the run is recorded; it may hold committed rounds already.
        facts: all facts, for the tables; hosts have their own.
        pool: the hosts.
        seen_of_nodes: round → rows of what was seen of the cluster since it was last called.
    """

    def __init__(
        self,
        scenario: Scenario,
        directory: RunDirectory,
        facts: FactSet,
        pool: Pool,
        seen_of_nodes: Callable[[int], Sequence[NodeRow]] = lambda round_number: (),
    ) -> None:
        self.scenario = scenario
        self.directory = directory
        self.facts = facts
        self.pool = pool
        self._seen_of_nodes = seen_of_nodes
        self.stream = open_stream(scenario, facts.relations())
        self.journal = Journal(scenario, lambda: directory.worked_s)  # of the present round
        self.standing = Standing(scenario.conflicts)
        self._round = self._probed = self._num_edited = 0
        self._ended, self._has_ended = (0, 0), False  # bytes and refusals in rounds that ended; whether this one has
        self._is_open = False  # the first round has begun
        self._first_round = (directory.committed_round or 0) + 1
        self._told: list[Progress] = []
        work = expected_work(scenario, self.stream, self._first_round)
        self.meter = Meter(scenario.stream.rounds, work, self._told.append)
        self.faults = Faults(scenario, directory.recall, directory.remember)
        self.dispatcher = Dispatcher(pool, self.faults, self.journal, self._advance)
        self._awaits_disk = False
        self._main = self._whole_run()
        self._ready: Ready | None = next(self._main)

    # Stepping

    @property
    def is_done(self) -> bool:
        """The last round is committed."""
        return self._ready is None

    @property
    def glance(self) -> Glance:
        """How the run stands now."""
        num_bytes, num_refused = self._ended
        if not self._has_ended:
            num_bytes, num_refused = num_bytes + self.journal.num_bytes, num_refused + self.journal.num_refused
        committed = self.directory.committed_round or 0
        return Glance(self._round, committed, self.dispatcher.num_awaited, num_bytes, num_refused)

    def step(self, timeout_s: float) -> list[Progress]:
        """Hand out calls, wait a while for what hosts say, and move on; returns what there is to tell since.

        Raises:
            ConsortiumError: the run cannot go on.
        """
        self.dispatcher.hand_out()
        # Until the first round's calls are there, as many hosts start as that round will employ.
        num_hosts = self.dispatcher.num_employable() if self._is_open else self.scenario.num_cohorts
        self.pool.want(num_hosts, self.dispatcher.keeping())
        self._listen(timeout_s)
        self.dispatcher.relieve()
        while self._ready is not None and self._ready():
            self._ready = next(self._main, None)
            # What was done just now may have been a merge, and hosts have answered meanwhile.
            self._listen(0.0)
        self.dispatcher.hand_out()
        self.meter.show("space on the disk" if self._awaits_disk else self.dispatcher.waiting_for())
        told, self._told[:] = list(self._told), []
        return told

    def _listen(self, timeout_s: float) -> None:
        """Take what hosts say, and give each of them the next call that is urgent before anything else is done.

        What can wait is left for later: what follows from the answers may be more urgent.
        """
        self.dispatcher.hand_out(only_urgent=True)
        for event in self.pool.wait(timeout_s):
            self.dispatcher.react(event)
            self.dispatcher.hand_out(only_urgent=True)

    def _advance(self, batch: Batch, event: Answered) -> None:
        units = units_of(self.scenario, self.stream, batch.phase, self._round, event.call.cohort)
        report = event.answer.value
        is_cached = isinstance(report, TargetReport) and report.num_cached > 0
        (self.meter.skip if is_cached else self.meter.advance)(units, batch.phase)
        self._probed += units if batch.phase == "evaluate" else 0

    # The run

    def _whole_run(self) -> Work:
        is_new = self.directory.committed_round is None
        if not is_new:
            self._begin_round(self._first_round)
        self.journal.notes(self.directory.manifest.untold, self._round)
        if not is_new:
            self.journal.event("resumed", self._round, detail=f"after round {self.directory.committed_round}")
        known = yield from self._ask_model()
        written = self._write_contexts()
        prior = yield from self._measure_prior(known)
        for words in hold_model_against(self.directory, known.prior_fingerprint, prior):
            self.journal.event("changed", self._round, detail=words)
        yield from self._share(written, prior, known)
        lanes = open_lanes(self.scenario, known.base_weights, self.directory.lane_states())
        self._is_open = True
        done = self._end_round(lanes) if is_new else None
        if self.scenario.settles and not is_new:
            yield from self._settle_earlier_rounds()
        for round_number in range(self._first_round, self.scenario.stream.rounds + 1):
            if round_number > self._round:
                self._begin_round(round_number)
            work = self._one_round(lanes, known, prior)
            first = next(work)
            if self.scenario.settles:
                # Slips take no time, and hosts shall have targets to make while the round before is written down.
                yield first
                first = next(work)
            if done is not None:
                # Hosts go on with the next round while the one before is written down.
                yield self.dispatcher.is_loaded
                yield from self._commit(done, lanes, known)
            yield first
            yield from work
            done = self._end_round(lanes)
        if done is not None:
            yield from self._commit(done, lanes, known)

    def _settle_earlier_rounds(self) -> Work:
        """What committed rounds settled follows from their slips; nothing where each round is settled by itself."""
        for number in self.standing.missing(self._first_round)[:-1]:
            slips = yield from slips_of_round(batches_of(self.scenario, number), self.dispatcher.add)
            self.standing.settle(number, slips)

    def _begin_round(self, number: int) -> None:
        self._round, self._probed, self._num_edited = number, 0, 0
        self._has_ended = False
        self.journal = Journal(self.scenario, lambda: self.directory.worked_s)
        self.dispatcher.begin_round(number, self.journal)

    def _ask_model(self) -> Generator[Ready, None, ModelFacts]:
        known: ModelFacts = yield from self._ask("open-model", Call(("describe",), "describe"))
        made_of = model_inputs(known.prior_fingerprint, {}, 0)
        if made_of:  # every machine opens the model by its name, and may find another there
            self.pool.greet("compare", (made_of,))
        return known

    def _tell_of_cache(self, words: str) -> None:
        self.journal.event("cache-damaged", self._round, detail=words)

    def _measure_prior(self, known: ModelFacts) -> Generator[Ready, None, Prior]:
        if not create(self.scenario.editor).uses_prior:
            return unmeasured(known.base_weights)
        prior = cached_prior(known.prior_fingerprint, self.scenario.editor.edited_layers, self._tell_of_cache)
        if prior is None:
            calls = [Call(("prior", chunk), "prior_sum", (chunk,), chunk) for chunk in range(known.prior_chunks)]
            self.meter.enter("prior", 0, len(calls), "chunks")
            prior = yield from self._add_up_prior(calls)
            keep_prior(known.prior_fingerprint, prior)
        told = left_out_of(prior, known.prior_length, self.scenario.evaluate.max_not_finite)
        if told is not None:
            self.journal.event(NOT_FINITE, self._round, detail=told)
        return prior

    def _add_up_prior(self, calls: Sequence[Call]) -> Generator[Ready, None, Prior]:
        total: Prior | None = None

        def take(_: int, answer: Answer) -> None:
            nonlocal total
            total = add_chunk(total, answer.value)

        yield from self._work_on(Batch("prior", calls, take, by_cohort=False))
        assert total is not None, "a prior has at least one chunk"
        return total

    def _write_contexts(self) -> Batch | None:
        """Have a host write the contexts, while others measure the prior; None where the run has them already."""
        if self.directory.recall("contexts") is not None:
            return None

        def keep(_: int, answer: Answer) -> None:
            self.directory.remember("contexts", answer.value)

        writing = Batch("contexts", [Call(("contexts",), "contexts")], keep, by_cohort=False)
        self.dispatcher.add(writing)
        return writing

    def _share(self, written: Batch | None, prior: Prior, known: ModelFacts) -> Work:
        if written is not None:
            yield all_done([written])
        contexts = self.directory.recall("contexts")
        solving = any(lane.method.needs_solver for lane in open_lanes(self.scenario, {}, {}))
        needed = solving or create(self.scenario.editor).maps_keys
        refs = {layer: self.pool.put(gram_KK) for layer, gram_KK in prior.sums.items()} if needed else {}
        measures = yardsticks(known.base_weights, prior.sums, prior.num_tokens)
        self.pool.greet("begin", (tuple(contexts), refs, prior.num_tokens, measures))

    def _ask(self, phase: str, call: Call) -> Generator[Ready, None, Any]:
        """The answer of whichever host is free."""
        values: list[Any] = []
        yield from self._work_on(Batch(phase, [call], lambda _, answer: values.append(answer.value), by_cohort=False))
        return values[0]

    def _work_on(self, batch: Batch) -> Work:
        self.dispatcher.add(batch)
        yield all_done([batch])

    def _one_round(self, lanes: Sequence[Lane], known: ModelFacts, prior: Prior) -> Work:
        add, put, hand_out = self.dispatcher.add, self.pool.put, self.dispatcher.hand_out
        taking_back = cohorts_taking_back(self.scenario, self.stream, self._round)
        work = RoundWork(
            self.scenario,
            self._round,
            prior,
            self.journal,
            add,
            put,
            hand_out,
            self.standing,
            taking_back,
            self._at_merge,
            self._num_machines,
        )
        if self.scenario.settles:
            yield from work.announce()
        num_edits = self.stream.num_requests(self._round)
        self.meter.enter("targets", self._round, num_edits * num_optimisations(self.scenario, self._round), "edits")
        works = [self._lane_round(work, lane, len(lanes)) for lane in lanes]
        if is_evaluated(self.scenario, self._round):
            works.append(work.evaluate(unedited(known.base_weights), is_edited=False))
        yield from side_by_side(works)

    def _num_machines(self) -> int:
        return len(set(self.pool.machines().values()))

    def _lane_round(self, work: RoundWork, lane: Lane, num_lanes: int) -> Work:
        """A lane's edits, and its evaluation as soon as it is edited: no lane waits for another."""
        yield from work.edit(lane)
        self._num_edited += 1
        if is_evaluated(self.scenario, self._round):
            if self._num_edited == num_lanes:
                self.dispatcher.release()
                probed = num_probed(self.scenario, self.stream, self._round, range(self.scenario.parties.count))
                self.meter.enter("evaluate", self._round, probed * (1 + num_lanes), "edits", done=self._probed)
            yield from work.evaluate(lane, is_edited=True)

    def _end_round(self, lanes: Sequence[Lane]) -> _Done:
        """The round's work is done; what is to be written of it does not change any more."""
        self.journal.event("commit", self._round)
        num_bytes, num_refused = self._ended
        self._ended = num_bytes + self.journal.num_bytes, num_refused + self.journal.num_refused
        self._has_ended = True
        return _Done(self._round, self.journal, [lane.state(self._round) for lane in lanes])

    def _at_merge(self, lane: str, layer: int) -> None:
        self.dispatcher.strike(self.faults.at_merge(self._round, lane, layer))

    def _commit(self, done: _Done, lanes: Sequence[Lane], known: ModelFacts) -> Work:
        # Told among the next round's events: by then it is known how long this one's records took.
        with self.journal.timed("records", done.round + 1) as event:
            event.detail = f"of round {done.round}"
            found = all_distances(lanes, known.base_weights, done.round)
            rows = done.journal.close_round(done.round, self.stream, self.facts, found)
            policy = self.scenario.cluster.on_failure
            rows = replace(rows, nodes=self._seen_of_nodes(done.round))
            commit = Commit(self.directory, done.round, done.states, rows, policy, partial(self._reached, done.round))
            while (wait_s := commit.attempt()) is not None:
                self.journal.event("disk-full", done.round + 1, detail=f"round {done.round} is written again")
                self._awaits_disk = True
                yield _after(wait_s)
                self._awaits_disk = False

    def _reached(self, round_number: int, stage: str) -> None:
        """A stage of a commit is about to begin; something may break there on purpose."""
        self.dispatcher.strike(self.faults.at_commit(round_number, stage))


def _after(wait_s: float) -> Ready:
    """Ready after so many seconds; sleeps a little whenever it is asked, since hosts may have nothing to say."""
    until = time.monotonic() + wait_s

    def ready() -> bool:
        time.sleep(max(0.0, min(_NAP_S, until - time.monotonic())))
        return time.monotonic() >= until

    return ready
