"""The serial twin: a whole run in one process, as plain loops. It is the oracle of the Ray runtime.

for each round:
    what parties announce where a feature asks for it, and what follows from that
    for each arm:
        for each step of the round: targets, then for each layer: collect, add up, merge
        where parties were refused: the arm's round from its start once more, without them
    evaluate every arm, and commit
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from consortium.common.progress import Meter, ReportProgress
from consortium.data.edit import FactSet
from consortium.data.party_batch import PartyBatch
from consortium.editing.edited_layers import Weights
from consortium.editing.known_facts import add_residuals
from consortium.editing.layer_schedule import Part
from consortium.editing.open import open_backend
from consortium.engine.arms import Arm, all_distances, expected_work, open_arms, unedited, units_of
from consortium.engine.commit import Commit
from consortium.engine.key_covariance import (
    KeyCovariance,
    add_chunk,
    cached_covariance,
    hold_model_against,
    keep_covariance,
    left_out_of,
    take_up,
    unmeasured,
)
from consortium.engine.metric_rows import metric_rows
from consortium.engine.round_log import NOT_FINITE, RoundLog
from consortium.engine.rounds import Summed, batches_of, batches_without, decided, merge_parts, removals_of_round
from consortium.evaluation.schedule import is_evaluated, num_probed
from consortium.evaluation.sums import add_sums
from consortium.features.hooks import Rejection
from consortium.features.registry import round_hooks
from consortium.merging.method import Contribution
from consortium.merging.partial_sums import PartialSums
from consortium.merging.reference_norms import all_reference_norms
from consortium.party.worker import Worker
from consortium.records.directory import RunDirectory
from consortium.scenario.schema import Scenario


def run_serial(scenario: Scenario, directory: RunDirectory, facts: FactSet, report_progress: ReportProgress) -> None:
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
        self.round_log = RoundLog(scenario, lambda: directory.worked_s)
        self.first_round = (directory.committed_round or 0) + 1
        # What happens before the first round is written with the first commit, that of round 0 in a new run.
        starting = 0 if directory.committed_round is None else self.first_round
        self._starting = starting
        self.round_log.notes(directory.manifest.untold, starting)
        if starting:
            self.round_log.event("resumed", starting, detail=f"after round {directory.committed_round}")
        with self.round_log.timed("open-model", starting):
            self.worker = Worker(scenario, facts, open_backend(scenario, facts))
        self.hooks = self.round_log.hooks = round_hooks(scenario, self.worker.stream)
        self.base = self.worker.backend.base_weights()
        work = expected_work(scenario, self.worker.stream, self.first_round)
        self.meter = Meter(scenario.stream.rounds, work, report_progress)
        fingerprint = self.worker.backend.covariance_fingerprint()
        self.covariance = self._measure_covariance(fingerprint)
        for words in hold_model_against(directory, fingerprint, self.covariance):
            self.round_log.event("changed", starting, detail=words)
        sums, num_tokens = self.covariance.sums, self.covariance.num_tokens
        self.worker.begin(self._contexts(), sums, num_tokens, all_reference_norms(self.base, sums, num_tokens))
        self.arms = open_arms(scenario, self.base, directory.arm_states())
        self.batches: Sequence[PartyBatch] = ()  # of the present round
        self.optimised: set[Hashable] = set()
        self.started: dict[str, Weights] = {}  # arm → its weights when the present round began

    def _tell_of_cache(self, words: str) -> None:
        self.round_log.event("cache-damaged", self._starting, detail=words)

    def _measure_covariance(self, fingerprint: Mapping[str, object] | None) -> KeyCovariance:
        if not self.scenario.editor.uses_covariance:
            return unmeasured(self.base)
        backend = self.worker.backend
        covariance = cached_covariance(fingerprint, self.scenario.editor.edited_layers, self._tell_of_cache)
        if covariance is None:
            num_chunks = backend.covariance_chunks()
            self.meter.enter("covariance", 0, num_chunks, "chunks")
            for chunk in range(num_chunks):
                covariance = add_chunk(covariance, self.worker.covariance_sum(chunk))
                self.meter.advance(1)
            assert covariance is not None, "a key covariance has at least one chunk"
            keep_covariance(fingerprint, covariance)
        told = left_out_of(covariance, backend.covariance_length(), self.scenario.evaluate.max_not_finite)
        if told is not None:
            starting = 0 if self.directory.committed_round is None else self.first_round
            self.round_log.event(NOT_FINITE, starting, detail=told)
        return covariance

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
            self._announce(round_number)
            self.started = {arm.name: arm.snapshot() for arm in self.arms}
            for arm in self.arms:
                self._edit(arm, round_number)
            if is_evaluated(self.scenario, round_number):
                for arm in [unedited(self.base), *self.arms]:
                    self._evaluate(arm, round_number)
            self._commit(round_number)

    def _commit(self, round_number: int) -> None:
        self.round_log.event("commit", round_number)
        # Told among the next round's events: by then it is known how long this one's records took.
        with self.round_log.timed("records", round_number + 1) as event:
            event.detail = f"of round {round_number}"
            found = all_distances(self.arms, self.base, round_number)
            rows = self.round_log.close_round(round_number, self.worker.stream, self.facts, found)
            states = [arm.state(round_number) for arm in self.arms]
            policy = self.scenario.cluster.on_failure
            commit = Commit(self.directory, round_number, states, rows, policy, lambda stage: None)
            while (wait_s := commit.attempt()) is not None:
                self.round_log.event("disk-full", round_number + 1, detail=f"round {round_number} is written again")
                self.meter.show("space on the disk")
                time.sleep(wait_s)

    def _announce(self, round_number: int) -> None:
        """What parties announce before a round, and what features decide from it."""
        self.batches = batches_of(self.scenario, round_number)
        for hook in (each for each in self.hooks if each.announces):
            for number in hook.undecided(round_number):  # this round is the last of them
                batches = self.batches if number == round_number else batches_of(self.scenario, number)
                announced = []
                for batch in batches:
                    with self.round_log.timed("announce", round_number):
                        announced.append(self.worker.announce(hook.name, batch))
                decided_batches = decided(batches, hook, announced)
            self.batches = decided_batches
        self.round_log.decided(self.batches)

    def _edit(self, arm: Arm, round_number: int) -> None:
        """One round of one arm; begun again, as often as parties are refused, without them."""
        arm.begin(round_number)
        self.round_log.begun(arm.name, arm.excluded, arm.excluded_before)
        while rejections := self._attempt(arm, round_number):
            arm.begin_again(each.party for each in rejections)
            self.round_log.begun(arm.name, arm.excluded, arm.excluded_before, round_number, rejections)

    def _attempt(self, arm: Arm, round_number: int) -> list[Rejection]:
        """The round of an arm, up to the first step at which parties are refused; sums run over party batches in
        order."""
        targets_at: dict[int, Weights] = {}
        batches = batches_without(self.scenario, self.batches, arm.excluded)
        for step in arm.steps:
            for layer in step.targets:
                targets_at[layer] = arm.reference()
                self._optimise(arm, round_number, targets_at[layer], layer, batches)
            weights, history = arm.reference(), arm.history_now()
            rejections: list[Rejection] = []
            for part in step.parts:
                added = _Sum(self.scenario)
                for batch in batches:
                    with self.round_log.timed("collect", round_number, arms=[arm.name], layer=part.layer):
                        collected = self.worker.collect(batch, arm.name, part, weights, targets_at, history)
                    self.round_log.sent(arm.name, batch.number, collected)
                    added.parts.append(Summed(batch.number, None, collected))
                    rejections += collected.rejections
                    self._advance("collect", round_number, batch.number)
                if not rejections:
                    removed = self._removed(arm, round_number, part, weights)
                    merge_parts(self.round_log, self.covariance, arm, round_number, part, added, removed)
            if rejections:
                return rejections
        return []

    def _removed(self, arm: Arm, round_number: int, part: Part, weights: Weights) -> _Sum | None:
        """What is removed in a round at one layer, batch after batch; None for nothing."""
        removed = _Sum(self.scenario)
        for feature, batch in removals_of_round(self.hooks, arm, round_number):
            with self.round_log.timed("unlearn", round_number, arms=[arm.name], layer=part.layer):
                collected = self.worker.unlearn(feature, batch, arm.name, part, weights)
            self.round_log.sent(arm.name, batch.number, collected)
            removed.parts.append(Summed(batch.number, None, collected))
            self._advance("unlearn", round_number, batch.number)
        return removed if removed.parts else None

    def _optimise(
        self, arm: Arm, round_number: int, weights: Weights, layer: int, batches: Sequence[PartyBatch]
    ) -> None:
        """Targets of all party batches; the worker keeps them, so arms that start from the same weights share them."""
        num_edits = self.worker.stream.num_requests(round_number)
        self.meter.enter("targets", round_number, num_edits, "edits")
        name = round_number, weights.key, layer, arm.excluded
        is_shared = name in self.optimised
        self.optimised.add(name)
        found = []
        for batch in batches:
            with self.round_log.timed("targets", round_number, arms=[arm.name], layer=layer) as event:
                report = self.worker.targets(batch, weights, layer)
                event.detail = report.note
            found.append(report.residuals)
            if not is_shared:
                done = self.meter.skip if report.num_cached else self.meter.advance
                done(units_of(self.scenario, self.worker.stream, "targets", round_number, batch.number), "targets")
        self.round_log.wanted(arm.name, layer, add_residuals(found))

    def _evaluate(self, arm: Arm, round_number: int) -> None:
        total = num_probed(self.scenario, self.worker.stream, round_number, range(self.scenario.parties.count))
        self.meter.enter("evaluate", round_number, total, "edits")
        is_edited = arm in self.arms
        parts = []
        for batch in self.batches:
            with self.round_log.timed("evaluate", round_number, arms=[arm.name]):
                found = self.worker.evaluate(batch, arm.snapshot(), is_edited, self.started.get(arm.name))
                self.round_log.told(arm.name, round_number, found.told)
            parts.append(found.sums)
            self._advance("evaluate", round_number, batch.number)
        self.round_log.measured(metric_rows(self.scenario, round_number, arm.name, add_sums(parts)))

    def _advance(self, phase: str, round_number: int, party_batch: int) -> None:
        self.meter.advance(units_of(self.scenario, self.worker.stream, phase, round_number, party_batch), phase)


@dataclass
class _Sum:
    """The sum of what batches sent to one layer, none of whose parties was refused."""

    scenario: Scenario
    parts: list[Summed] = field(default_factory=list)

    def total(self) -> Contribution:
        """Added in the order of batches, in groups."""
        total = PartialSums(self.scenario.cluster.reduce_fanout)
        for each in self.parts:
            assert each.collected.contribution is not None, "the round begins again where a party is refused"
            total.add(each.number, each.collected.contribution)
        return total.total()
