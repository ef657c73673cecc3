"""The serial twin: a whole run in one process, as plain loops. It is the oracle of the Ray runtime.

for each round:
    where doubles or contradictions are to be settled: slips of all cohorts, and what follows from them
    for each lane:
        for each step of the round: targets, then for each layer: collect, add up, merge
    evaluate every lane, and commit
"""

from __future__ import annotations

from collections.abc import Hashable

import torch

from consortium.agreement.settlement import UNSETTLED, Settled, settle
from consortium.editing.open import open_backend
from consortium.editing.overlap import add_residuals
from consortium.evaluation.metrics import add_sums
from consortium.facts.edit import FactSet
from consortium.journal import Journal
from consortium.lanes import Lane, all_distances, expected_work, open_lanes, unedited, units_of
from consortium.merging.grouped import GroupedSum
from consortium.progress import Meter, ReportProgress
from consortium.records.directory import RunDirectory
from consortium.retractions import cohorts_taking_back
from consortium.rounds import Part, is_evaluated, metric_rows, num_probed
from consortium.scenario.schema import Scenario
from consortium.shard import Weights
from consortium.start import Prior, add_chunk, cached_prior, keep_prior, unmeasured
from consortium.worker import CohortWorker


def run(scenario: Scenario, directory: RunDirectory, facts: FactSet, report_progress: ReportProgress) -> None:
    """Run a scenario from where its directory stands to its end.

    Raises:
        ConsortiumError: the model cannot be opened, or numbers went bad.
    """
    torch.set_num_threads(scenario.cluster.threads)
    directory.mark_running()
    _Run(scenario, directory, facts, report_progress).to_the_end()
    directory.mark_done()


class _Run:
    def __init__(
        self, scenario: Scenario, directory: RunDirectory, facts: FactSet, report_progress: ReportProgress
    ) -> None:
        self.scenario, self.directory, self.facts = scenario, directory, facts
        self.journal = Journal(scenario, lambda: directory.worked_s)
        self.first_round = (directory.committed_round or 0) + 1
        # What happens before the first round is written with the first commit, that of round 0 in a new run.
        starting = 0 if directory.committed_round is None else self.first_round
        if starting:
            self.journal.event("resumed", starting, detail=f"after round {directory.committed_round}")
        with self.journal.timed("open-model", starting):
            self.worker = CohortWorker(scenario, facts, open_backend(scenario, facts))
        self.base = self.worker.backend.base_weights()
        work = expected_work(scenario, self.worker.stream, self.first_round)
        self.meter = Meter(scenario.stream.rounds, work, report_progress)
        self.prior = self._measure_prior()
        self.worker.begin(self._contexts(), self.prior.sums, self.prior.num_tokens)
        self.lanes = open_lanes(scenario, self.base, directory.lane_states())
        self.cohorts = range(scenario.num_cohorts)
        self.optimised: set[Hashable] = set()
        self.settled: list[Settled] = [UNSETTLED] * scenario.num_cohorts  # of the present round, by cohort
        self.started: dict[str, Weights] = {}  # lane → its weights when the present round began

    def _measure_prior(self) -> Prior:
        if not self.worker.editor.uses_prior:
            return unmeasured(self.base)
        backend = self.worker.backend
        fingerprint = backend.prior_fingerprint()
        prior = cached_prior(fingerprint, self.scenario.editor.edited_layers)
        if prior is None:
            num_chunks = backend.prior_chunks()
            self.meter.enter("prior", 0, num_chunks, "chunks")
            for chunk in range(num_chunks):
                prior = add_chunk(prior, self.worker.prior_sum(chunk))
                self.meter.advance(1)
            assert prior is not None, "a prior has at least one chunk"
            keep_prior(fingerprint, prior)
        return prior

    def _contexts(self) -> tuple[str, ...]:
        kept = self.directory.recall("contexts")
        if kept is None:
            kept = self.worker.contexts()
            self.directory.remember("contexts", kept)
        return tuple(kept)

    def to_the_end(self) -> None:
        if self.directory.committed_round is None:
            self._commit(0)
        for round_number in range(self.first_round, self.scenario.stream.rounds + 1):
            if self.scenario.settles:
                self._settle(round_number)
            self.started = {lane.name: lane.snapshot() for lane in self.lanes}
            for lane in self.lanes:
                self._edit(lane, round_number)
            if is_evaluated(self.scenario, round_number):
                for lane in [unedited(self.base), *self.lanes]:
                    self._evaluate(lane, round_number)
            self._commit(round_number)

    def _commit(self, round_number: int) -> None:
        self.journal.event("commit", round_number)
        # Told among the next round's events: by then it is known how long this one's records took.
        with self.journal.timed("records", round_number + 1) as event:
            event.detail = f"of round {round_number}"
            found = all_distances(self.lanes, self.base, round_number)
            rows = self.journal.close_round(round_number, self.worker.stream, self.facts, found)
            self.directory.commit(round_number, [lane.state(round_number) for lane in self.lanes], rows)

    def _settle(self, round_number: int) -> None:
        slips = []
        for cohort in self.cohorts:
            with self.journal.timed("announce", round_number):
                slips.append(self.worker.slips(round_number, cohort))
        self.settled = list(settle(slips, self.scenario.conflicts))
        self.journal.settled(self.settled)

    def _edit(self, lane: Lane, round_number: int) -> None:
        """One round of one lane; every sum runs over cohorts in their order."""
        targets_at: dict[int, Weights] = {}
        for step in lane.steps:
            for layer in step.targets:
                targets_at[layer] = lane.anchor()
                self._optimise(lane, round_number, targets_at[layer], layer)
            weights, history = lane.anchor(), lane.history_now()
            for part in step.parts:
                total = GroupedSum(self.scenario.cluster.group_size)
                for cohort in self.cohorts:
                    with self.journal.timed("collect", round_number, lanes=[lane.name], layer=part.layer):
                        collected = self.worker.collect(
                            lane.name, round_number, cohort, part, weights, targets_at, history, self.settled[cohort]
                        )
                    self.journal.sent(lane.name, cohort, collected.party_bytes, collected.num_left_out)
                    total.add(cohort, collected.contribution)
                    self._advance("collect", round_number, cohort)
                gone = self._taken_back(lane, round_number, part, weights)
                with self.journal.timed("merge", round_number, lanes=[lane.name], layer=part.layer):
                    solver = self.prior.solver(self.scenario, part.layer, lane.history.get(part.layer))
                    if gone is not None:
                        lane.take_back(gone.total())
                    lane.merge(total.total(), solver)

    def _taken_back(self, lane: Lane, round_number: int, part: Part, weights: Weights) -> GroupedSum | None:
        """What is taken back in a round at one layer, cohort after cohort; None for nothing."""
        total = None
        for cohort in cohorts_taking_back(self.scenario, self.worker.stream, round_number):
            total = total or GroupedSum(self.scenario.cluster.group_size)
            with self.journal.timed("retract", round_number, lanes=[lane.name], layer=part.layer):
                collected = self.worker.take_back(lane.name, round_number, cohort, part, weights)
            self.journal.sent(lane.name, cohort, collected.party_bytes, collected.num_left_out)
            total.add(cohort, collected.contribution)
            self._advance("retract", round_number, cohort)
        return total

    def _optimise(self, lane: Lane, round_number: int, weights: Weights, layer: int) -> None:
        """Targets of all cohorts; the worker keeps them, so lanes that start from the same weights share them."""
        num_edits = self.worker.stream.num_requests(round_number)
        self.meter.enter("targets", round_number, num_edits, "edits")
        is_shared = (round_number, weights.key, layer) in self.optimised
        self.optimised.add((round_number, weights.key, layer))
        found = []
        for cohort in self.cohorts:
            with self.journal.timed("targets", round_number, lanes=[lane.name], layer=layer) as event:
                report = self.worker.targets(weights, round_number, cohort, layer, self.settled[cohort])
                event.detail = report.remark
            found.append(report.residuals)
            if not is_shared:
                done = self.meter.skip if report.num_cached else self.meter.advance
                done(units_of(self.scenario, self.worker.stream, "targets", round_number, cohort), "targets")
        self.journal.wanted(lane.name, layer, add_residuals(found))

    def _evaluate(self, lane: Lane, round_number: int) -> None:
        total = num_probed(self.scenario, self.worker.stream, round_number, range(self.scenario.parties.count))
        self.meter.enter("evaluate", round_number, total, "edits")
        is_edited = lane in self.lanes
        parts = []
        for cohort in self.cohorts:
            with self.journal.timed("evaluate", round_number, lanes=[lane.name]):
                sums = self.worker.evaluate(
                    lane.snapshot(), round_number, cohort, is_edited, self.settled[cohort], self.started.get(lane.name)
                )
                parts.append(sums)
            self._advance("evaluate", round_number, cohort)
        self.journal.measured(metric_rows(self.scenario, round_number, lane.name, add_sums(parts)))

    def _advance(self, phase: str, round_number: int, cohort: int) -> None:
        self.meter.advance(units_of(self.scenario, self.worker.stream, phase, round_number, cohort), phase)
