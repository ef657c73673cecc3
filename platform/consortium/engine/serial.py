"""The serial twin: a whole run in one process, as plain loops. It is the oracle of the Ray runtime.

for each round:
    where doubles or contradictions are to be settled: slips of all cohorts, and what follows from them
    for each lane:
        for each step of the round: targets, then for each layer: collect, add up, merge
        where parties were refused: the lane's round from its start once more, without them
    evaluate every lane, and commit
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence

import torch

from consortium.common.progress import Meter, ReportProgress
from consortium.data.edit import FactSet
from consortium.data.party_batch import PartyBatch
from consortium.editing.known_facts import add_residuals
from consortium.editing.layer_schedule import Part
from consortium.editing.open import open_backend
from consortium.engine.commit import Commit
from consortium.engine.lanes import (
    Lane,
    all_distances,
    batches_of,
    expected_work,
    open_lanes,
    unedited,
    units_of,
    without,
)
from consortium.engine.metric_rows import metric_rows
from consortium.engine.prior import (
    Prior,
    add_chunk,
    cached_prior,
    hold_model_against,
    keep_prior,
    left_out_of,
    take_up,
    unmeasured,
)
from consortium.engine.round_log import NOT_FINITE, Journal
from consortium.evaluation.schedule import is_evaluated, num_probed
from consortium.evaluation.sums import add_sums
from consortium.features.conflicts.resolver import Standing
from consortium.features.screening.checks import Refusal
from consortium.features.unlearning.requests import cohorts_taking_back
from consortium.merging.method import Contribution
from consortium.merging.partial_sums import GroupedSum
from consortium.merging.reference_norms import yardsticks
from consortium.party.shard import Weights
from consortium.party.worker import CohortWorker, Collected
from consortium.records.directory import RunDirectory
from consortium.scenario.schema import Scenario


def run(scenario: Scenario, directory: RunDirectory, facts: FactSet, report_progress: ReportProgress) -> None:
    """Run a scenario from where its directory stands to its end.

    Raises:
        ConsortiumError: the model cannot be opened, or numbers went bad.
    """
    torch.set_num_threads(scenario.cluster.threads)
    take_up(directory, facts)
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
        self._starting = starting
        self.journal.notes(directory.manifest.untold, starting)
        if starting:
            self.journal.event("resumed", starting, detail=f"after round {directory.committed_round}")
        with self.journal.timed("open-model", starting):
            self.worker = CohortWorker(scenario, facts, open_backend(scenario, facts))
        self.base = self.worker.backend.base_weights()
        work = expected_work(scenario, self.worker.stream, self.first_round)
        self.meter = Meter(scenario.stream.rounds, work, report_progress)
        fingerprint = self.worker.backend.prior_fingerprint()
        self.prior = self._measure_prior(fingerprint)
        for words in hold_model_against(directory, fingerprint, self.prior):
            self.journal.event("changed", starting, detail=words)
        sums, num_tokens = self.prior.sums, self.prior.num_tokens
        self.worker.begin(self._contexts(), sums, num_tokens, yardsticks(self.base, sums, num_tokens))
        self.lanes = open_lanes(scenario, self.base, directory.lane_states())
        self.batches: Sequence[PartyBatch] = ()  # of the present round
        self.optimised: set[Hashable] = set()
        self.standing = Standing(scenario.conflicts)
        self.started: dict[str, Weights] = {}  # lane → its weights when the present round began

    def _tell_of_cache(self, words: str) -> None:
        self.journal.event("cache-damaged", self._starting, detail=words)

    def _measure_prior(self, fingerprint: Mapping[str, object] | None) -> Prior:
        if not self.worker.editor.uses_prior:
            return unmeasured(self.base)
        backend = self.worker.backend
        prior = cached_prior(fingerprint, self.scenario.editor.edited_layers, self._tell_of_cache)
        if prior is None:
            num_chunks = backend.prior_chunks()
            self.meter.enter("prior", 0, num_chunks, "chunks")
            for chunk in range(num_chunks):
                prior = add_chunk(prior, self.worker.prior_sum(chunk))
                self.meter.advance(1)
            assert prior is not None, "a prior has at least one chunk"
            keep_prior(fingerprint, prior)
        told = left_out_of(prior, backend.prior_length(), self.scenario.evaluate.max_not_finite)
        if told is not None:
            starting = 0 if self.directory.committed_round is None else self.first_round
            self.journal.event(NOT_FINITE, starting, detail=told)
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
            self.batches = batches_of(self.scenario, round_number)
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
            states = [lane.state(round_number) for lane in self.lanes]
            policy = self.scenario.cluster.on_failure
            commit = Commit(self.directory, round_number, states, rows, policy, lambda stage: None)
            while (wait_s := commit.attempt()) is not None:
                self.journal.event("disk-full", round_number + 1, detail=f"round {round_number} is written again")
                self.meter.show("space on the disk")
                time.sleep(wait_s)

    def _settle(self, round_number: int) -> None:
        for number in self.standing.missing(round_number):  # after a resume there may be several
            slips = []
            for batch in batches_of(self.scenario, number):
                with self.journal.timed("announce", round_number):
                    slips.append(self.worker.slips(batch))
            settled = self.standing.settle(number, slips)
        self.batches = [batch.decided("conflicts", each) for batch, each in zip(self.batches, settled, strict=True)]
        self.journal.settled(settled)

    def _edit(self, lane: Lane, round_number: int) -> None:
        """One round of one lane; begun again, as often as parties are refused, without them."""
        lane.begin(round_number)
        self.journal.begun(lane.name, lane.absent, lane.absent_before)
        while refusals := self._attempt(lane, round_number):
            lane.begin_again(each.party for each in refusals)
            self.journal.begun(lane.name, lane.absent, lane.absent_before, round_number, refusals)

    def _attempt(self, lane: Lane, round_number: int) -> list[Refusal]:
        """The round of a lane, up to the first step at which parties are refused; sums run over cohorts in order."""
        targets_at: dict[int, Weights] = {}
        batches = without(self.scenario, self.batches, lane.absent)
        for step in lane.steps:
            for layer in step.targets:
                targets_at[layer] = lane.anchor()
                self._optimise(lane, round_number, targets_at[layer], layer, batches)
            weights, history = lane.anchor(), lane.history_now()
            refusals: list[Refusal] = []
            for part in step.parts:
                parts: list[Collected] = []
                for batch in batches:
                    with self.journal.timed("collect", round_number, lanes=[lane.name], layer=part.layer):
                        collected = self.worker.collect(batch, lane.name, part, weights, targets_at, history)
                    self.journal.sent(
                        lane.name,
                        batch.number,
                        collected.party_bytes,
                        collected.num_left_out,
                        collected.largest_norm,
                        collected.num_not_finite,
                    )
                    refusals += collected.refusals
                    parts.append(collected)
                    self._advance("collect", round_number, batch.number)
                if not refusals:
                    self._merge(lane, round_number, part, parts, self._taken_back(lane, round_number, part, weights))
            if refusals:
                return refusals
        return []

    def _merge(
        self, lane: Lane, round_number: int, part: Part, parts: Sequence[Collected], gone: Sequence[Collected]
    ) -> None:
        self.journal.check_finite(lane.name, round_number, [each.receipt for each in parts])
        with self.journal.timed("merge", round_number, lanes=[lane.name], layer=part.layer):
            solver = self.prior.solver(self.scenario, part.layer, lane.history.get(part.layer))
            if gone:
                lane.take_back(self._sum_of(gone))
            lane.merge(self._sum_of(parts), solver)
        for kind, merged in (("retract", gone), ("merge", parts)):
            receipts = [each.receipt for each in merged]
            self.journal.merged(kind, lane.name, part.layer, receipts, [None] * len(receipts))

    def _sum_of(self, parts: Sequence[Collected]) -> Contribution:
        """The sum of what cohorts sent, none of whose parties was refused."""
        total = GroupedSum(self.scenario.cluster.group_size)
        for each in parts:
            assert each.contribution is not None, "the round begins again where a party is refused"
            total.add(each.receipt.cohort, each.contribution)
        return total.total()

    def _taken_back(self, lane: Lane, round_number: int, part: Part, weights: Weights) -> list[Collected]:
        """What is taken back in a round at one layer, cohort after cohort."""
        parts = []
        for cohort in cohorts_taking_back(self.scenario, self.worker.stream, round_number):
            with self.journal.timed("retract", round_number, lanes=[lane.name], layer=part.layer):
                batch = PartyBatch(round_number, cohort)
                collected = self.worker.take_back(batch, lane.name, part, weights, lane.absent_before)
            self.journal.sent(lane.name, cohort, collected.party_bytes, collected.num_left_out)
            parts.append(collected)
            self._advance("retract", round_number, cohort)
        return parts

    def _optimise(
        self, lane: Lane, round_number: int, weights: Weights, layer: int, batches: Sequence[PartyBatch]
    ) -> None:
        """Targets of all cohorts; the worker keeps them, so lanes that start from the same weights share them."""
        num_edits = self.worker.stream.num_requests(round_number)
        self.meter.enter("targets", round_number, num_edits, "edits")
        name = round_number, weights.key, layer, lane.absent
        is_shared = name in self.optimised
        self.optimised.add(name)
        found = []
        for batch in batches:
            with self.journal.timed("targets", round_number, lanes=[lane.name], layer=layer) as event:
                report = self.worker.targets(batch, weights, layer)
                event.detail = report.remark
            found.append(report.residuals)
            if not is_shared:
                done = self.meter.skip if report.num_cached else self.meter.advance
                done(units_of(self.scenario, self.worker.stream, "targets", round_number, batch.number), "targets")
        self.journal.wanted(lane.name, layer, add_residuals(found))

    def _evaluate(self, lane: Lane, round_number: int) -> None:
        total = num_probed(self.scenario, self.worker.stream, round_number, range(self.scenario.parties.count))
        self.meter.enter("evaluate", round_number, total, "edits")
        is_edited = lane in self.lanes
        parts = []
        for batch in self.batches:
            with self.journal.timed("evaluate", round_number, lanes=[lane.name]):
                found = self.worker.evaluate(batch, lane.snapshot(), is_edited, self.started.get(lane.name))
                self.journal.told(lane.name, round_number, found.told)
            parts.append(found.sums)
            self._advance("evaluate", round_number, batch.number)
        self.journal.measured(metric_rows(self.scenario, round_number, lane.name, add_sums(parts)))

    def _advance(self, phase: str, round_number: int, cohort: int) -> None:
        self.meter.advance(units_of(self.scenario, self.worker.stream, phase, round_number, cohort), phase)
