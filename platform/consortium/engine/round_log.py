"""What happened in a round, gathered while it happens and turned into table rows when it is committed."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from consortium.common.counting import count
from consortium.data.attackers import asked_for
from consortium.data.edit import Edit, FactSet
from consortium.data.request import Request
from consortium.data.stream import Stream
from consortium.editing.known_facts import Asked, Residuals
from consortium.editing.layer_schedule import plan_round
from consortium.engine.metric_rows import not_finite
from consortium.evaluation.registry import of_column
from consortium.evaluation.telling import ProbeAnswer
from consortium.features.conflicts.resolution import Decision, Place, Resolution
from consortium.features.conflicts.selected import augmented, weight_of
from consortium.features.screening.checks import Rejection
from consortium.features.unlearning.requests import num_removed_by
from consortium.features.virtual_time.participation import timeline_of
from consortium.features.virtual_time.timeline import Timeline
from consortium.merging.layer_update import Distances
from consortium.party.audit_digest import InclusionRecord
from consortium.records.manifest import Note
from consortium.records.rows import (
    AnswerRow,
    AuditRow,
    EditRow,
    EventRow,
    MetricRow,
    ParticipationRow,
    PartyRow,
    ResidualRow,
    RoundRow,
    Rows,
    ScheduleRow,
    Streamed,
)
from consortium.records.spool import Spool
from consortium.scenario.schema import Scenario

PHASES = ("targets", "collect", "merge", "evaluate")
NOT_FINITE = "not-finite"
"""Kind of the events that tell what was left out since its numbers are not finite."""

Counts = NDArray[np.int64]


@dataclass
class EventNote:
    """What there is to say about an event that is still going on."""

    detail: str | None = None


class RoundLog:
    """Events, times and traffic of the round that is being worked on.

    Args:
        scenario: the scenario.
        clock: seconds since the run's start, pauses left out.
    """

    def __init__(self, scenario: Scenario, clock: Callable[[], float] = time.monotonic) -> None:
        self.scenario = scenario
        self.clock = clock
        self._clear()

    def _clear(self) -> None:
        self._events: list[EventRow] = []
        self._seconds: dict[tuple[str, str], float] = defaultdict(float)
        # Arm → a number for each party [P].
        self._party_bytes: dict[str, Counts] = defaultdict(self._zeros)
        self._left_out: dict[str, Counts] = defaultdict(self._zeros)
        self._not_finite: dict[str, Counts] = defaultdict(self._zeros)
        self._residuals: list[tuple[str, int, Mapping[Asked, Residuals]]] = []
        self._metrics: list[MetricRow] = []
        self._answers: dict[str, Spool[AnswerRow]] = {}
        self._decisions: dict[Place, Decision] = {}
        self._merged: list[tuple[str, str, int, InclusionRecord, str | None]] = []
        self._lost_calls: Counter[Hashable] = Counter()
        self._dropped: Counter[Hashable] = Counter()
        self._rejected: dict[tuple[str, int], str] = {}
        self._absent_before: dict[str, Mapping[int, frozenset[int]]] = {}
        self._max_norm_ratio: dict[str, float] = {}

    def _zeros(self) -> Counts:
        return np.zeros(self.scenario.parties.count, np.int64)

    def event(  # noqa: PLR0913  (the columns of the table)
        self,
        kind: str,
        round_number: int,
        *,
        arms: Sequence[str] = (),
        layer: int | None = None,
        party_batch: int | None = None,
        worker: str | None = None,
        seconds: float | None = None,
        num_bytes: int | None = None,
        detail: str | None = None,
        round_trip_s: float | None = None,
    ) -> None:
        """Record something that happened now; its seconds are shared evenly between ``arms``."""
        arm = arms[0] if len(arms) == 1 else None
        now = self.clock()
        row = EventRow(
            now, kind, round_number, arm, layer, party_batch, worker, seconds, num_bytes, detail, round_trip_s
        )
        self._events.append(row)
        # The same work, on edits of earlier rounds; and what a machine's workers add up for the coordinator.
        phase = "collect" if kind in ("unlearn", "add") else kind
        for each in arms:
            self._seconds[each, phase] += (seconds or 0.0) / len(arms)

    def notes(self, notes: Sequence[Note], round_number: int) -> None:
        """Tell of what befell the run while no round was worked on."""
        for note in notes:
            self.event(note.kind, round_number, detail=note.detail)

    @contextmanager
    def timed(
        self, kind: str, round_number: int, *, arms: Sequence[str] = (), layer: int | None = None
    ) -> Iterator[EventNote]:
        """Record an event that takes as long as the block; what is yielded takes a remark on it."""
        start = time.monotonic()
        note = EventNote()
        yield note
        seconds = time.monotonic() - start
        self.event(kind, round_number, arms=arms, layer=layer, seconds=seconds, detail=note.detail)

    def begun(
        self,
        arm: str,
        absent: Iterable[int],
        before: Mapping[int, frozenset[int]],
        round_number: int = 0,
        rejections: Sequence[Rejection] = (),
    ) -> None:
        """Record that an arm's round begins without some parties; once more, where it was begun with some refused.

        ``before`` maps earlier rounds to the parties that were out in them.
        What was sent and wanted before is forgotten, since nothing of it was merged; the time it took is not.
        """
        for each in rejections:
            self._rejected[arm, each.party] = each.reason
            self.event("rejected", round_number, arms=[arm], detail=f"party {each.party}: {each.reason}: {each.detail}")
        for party in absent:
            self._rejected.setdefault((arm, party), "excluded")
        self._absent_before[arm] = before
        self._party_bytes.pop(arm, None)
        self._not_finite.pop(arm, None)
        self._residuals = [each for each in self._residuals if each[0] != arm]
        self._merged = [each for each in self._merged if each[1] != arm]
        self._max_norm_ratio[arm] = 0.0

    def sent(
        self,
        arm: str,
        party_batch: int,
        party_bytes: Sequence[int],
        num_skipped: Sequence[int],
        max_norm_ratio: float = 0.0,
        num_not_finite: Sequence[int] = (),
    ) -> None:
        """Record what each party of a party batch sent to an arm, and how many edits it left out at every layer.

        ``max_norm_ratio`` is the largest size of these messages, in multiples of what is usual; ``num_not_finite`` how
        many edits each party left out besides, since their numbers are not finite (empty for none).
        """
        self._max_norm_ratio[arm] = max(self._max_norm_ratio.get(arm, 0.0), max_norm_ratio)
        for party, number in zip(self.scenario.party_batch(party_batch), num_not_finite, strict=False):
            self._not_finite[arm][party] = max(number, self._not_finite[arm][party])
        for party, num_bytes, number in zip(
            self.scenario.party_batch(party_batch), party_bytes, num_skipped, strict=True
        ):
            self._party_bytes[arm][party] += num_bytes
            self._left_out[arm][party] = number

    def check_finite(self, arm: str, round_number: int, inclusion_records: Iterable[InclusionRecord]) -> None:
        """Before a merge: no more edits were left out, their numbers not being finite, than the scenario allows.

        Raises:
            NotFiniteError: more were.
        """
        bad, total = int(self._not_finite[arm].sum()), sum(each.num_edits for each in inclusion_records)
        if bad > self.scenario.evaluate.max_not_finite * total:
            found = f"{bad} of {count(total, 'edit')} have targets, keys or residuals that are not finite"
            raise not_finite(f"{found} in arm {arm}, round {round_number}", self.scenario.evaluate.max_not_finite)

    @property
    def num_bytes(self) -> int:
        """Bytes that parties sent in this round, to all arms."""
        return sum(int(bytes_P.sum()) for bytes_P in self._party_bytes.values())

    @property
    def num_parties_rejected(self) -> int:
        """Parties that the arms' screening kept out of this round."""
        return len(self._rejected)

    def wanted(self, arm: str, layer: int, residuals: Mapping[Asked, Residuals]) -> None:
        """Record what an arm's model was wanting of the edits when their targets were optimised."""
        self._residuals.append((arm, layer, residuals))

    def resolution(self, groups: Sequence[Resolution]) -> None:
        """Record what was decided about the round's edits."""
        for each in groups:
            self._decisions.update(each.decisions)

    def merged(
        self,
        kind: str,
        arm: str,
        layer: int,
        inclusion_records: Iterable[InclusionRecord],
        workers: Iterable[str | None],
    ) -> None:
        """Record that the sum of some party batches' answers, each from a worker, went into (or out of) an arm's
        layer."""
        for inclusion_record, worker in zip(inclusion_records, workers, strict=True):
            self._merged.append((kind, arm, layer, inclusion_record, worker))

    def asked_again(self, key: Hashable) -> None:
        """Record that a call's worker was lost, or its answer refused; the key of a call names kind, arm and party
        batch."""
        self._lost_calls[key] += 1

    def dropped(self, key: Hashable) -> None:
        """Record that an answer to a call came twice, or too late, and was dropped."""
        self._dropped[key] += 1

    def measured(self, rows: Sequence[MetricRow]) -> None:
        """Record metrics, and as an event what of an arm's answers was not finite."""
        self._metrics.extend(rows)
        bad = [row for row in rows if row.num_not_finite and not of_column(row.metric).parts]
        if bad:
            parts = (
                f"{row.metric}{'' if row.of_round is None else f' of round {row.of_round}'}: {row.num_not_finite} of "
                f"{(row.num_not_finite or 0) + row.num_probes}"
                for row in bad
            )
            arms = [bad[0].arm]
            self.event(NOT_FINITE, bad[0].round, arms=arms, detail=f"answers left out: {', '.join(parts)}")

    def told(self, arm: str, round_number: int, told: Sequence[ProbeAnswer]) -> None:
        """Record what some probes of an arm were answered with, party batch after party batch."""
        if not told:
            return
        rows = [AnswerRow(round_number, arm, **vars(each)) for each in told]
        self._answers.setdefault(arm, Spool()).add(rows)

    def close_round(self, round_number: int, stream: Stream, facts: FactSet, distances: dict[str, Distances]) -> Rows:
        """All rows of the round; the round log is empty afterwards. Round 0 has events and nothing else.

        Those of parties and edits are made when they are written: they are too many to be held.
        """
        arms = [spec.arm for spec in self.scenario.merge.methods] if round_number else []
        for arm in arms:
            if bad := int(self._not_finite[arm].sum()):
                detail = f"edits left out: {bad}, whose targets, keys or residuals are not finite"
                self.event(NOT_FINITE, round_number, arms=[arm], detail=detail)
        sent = {arm: (self._party_bytes[arm], self._left_out[arm], self._not_finite[arm]) for arm in arms}
        out = self._rejected, self._absent_before
        edits = partial(self._edit_rows, round_number, stream, facts, self._decisions)
        parties = partial(self._party_rows, round_number, stream, sent, _num_rejected(self._decisions), *out)
        timeline = timeline_of(stream) if round_number else None
        rows = Rows(
            rounds=[self._round_row(round_number, arm, stream, distances[arm]) for arm in arms],
            edits=Streamed(edits) if round_number else [],
            parties=Streamed(parties) if round_number else [],
            metrics=self._metrics_in_order(),
            answers=Streamed(partial(_chained, self._in_order_of_arms(self._answers))),
            residuals=list(self._residual_rows(round_number)),
            audit=list(self._audit_rows(round_number)),
            events=self._events,
            schedule=[schedule_row(timeline, round_number)] if timeline else [],
            participation=list(participation_rows(timeline, round_number)) if timeline else [],
        )
        self._clear()
        return rows

    def _in_order_of_arms(self, spools: Mapping[str, Spool[AnswerRow]]) -> list[Spool[AnswerRow]]:
        """As the scenario has the arms; the unedited model comes before all."""
        places = {spec.arm: place for place, spec in enumerate(self.scenario.merge.methods)}
        return [spools[arm] for arm in sorted(spools, key=lambda arm: places.get(arm, -1))]

    def _metrics_in_order(self) -> list[MetricRow]:
        """Arm after arm as in the scenario, whichever was measured first; the unedited model comes before all."""
        places = {spec.arm: place for place, spec in enumerate(self.scenario.merge.methods)}
        return sorted(self._metrics, key=lambda row: places.get(row.arm, -1))

    def _round_row(self, round_number: int, arm: str, stream: Stream, found: Distances) -> RoundRow:
        num_rejected = _num_rejected(self._decisions)
        out = [party for each, party in self._rejected if each == arm and party in stream.present(round_number)]
        asked = (stream.num_requests(round_number, range(party, party + 1)) - num_rejected[party] for party in out)
        return RoundRow(
            round=round_number,
            arm=arm,
            num_parties=len(stream.present(round_number)) - len(out),
            num_edits=stream.num_requests(round_number) - num_rejected.total() - sum(asked),
            num_parties_rejected=len(out),
            max_norm_ratio=self._max_norm_ratio.get(arm),
            num_removed=num_removed_by(
                stream, round_number, stream.removals.parties(round_number), self._absent_before.get(arm)
            ),
            bytes_sent=int(self._party_bytes[arm].sum()),
            **{f"{phase}_s": self._seconds[arm, phase] for phase in PHASES},
            weights_distance=found.weights_distance,
            update_distance=found.update_distance,
            update_norm=found.update_norm,
            num_shared_keys=found.key_overlap.num_shared_keys if found.key_overlap else None,
            unresolvable_share=found.key_overlap.unresolvable_share if found.key_overlap else None,
        )

    def _party_rows(
        self,
        round_number: int,
        stream: Stream,
        sent: Mapping[str, tuple[Counts, Counts, Counts]],
        num_rejected: Mapping[int, int],
        rejected: Mapping[tuple[str, int], str],
        absent_before: Mapping[str, Mapping[int, frozenset[int]]],
    ) -> Iterator[PartyRow]:
        """Arm after arm; ``sent`` gives each arm's bytes and numbers of edits left out and not finite, by party."""
        size, looking = self.scenario.cluster.parties_per_batch, self.scenario.arms_that_skip
        for arm, (bytes_P, left_out_P, not_finite_P) in sent.items():
            for party in range(self.scenario.parties.count):
                asked = stream.num_requests(round_number, range(party, party + 1))
                gone = num_removed_by(stream, round_number, [party], absent_before.get(arm))
                if asked or gone:
                    left_out = int(left_out_P[party]) if arm in looking else None
                    reason = rejected.get((arm, party))
                    num_edits = 0 if reason else asked - num_rejected.get(party, 0)
                    of_party = num_edits, int(bytes_P[party]), left_out, gone, reason, int(not_finite_P[party])
                    yield PartyRow(round_number, arm, party, party // size, *of_party)

    def _residual_rows(self, round_number: int) -> Iterator[ResidualRow]:
        places = {spec.arm: place for place, spec in enumerate(self.scenario.merge.methods)}
        first = plan_round(self.scenario.editor, self.scenario.merge.exchange)[0].targets[0]
        looked_at = first if self.scenario.conflicts.detect == "model_answer" else None
        for arm, layer, sums in sorted(self._residuals, key=lambda each: places[each[0]]):
            for (kind, asked_before), found in sorted(sums.items()):
                mean = found.shift / found.num_edits if found.num_edits else None
                num_known = found.num_known if arm in self.scenario.arms_that_check else 0
                seen = (
                    (found.num_contradicting, found.num_detected, found.num_correctly_detected)
                    if layer == looked_at
                    else ()
                )
                row = ResidualRow(round_number, arm, layer, kind, asked_before, found.num_edits, mean, num_known, *seen)
                yield replace(row, num_not_finite=found.num_not_finite)

    def _audit_rows(self, round_number: int) -> Iterator[AuditRow]:
        """Arm after arm, layer after layer, whichever was merged first."""
        places = {spec.arm: place for place, spec in enumerate(self.scenario.merge.methods)}
        order = sorted(self._merged, key=lambda each: (places[each[1]], each[2], each[0], each[3].party_batch))
        for kind, arm, layer, inclusion_record, worker in order:
            out = frozenset(party for each, party in self._rejected if each == arm)
            key = ("collect" if kind == "merge" else kind, arm, round_number, layer, out, inclusion_record.party_batch)
            yield AuditRow(
                round=round_number,
                arm=arm,
                layer=layer,
                party_batch=inclusion_record.party_batch,
                kind=kind,
                num_edits=inclusion_record.num_edits,
                num_summed=inclusion_record.num_summed,
                digest=inclusion_record.digest,
                worker=worker,
                num_attempts=1 + self._lost_calls[key],
                num_dropped=self._dropped[key],
            )

    def _edit_rows(
        self, round_number: int, stream: Stream, facts: FactSet, decisions: Mapping[Place, Decision]
    ) -> Iterator[EditRow]:
        resolution = Resolution(decisions) if self.scenario.resolves else None
        for party in range(self.scenario.parties.count):
            for request in stream.requests(round_number, party):
                asked = asked_for(self.scenario, stream, request)
                edit = facts.edit(asked.fact, asked.variant)
                asked_in = (request.asked_in or round_number) if timeline_of(stream) else None
                row = _edit_row(self.scenario, request, edit, resolution, stream.removed_in(request))
                yield replace(row, asked_in=asked_in)


def _chained(spools: Sequence[Spool[AnswerRow]]) -> Iterator[AnswerRow]:
    return chain.from_iterable(spools)


def _num_rejected(decisions: Mapping[Place, Decision]) -> Counter[int]:
    """Party → number of its edits that were rejected."""
    return Counter(party for (party, _), decision in decisions.items() if decision.status == "rejected")


def _edit_row(
    scenario: Scenario, request: Request, edit: Edit, resolution: Resolution | None, removed: int | None
) -> EditRow:
    asked = EditRow(
        round=request.round,
        party=request.party,
        index=request.index,
        fact_id=edit.fact_id,
        relation=edit.relation,
        subject=edit.subject,
        prompt=edit.prompt,
        target_new=edit.target_new,
        target_old=edit.target_old,
        kind=request.kind,
        removed=removed,
    )
    if resolution is None:
        return asked
    decision = resolution.of(request.party, request.index)
    return replace(
        asked,
        status=decision.status,
        num_asking=decision.num_asking,
        weight=weight_of(scenario.overlap, decision),
        num_paraphrases=len(augmented(scenario, request, decision, lambda _: edit)),
    )


def schedule_row(timeline: Timeline, round_number: int) -> ScheduleRow:
    """What the table says of a round in virtual time."""
    turn, ages = timeline.turns[round_number - 1], timeline.ages(round_number)
    num_late = int(turn.is_late_S.sum())
    return ScheduleRow(
        round=round_number,
        start_s=turn.start_s,
        end_s=turn.end_s,
        num_available=turn.num_available,
        num_wanted=turn.num_wanted,
        num_asked=len(turn.asked_S),
        num_in_time=len(turn.asked_S) - num_late,
        num_late=num_late,
        num_edits=len(ages),
        num_carried=int((ages > 0).sum()),
        age_rounds=float(ages.mean()) if len(ages) else None,
        most_age_rounds=int(ages.max()) if len(ages) else None,
        num_lost=turn.num_lost,
        num_waiting=turn.num_waiting,
    )


def participation_rows(timeline: Timeline, round_number: int) -> Iterator[ParticipationRow]:
    """A row for each party that is asked in a round, in order."""
    turn = timeline.turns[round_number - 1]
    columns = turn.asked_S.tolist(), turn.num_edits_S.tolist(), turn.answer_s_S.tolist(), turn.is_late_S.tolist()
    for party, num_edits, answer_s, is_late in zip(*columns, strict=True):
        device = timeline.class_of[party]
        yield ParticipationRow(round_number, party, device, num_edits, answer_s, timeline.outcome(is_late))
