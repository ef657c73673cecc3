"""The coordinator: a state machine that hands party batches to workers, adds up what they send, merges and commits.

The run is a generator that yields what it waits for; :meth:`Coordinator.step` moves it as far as the answers
allow. Within a round the arms run side by side; a round is committed when every arm has finished it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from consortium.common.progress import Meter, Progress
from consortium.data.edit import FactSet
from consortium.engine.arms import (
    Arm,
    all_distances,
    expected_work,
    num_optimisations,
    open_arms,
    unedited,
    units_of,
)
from consortium.engine.commit import Commit
from consortium.engine.key_covariance import (
    KeyCovariance,
    add_chunk,
    cached_covariance,
    hold_model_against,
    keep_covariance,
    left_out_of,
    unmeasured,
)
from consortium.engine.round_log import NOT_FINITE, RoundLog
from consortium.engine.rounds import batches_of
from consortium.evaluation.schedule import is_evaluated, num_probed
from consortium.features.registry import open_stream, round_hooks
from consortium.loading.inputs import model_inputs
from consortium.merging.arm_state import ArmState
from consortium.merging.reference_norms import all_reference_norms
from consortium.party.targets import TargetReport
from consortium.records.directory import RunDirectory
from consortium.records.rows import NodeRow
from consortium.scenario.schema import Scenario

from consortium_ray.coordinator.batches import CallBatch
from consortium_ray.coordinator.dispatcher import Dispatcher
from consortium_ray.coordinator.round_tasks import Ready, RoundWork, Steps, all_done, announced_by, interleaved
from consortium_ray.faults.injection import Faults
from consortium_ray.messages import Call, ModelFacts, Reply
from consortium_ray.nodes.metrics import RunStatus
from consortium_ray.workers.pool import Pool, Returned

#: How long a step waits for a disk at once.
_NAP_S = 0.05


@dataclass(frozen=True)
class _Done:
    """A round that is done and not yet written down."""

    round: int
    round_log: RoundLog
    states: list[ArmState]


class Coordinator:
    """Runs a scenario over a pool of workers.

    Args:
        scenario: the scenario as resolved.
        directory: where the run is recorded; it may hold committed rounds already.
        facts: all facts, for the tables; workers have their own.
        pool: the workers.
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
        self.hooks = round_hooks(scenario, self.stream)
        self.round_log = self._open_round_log()  # of the present round
        self._round = self._probed = self._num_edited = 0
        self._ended, self._has_ended = (0, 0), False  # bytes and refusals in rounds that ended; whether this one has
        self._is_open = False  # the first round has begun
        self._first_round = (directory.committed_round or 0) + 1
        self._told: list[Progress] = []
        work = expected_work(scenario, self.stream, self._first_round)
        self.meter = Meter(scenario.stream.rounds, work, self._told.append)
        self.faults = Faults(scenario, directory.recall, directory.remember)
        self.dispatcher = Dispatcher(pool, self.faults, self.round_log, self._advance)
        self._awaits_disk = False
        self._main = self._whole_run()
        self._ready: Ready | None = next(self._main)

    # Stepping

    @property
    def is_done(self) -> bool:
        """The last round is committed."""
        return self._ready is None

    @property
    def status(self) -> RunStatus:
        """How the run stands now."""
        num_bytes, num_parties_rejected = self._ended
        if not self._has_ended:
            num_bytes, num_parties_rejected = (
                num_bytes + self.round_log.num_bytes,
                num_parties_rejected + self.round_log.num_parties_rejected,
            )
        committed = self.directory.committed_round or 0
        return RunStatus(self._round, committed, self.dispatcher.num_awaited, num_bytes, num_parties_rejected)

    def step(self, timeout_s: float) -> list[Progress]:
        """Hand out calls, wait a while for what workers say, and move on; returns what there is to tell since.

        Raises:
            ConsortiumError: the run cannot go on.
        """
        self.dispatcher.hand_out()
        # Until the first round's calls are there, as many workers start as that round will employ.
        num_workers = self.dispatcher.num_employable() if self._is_open else self.scenario.num_party_batches
        self.pool.want(num_workers, self.dispatcher.keeping())
        self._listen(timeout_s)
        self.dispatcher.relieve()
        while self._ready is not None and self._ready():
            self._ready = next(self._main, None)
            # What was done just now may have been a merge, and workers have answered meanwhile.
            self._listen(0.0)
        self.dispatcher.hand_out()
        self.meter.show("space on the disk" if self._awaits_disk else self.dispatcher.waiting_for())
        told, self._told[:] = list(self._told), []
        return told

    def _listen(self, timeout_s: float) -> None:
        """Take what workers say, and give each of them the next call that is urgent before anything else is done.

        What can wait is left for later: what follows from the answers may be more urgent.
        """
        self.dispatcher.hand_out(only_urgent=True)
        for event in self.pool.wait(timeout_s):
            self.dispatcher.react(event)
            self.dispatcher.hand_out(only_urgent=True)

    def _advance(self, batch: CallBatch, event: Returned) -> None:
        units = units_of(self.scenario, self.stream, batch.phase, self._round, event.call.party_batch)
        report = event.answer.value
        is_cached = isinstance(report, TargetReport) and report.num_cached > 0
        (self.meter.skip if is_cached else self.meter.advance)(units, batch.phase)
        self._probed += units if batch.phase == "evaluate" else 0

    # The run

    def _whole_run(self) -> Steps:
        is_new = self.directory.committed_round is None
        if not is_new:
            self._begin_round(self._first_round)
        self.round_log.notes(self.directory.manifest.untold, self._round)
        if not is_new:
            self.round_log.event("resumed", self._round, detail=f"after round {self.directory.committed_round}")
        known = yield from self._ask_model()
        written = self._write_contexts()
        covariance = yield from self._measure_covariance(known)
        for words in hold_model_against(self.directory, known.covariance_fingerprint, covariance):
            self.round_log.event("changed", self._round, detail=words)
        yield from self._share(written, covariance, known)
        arms = open_arms(self.scenario, known.base_weights, self.directory.arm_states())
        self._is_open = True
        done = self._end_round(arms) if is_new else None
        if not is_new:
            yield from self._decide_earlier_rounds()
        for round_number in range(self._first_round, self.scenario.stream.rounds + 1):
            if round_number > self._round:
                self._begin_round(round_number)
            work = self._one_round(arms, known, covariance)
            first = next(work)
            for _ in (hook for hook in self.hooks if hook.announces):
                # It takes no time, and workers shall have targets to make while the round before is written down.
                yield first
                first = next(work)
            if done is not None:
                # Workers go on with the next round while the one before is written down.
                yield self.dispatcher.is_loaded
                yield from self._commit(done, arms, known)
            yield first
            yield from work
            done = self._end_round(arms)
        if done is not None:
            yield from self._commit(done, arms, known)

    def _decide_earlier_rounds(self) -> Steps:
        """What was decided in committed rounds is decided again, where a feature's later decisions build on it."""
        for hook in (each for each in self.hooks if each.announces):
            for number in hook.undecided(self._first_round)[:-1]:
                announced = yield from announced_by(hook, batches_of(self.scenario, number), self.dispatcher.add)
                hook.decide(number, announced)

    def _open_round_log(self) -> RoundLog:
        return RoundLog(self.scenario, lambda: self.directory.worked_s, self.hooks)

    def _begin_round(self, number: int) -> None:
        self._round, self._probed, self._num_edited = number, 0, 0
        self._has_ended = False
        self.round_log = self._open_round_log()
        self.dispatcher.begin_round(number, self.round_log)

    def _ask_model(self) -> Generator[Ready, None, ModelFacts]:
        known: ModelFacts = yield from self._ask("open-model", Call(("describe",), "describe"))
        made_of = model_inputs(known.covariance_fingerprint, {}, 0)
        if made_of:  # every machine opens the model by its name, and may find another there
            self.pool.add_setup_call("compare", (made_of,))
        return known

    def _tell_of_cache(self, words: str) -> None:
        self.round_log.event("cache-damaged", self._round, detail=words)

    def _measure_covariance(self, known: ModelFacts) -> Generator[Ready, None, KeyCovariance]:
        if not self.scenario.editor.uses_covariance:
            return unmeasured(known.base_weights)
        covariance = cached_covariance(
            known.covariance_fingerprint, self.scenario.editor.edited_layers, self._tell_of_cache
        )
        if covariance is None:
            calls = [
                Call(("covariance", chunk), "covariance_sum", (chunk,), chunk)
                for chunk in range(known.covariance_chunks)
            ]
            self.meter.enter("covariance", 0, len(calls), "chunks")
            covariance = yield from self._add_up_covariance(calls)
            keep_covariance(known.covariance_fingerprint, covariance)
        told = left_out_of(covariance, known.covariance_length, self.scenario.evaluate.max_not_finite)
        if told is not None:
            self.round_log.event(NOT_FINITE, self._round, detail=told)
        return covariance

    def _add_up_covariance(self, calls: Sequence[Call]) -> Generator[Ready, None, KeyCovariance]:
        total: KeyCovariance | None = None

        def take(_: int, answer: Reply) -> None:
            nonlocal total
            total = add_chunk(total, answer.value)

        yield from self._work_on(CallBatch("covariance", calls, take, by_party_batch=False))
        assert total is not None, "a key covariance has at least one chunk"
        return total

    def _write_contexts(self) -> CallBatch | None:
        """Have a worker write the contexts, while others measure the key covariance; None where the run has them
        already."""
        if self.directory.recall("contexts") is not None:
            return None

        def keep(_: int, answer: Reply) -> None:
            self.directory.remember("contexts", answer.value)

        writing = CallBatch("contexts", [Call(("contexts",), "contexts")], keep, by_party_batch=False)
        self.dispatcher.add(writing)
        return writing

    def _share(self, written: CallBatch | None, covariance: KeyCovariance, known: ModelFacts) -> Steps:
        if written is not None:
            yield all_done([written])
        contexts = self.directory.recall("contexts")
        solving = any(method.needs_solver for method in self.scenario.merge.methods)
        needed = solving or self.scenario.editor.maps_keys
        refs = {layer: self.pool.put(gram_KK) for layer, gram_KK in covariance.sums.items()} if needed else {}
        measures = all_reference_norms(known.base_weights, covariance.sums, covariance.num_tokens)
        self.pool.add_setup_call("begin", (tuple(contexts), refs, covariance.num_tokens, measures))

    def _ask(self, phase: str, call: Call) -> Generator[Ready, None, Any]:
        """The answer of whichever worker is free."""
        values: list[Any] = []
        yield from self._work_on(
            CallBatch(phase, [call], lambda _, answer: values.append(answer.value), by_party_batch=False)
        )
        return values[0]

    def _work_on(self, batch: CallBatch) -> Steps:
        self.dispatcher.add(batch)
        yield all_done([batch])

    def _one_round(self, arms: Sequence[Arm], known: ModelFacts, covariance: KeyCovariance) -> Steps:
        add, put, hand_out = self.dispatcher.add, self.pool.put, self.dispatcher.hand_out
        work = RoundWork(
            self.scenario,
            self._round,
            covariance,
            self.round_log,
            add,
            put,
            hand_out,
            self.hooks,
            self._at_merge,
            self._num_machines,
        )
        yield from work.announce()
        num_edits = self.stream.num_requests(self._round)
        self.meter.enter("targets", self._round, num_edits * num_optimisations(self.scenario, self._round), "edits")
        works = [self._arm_round(work, arm, len(arms)) for arm in arms]
        if is_evaluated(self.scenario, self._round):
            works.append(work.evaluate(unedited(known.base_weights), is_edited=False))
        yield from interleaved(works)

    def _num_machines(self) -> int:
        return len(set(self.pool.machines().values()))

    def _arm_round(self, work: RoundWork, arm: Arm, num_arms: int) -> Steps:
        """An arm's edits, and its evaluation as soon as it is edited: no arm waits for another."""
        yield from work.edit(arm)
        self._num_edited += 1
        if is_evaluated(self.scenario, self._round):
            if self._num_edited == num_arms:
                self.dispatcher.release()
                probed = num_probed(self.scenario, self.stream, self._round, range(self.scenario.parties.count))
                self.meter.enter("evaluate", self._round, probed * (1 + num_arms), "edits", done=self._probed)
            yield from work.evaluate(arm, is_edited=True)

    def _end_round(self, arms: Sequence[Arm]) -> _Done:
        """The round's work is done; what is to be written of it does not change any more."""
        self.round_log.event("commit", self._round)
        num_bytes, num_parties_rejected = self._ended
        self._ended = num_bytes + self.round_log.num_bytes, num_parties_rejected + self.round_log.num_parties_rejected
        self._has_ended = True
        return _Done(self._round, self.round_log, [arm.state(self._round) for arm in arms])

    def _at_merge(self, arm: str, layer: int) -> None:
        self.dispatcher.inject(self.faults.at_merge(self._round, arm, layer))

    def _commit(self, done: _Done, arms: Sequence[Arm], known: ModelFacts) -> Steps:
        # Told among the next round's events: by then it is known how long this one's records took.
        with self.round_log.timed("records", done.round + 1) as event:
            event.detail = f"of round {done.round}"
            found = all_distances(arms, known.base_weights, done.round)
            rows = done.round_log.close_round(done.round, self.stream, self.facts, found)
            policy = self.scenario.cluster.on_failure
            rows = replace(rows, nodes=self._seen_of_nodes(done.round))
            commit = Commit(self.directory, done.round, done.states, rows, policy, partial(self._reached, done.round))
            while (wait_s := commit.attempt()) is not None:
                self.round_log.event("disk-full", done.round + 1, detail=f"round {done.round} is written again")
                self._awaits_disk = True
                yield _after(wait_s)
                self._awaits_disk = False

    def _reached(self, round_number: int, stage: str) -> None:
        """A stage of a commit is about to begin; something may break there on purpose."""
        self.dispatcher.inject(self.faults.at_commit(round_number, stage))


def _after(wait_s: float) -> Ready:
    """Ready after so many seconds; sleeps a little whenever it is asked, since workers may have nothing to say."""
    until = time.monotonic() + wait_s

    def ready() -> bool:
        time.sleep(max(0.0, min(_NAP_S, until - time.monotonic())))
        return time.monotonic() >= until

    return ready
