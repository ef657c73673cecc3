"""The coordinator: a state machine that hands cohorts to hosts, adds up what they send, merges and commits.

The run is a generator that yields what it waits for; :meth:`Coordinator.step` moves it as far as the answers
allow. Within a round the lanes run side by side; a round is committed when every lane has finished it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from consortium.facts.edit import FactSet
from consortium.journal import Journal
from consortium.lanes import Lane, all_distances, expected_work, num_optimisations, open_lanes, unedited, units_of
from consortium.progress import Meter, Progress
from consortium.records.directory import RunDirectory
from consortium.rounds import is_evaluated, num_sampled
from consortium.scenario.schema import Scenario
from consortium.start import Prior, add_chunk, cached_prior, keep_prior
from consortium.streams.stream import Stream

from consortium_ray.batches import Batch
from consortium_ray.dispatcher import Dispatcher
from consortium_ray.faults import Faults
from consortium_ray.lane_work import Ready, RoundWork, Work, all_done, side_by_side
from consortium_ray.messages import Answer, Call, ModelFacts
from consortium_ray.pool import Pool


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
        self._first_round = (directory.committed_round or 0) + 1
        self._told: list[Progress] = []
        work = expected_work(scenario, self.stream, self._first_round)
        self.meter = Meter(scenario.stream.rounds, work, self._told.append)
        self.dispatcher = Dispatcher(pool, Faults(scenario.faults), self.journal, self._advance)
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
        self.dispatcher.hand_out()
        for event in self.pool.wait(timeout_s):
            self.dispatcher.react(event)
        while self._ready is not None and self._ready():
            self._ready = next(self._main, None)
        self.dispatcher.hand_out()
        self.meter.show(self.dispatcher.waiting_for())
        told, self._told[:] = list(self._told), []
        return told

    def _advance(self, batch: Batch, call: Call) -> None:
        units = units_of(self.scenario, self.stream, batch.phase, self._round, call.cohort)
        self.meter.advance(units, batch.phase)

    # The run

    def _whole_run(self) -> Work:
        self._begin_round(0 if self.directory.committed_round is None else self._first_round)
        if self._round:
            self.journal.event("resumed", self._round, detail=f"after round {self.directory.committed_round}")
        known = yield from self._ask_model()
        prior = yield from self._measure_prior(known)
        yield from self._share_contexts(prior)
        lanes = open_lanes(self.scenario, known.base_weights, self.directory.lane_states())
        if self._round == 0:
            self._commit(lanes, known)
        for round_number in range(self._first_round, self.scenario.stream.rounds + 1):
            self._begin_round(round_number)
            yield from self._one_round(lanes, known, prior)
            self._commit(lanes, known)

    def _begin_round(self, number: int) -> None:
        self._round = number
        self.dispatcher.begin_round(number)

    def _ask_model(self) -> Generator[Ready, None, ModelFacts]:
        known: ModelFacts = yield from self._ask("open-model", Call(("describe",), "describe"))
        return known

    def _measure_prior(self, known: ModelFacts) -> Generator[Ready, None, Prior]:
        prior = cached_prior(known.prior_fingerprint, self.scenario.editor.edited_layers)
        if prior is None:
            calls = [Call(("prior", chunk), "prior_sum", (chunk,), chunk) for chunk in range(known.prior_chunks)]
            self.meter.enter("prior", 0, len(calls), "chunks")
            prior = yield from self._add_up_prior(calls)
            keep_prior(known.prior_fingerprint, prior)
        return prior

    def _add_up_prior(self, calls: Sequence[Call]) -> Generator[Ready, None, Prior]:
        total: Prior | None = None

        def take(_: int, answer: Answer) -> None:
            nonlocal total
            total = add_chunk(total, answer.value)

        yield from self._work_on(Batch("prior", calls, take, by_cohort=False))
        assert total is not None, "a prior has at least one chunk"
        return total

    def _share_contexts(self, prior: Prior) -> Work:
        contexts = self.directory.recall("contexts")
        if contexts is None:
            contexts = yield from self._ask("contexts", Call(("contexts",), "contexts"))
            self.directory.remember("contexts", contexts)
        solving = any(lane.method.needs_solver for lane in open_lanes(self.scenario, {}, {}))
        refs = {layer: self.pool.put(gram_KK) for layer, gram_KK in prior.sums.items()} if solving else {}
        self.pool.greet("begin", (tuple(contexts), refs, prior.num_tokens))

    def _ask(self, phase: str, call: Call) -> Generator[Ready, None, Any]:
        """The answer of whichever host is free."""
        values: list[Any] = []
        yield from self._work_on(Batch(phase, [call], lambda _, answer: values.append(answer.value), by_cohort=False))
        return values[0]

    def _work_on(self, batch: Batch) -> Work:
        self.dispatcher.add(batch)
        yield all_done([batch])

    def _one_round(self, lanes: Sequence[Lane], known: ModelFacts, prior: Prior) -> Work:
        work = RoundWork(self.scenario, self._round, prior, self.journal, self.dispatcher.add, self.pool.put)
        num_edits = self.stream.num_edits(self._round) * self.scenario.parties.count
        self.meter.enter("targets", self._round, num_edits * num_optimisations(self.scenario, self._round), "edits")
        yield from side_by_side([work.edit(lane) for lane in lanes])
        if is_evaluated(self.scenario, self._round):
            shown = [unedited(known.base_weights), *lanes]
            sampled = num_sampled(self.scenario, self.stream, self._round, range(self.scenario.parties.count))
            self.meter.enter("evaluate", self._round, sampled * len(shown), "edits")
            yield from side_by_side([work.evaluate(lane, lane in lanes) for lane in shown])

    def _commit(self, lanes: Sequence[Lane], known: ModelFacts) -> None:
        found = all_distances(lanes, known.base_weights, self._round)
        rows = self.journal.close_round(self._round, self.stream, self.facts, found)
        self.directory.commit(self._round, [lane.state(self._round) for lane in lanes], rows)
