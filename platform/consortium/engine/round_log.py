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
from consortium.evaluation.telling import Told
from consortium.features.conflicts.resolution import Place, Settled, Verdict
from consortium.features.conflicts.selected import augmented, weight_of
from consortium.features.screening.checks import Refusal
from consortium.features.unlearning.requests import num_taken_back
from consortium.features.virtual_time.participation import course_of
from consortium.features.virtual_time.timeline import Course
from consortium.merging.layer_update import Distances
from consortium.party.audit_digest import Receipt
from consortium.records.manifest import Note
from consortium.records.rows import (
    AnswerRow,
    AttendanceRow,
    EditRow,
    EventRow,
    LedgerRow,
    MetricRow,
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
class Remark:
    """What there is to say about an event that is still going on."""

    detail: str | None = None


class Journal:
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
        # Lane → a number for each party [P].
        self._party_bytes: dict[str, Counts] = defaultdict(self._zeros)
        self._left_out: dict[str, Counts] = defaultdict(self._zeros)
        self._not_finite: dict[str, Counts] = defaultdict(self._zeros)
        self._residuals: list[tuple[str, int, Mapping[Asked, Residuals]]] = []
        self._metrics: list[MetricRow] = []
        self._answers: dict[str, Spool[AnswerRow]] = {}
        self._verdicts: dict[Place, Verdict] = {}
        self._merged: list[tuple[str, str, int, Receipt, str | None]] = []
        self._lost_calls: Counter[Hashable] = Counter()
        self._dropped: Counter[Hashable] = Counter()
        self._refused: dict[tuple[str, int], str] = {}
        self._absent_before: dict[str, Mapping[int, frozenset[int]]] = {}
        self._largest_norm: dict[str, float] = {}

    def _zeros(self) -> Counts:
        return np.zeros(self.scenario.parties.count, np.int64)

    def event(  # noqa: PLR0913  (the columns of the table)
        self,
        kind: str,
        round_number: int,
        *,
        lanes: Sequence[str] = (),
        layer: int | None = None,
        cohort: int | None = None,
        host: str | None = None,
        seconds: float | None = None,
        num_bytes: int | None = None,
        detail: str | None = None,
        round_trip_s: float | None = None,
    ) -> None:
        """Record something that happened now; its seconds are shared evenly between ``lanes``."""
        lane = lanes[0] if len(lanes) == 1 else None
        now = self.clock()
        row = EventRow(now, kind, round_number, lane, layer, cohort, host, seconds, num_bytes, detail, round_trip_s)
        self._events.append(row)
        # The same work, on edits of earlier rounds; and what a machine's hosts add up for the coordinator.
        phase = "collect" if kind in ("retract", "add") else kind
        for each in lanes:
            self._seconds[each, phase] += (seconds or 0.0) / len(lanes)

    def notes(self, notes: Sequence[Note], round_number: int) -> None:
        """Tell of what befell the run while no round was worked on."""
        for note in notes:
            self.event(note.kind, round_number, detail=note.detail)

    @contextmanager
    def timed(
        self, kind: str, round_number: int, *, lanes: Sequence[str] = (), layer: int | None = None
    ) -> Iterator[Remark]:
        """Record an event that takes as long as the block; what is yielded takes a remark on it."""
        start = time.monotonic()
        remark = Remark()
        yield remark
        seconds = time.monotonic() - start
        self.event(kind, round_number, lanes=lanes, layer=layer, seconds=seconds, detail=remark.detail)

    def begun(
        self,
        lane: str,
        absent: Iterable[int],
        before: Mapping[int, frozenset[int]],
        round_number: int = 0,
        refusals: Sequence[Refusal] = (),
    ) -> None:
        """Record that a lane's round begins without some parties; once more, where it was begun with some refused.

        ``before`` maps earlier rounds to the parties that were out in them.
        What was sent and wanted before is forgotten, since nothing of it was merged; the time it took is not.
        """
        for each in refusals:
            self._refused[lane, each.party] = each.reason
            self.event(
                "refused", round_number, lanes=[lane], detail=f"party {each.party}: {each.reason}: {each.detail}"
            )
        for party in absent:
            self._refused.setdefault((lane, party), "quarantined")
        self._absent_before[lane] = before
        self._party_bytes.pop(lane, None)
        self._not_finite.pop(lane, None)
        self._residuals = [each for each in self._residuals if each[0] != lane]
        self._merged = [each for each in self._merged if each[1] != lane]
        self._largest_norm[lane] = 0.0

    def sent(
        self,
        lane: str,
        cohort: int,
        party_bytes: Sequence[int],
        num_left_out: Sequence[int],
        largest_norm: float = 0.0,
        num_not_finite: Sequence[int] = (),
    ) -> None:
        """Record what each party of a cohort sent to a lane, and how many edits it left out at every layer.

        ``largest_norm`` is the largest size of these messages, in multiples of what is usual; ``num_not_finite`` how
        many edits each party left out besides, since their numbers are not finite (empty for none).
        """
        self._largest_norm[lane] = max(self._largest_norm.get(lane, 0.0), largest_norm)
        for party, number in zip(self.scenario.cohort(cohort), num_not_finite, strict=False):
            self._not_finite[lane][party] = max(number, self._not_finite[lane][party])
        for party, num_bytes, number in zip(self.scenario.cohort(cohort), party_bytes, num_left_out, strict=True):
            self._party_bytes[lane][party] += num_bytes
            self._left_out[lane][party] = number

    def check_finite(self, lane: str, round_number: int, receipts: Iterable[Receipt]) -> None:
        """Before a merge: no more edits were left out, their numbers not being finite, than the scenario allows.

        Raises:
            NotFiniteError: more were.
        """
        bad, total = int(self._not_finite[lane].sum()), sum(each.num_edits for each in receipts)
        if bad > self.scenario.evaluate.max_not_finite * total:
            found = f"{bad} of {count(total, 'edit')} have targets, keys or residuals that are not finite"
            raise not_finite(f"{found} in lane {lane}, round {round_number}", self.scenario.evaluate.max_not_finite)

    @property
    def num_bytes(self) -> int:
        """Bytes that parties sent in this round, to all lanes."""
        return sum(int(bytes_P.sum()) for bytes_P in self._party_bytes.values())

    @property
    def num_refused(self) -> int:
        """Parties that the lanes' doors kept out of this round."""
        return len(self._refused)

    def wanted(self, lane: str, layer: int, residuals: Mapping[Asked, Residuals]) -> None:
        """Record what a lane's model was wanting of the edits when their targets were optimised."""
        self._residuals.append((lane, layer, residuals))

    def settled(self, groups: Sequence[Settled]) -> None:
        """Record what was settled about the round's edits."""
        for each in groups:
            self._verdicts.update(each.verdicts)

    def merged(
        self, kind: str, lane: str, layer: int, receipts: Iterable[Receipt], hosts: Iterable[str | None]
    ) -> None:
        """Record that the sum of some cohorts' answers, each from a host, went into (or out of) a lane's layer."""
        for receipt, host in zip(receipts, hosts, strict=True):
            self._merged.append((kind, lane, layer, receipt, host))

    def asked_again(self, key: Hashable) -> None:
        """Record that a call's host was lost, or its answer refused; the key of a call names kind, lane and cohort."""
        self._lost_calls[key] += 1

    def dropped(self, key: Hashable) -> None:
        """Record that an answer to a call came twice, or too late, and was dropped."""
        self._dropped[key] += 1

    def measured(self, rows: Sequence[MetricRow]) -> None:
        """Record metrics, and as an event what of a lane's answers was not finite."""
        self._metrics.extend(rows)
        bad = [row for row in rows if row.num_not_finite and not of_column(row.metric).parts]
        if bad:
            parts = (
                f"{row.metric}{'' if row.of_round is None else f' of round {row.of_round}'}: {row.num_not_finite} of "
                f"{(row.num_not_finite or 0) + row.num_probes}"
                for row in bad
            )
            lanes = [bad[0].lane]
            self.event(NOT_FINITE, bad[0].round, lanes=lanes, detail=f"answers left out: {', '.join(parts)}")

    def told(self, lane: str, round_number: int, told: Sequence[Told]) -> None:
        """Record what some probes of a lane were answered with, cohort after cohort."""
        if not told:
            return
        rows = [AnswerRow(round_number, lane, **vars(each)) for each in told]
        self._answers.setdefault(lane, Spool()).add(rows)

    def close_round(self, round_number: int, stream: Stream, facts: FactSet, distances: dict[str, Distances]) -> Rows:
        """All rows of the round; the journal is empty afterwards. Round 0 has events and nothing else.

        Those of parties and edits are made when they are written: they are too many to be held.
        """
        lanes = [spec.lane for spec in self.scenario.merge.methods] if round_number else []
        for lane in lanes:
            if bad := int(self._not_finite[lane].sum()):
                detail = f"edits left out: {bad}, whose targets, keys or residuals are not finite"
                self.event(NOT_FINITE, round_number, lanes=[lane], detail=detail)
        sent = {lane: (self._party_bytes[lane], self._left_out[lane], self._not_finite[lane]) for lane in lanes}
        out = self._refused, self._absent_before
        edits = partial(self._edit_rows, round_number, stream, facts, self._verdicts)
        parties = partial(self._party_rows, round_number, stream, sent, _num_withdrawn(self._verdicts), *out)
        course = course_of(stream) if round_number else None
        rows = Rows(
            rounds=[self._round_row(round_number, lane, stream, distances[lane]) for lane in lanes],
            edits=Streamed(edits) if round_number else [],
            parties=Streamed(parties) if round_number else [],
            metrics=self._metrics_in_order(),
            answers=Streamed(partial(_chained, self._in_order_of_lanes(self._answers))),
            residuals=list(self._residual_rows(round_number)),
            ledger=list(self._ledger_rows(round_number)),
            events=self._events,
            schedule=[schedule_row(course, round_number)] if course else [],
            attendance=list(attendance_rows(course, round_number)) if course else [],
        )
        self._clear()
        return rows

    def _in_order_of_lanes(self, spools: Mapping[str, Spool[AnswerRow]]) -> list[Spool[AnswerRow]]:
        """As the scenario has the lanes; the unedited model comes before all."""
        places = {spec.lane: place for place, spec in enumerate(self.scenario.merge.methods)}
        return [spools[lane] for lane in sorted(spools, key=lambda lane: places.get(lane, -1))]

    def _metrics_in_order(self) -> list[MetricRow]:
        """Lane after lane as in the scenario, whichever was measured first; the unedited model comes before all."""
        places = {spec.lane: place for place, spec in enumerate(self.scenario.merge.methods)}
        return sorted(self._metrics, key=lambda row: places.get(row.lane, -1))

    def _round_row(self, round_number: int, lane: str, stream: Stream, found: Distances) -> RoundRow:
        withdrawn = _num_withdrawn(self._verdicts)
        out = [party for each, party in self._refused if each == lane and party in stream.present(round_number)]
        asked = (stream.num_requests(round_number, range(party, party + 1)) - withdrawn[party] for party in out)
        return RoundRow(
            round=round_number,
            lane=lane,
            num_parties=len(stream.present(round_number)) - len(out),
            num_edits=stream.num_requests(round_number) - withdrawn.total() - sum(asked),
            num_refused=len(out),
            largest_norm=self._largest_norm.get(lane),
            num_retracted=num_taken_back(
                stream, round_number, stream.departures.parties(round_number), self._absent_before.get(lane)
            ),
            bytes_sent=int(self._party_bytes[lane].sum()),
            **{f"{phase}_s": self._seconds[lane, phase] for phase in PHASES},
            weights_distance=found.weights_distance,
            update_distance=found.update_distance,
            update_norm=found.update_norm,
            num_meeting=found.coincidence.num_meeting if found.coincidence else None,
            contradiction=found.coincidence.contradiction if found.coincidence else None,
        )

    def _party_rows(
        self,
        round_number: int,
        stream: Stream,
        sent: Mapping[str, tuple[Counts, Counts, Counts]],
        withdrawn: Mapping[int, int],
        refused: Mapping[tuple[str, int], str],
        absent_before: Mapping[str, Mapping[int, frozenset[int]]],
    ) -> Iterator[PartyRow]:
        """Lane after lane; ``sent`` gives each lane's bytes and numbers of edits left out and not finite, by party."""
        size, looking = self.scenario.cluster.cohort_size, self.scenario.lanes_that_leave_out
        for lane, (bytes_P, left_out_P, not_finite_P) in sent.items():
            for party in range(self.scenario.parties.count):
                asked = stream.num_requests(round_number, range(party, party + 1))
                gone = num_taken_back(stream, round_number, [party], absent_before.get(lane))
                if asked or gone:
                    left_out = int(left_out_P[party]) if lane in looking else None
                    reason = refused.get((lane, party))
                    num_edits = 0 if reason else asked - withdrawn.get(party, 0)
                    of_party = num_edits, int(bytes_P[party]), left_out, gone, reason, int(not_finite_P[party])
                    yield PartyRow(round_number, lane, party, party // size, *of_party)

    def _residual_rows(self, round_number: int) -> Iterator[ResidualRow]:
        places = {spec.lane: place for place, spec in enumerate(self.scenario.merge.methods)}
        first = plan_round(self.scenario.editor, self.scenario.merge.exchange)[0].targets[0]
        looked_at = first if self.scenario.conflicts.detect == "answer" else None
        for lane, layer, sums in sorted(self._residuals, key=lambda each: places[each[0]]):
            for (kind, asked_before), found in sorted(sums.items()):
                mean = found.shift / found.num_edits if found.num_edits else None
                num_held = found.num_held if lane in self.scenario.lanes_that_look else 0
                seen = (found.num_contradicting, found.num_found, found.num_right) if layer == looked_at else ()
                row = ResidualRow(round_number, lane, layer, kind, asked_before, found.num_edits, mean, num_held, *seen)
                yield replace(row, num_not_finite=found.num_not_finite)

    def _ledger_rows(self, round_number: int) -> Iterator[LedgerRow]:
        """Lane after lane, layer after layer, whichever was merged first."""
        places = {spec.lane: place for place, spec in enumerate(self.scenario.merge.methods)}
        order = sorted(self._merged, key=lambda each: (places[each[1]], each[2], each[0], each[3].cohort))
        for kind, lane, layer, receipt, host in order:
            out = frozenset(party for each, party in self._refused if each == lane)
            key = ("collect" if kind == "merge" else kind, lane, round_number, layer, out, receipt.cohort)
            yield LedgerRow(
                round=round_number,
                lane=lane,
                layer=layer,
                cohort=receipt.cohort,
                kind=kind,
                num_edits=receipt.num_edits,
                num_summed=receipt.num_summed,
                digest=receipt.digest,
                host=host,
                num_attempts=1 + self._lost_calls[key],
                num_dropped=self._dropped[key],
            )

    def _edit_rows(
        self, round_number: int, stream: Stream, facts: FactSet, verdicts: Mapping[Place, Verdict]
    ) -> Iterator[EditRow]:
        settled = Settled(verdicts) if self.scenario.settles else None
        for party in range(self.scenario.parties.count):
            for request in stream.requests(round_number, party):
                asked = asked_for(self.scenario, stream, request)
                edit = facts.edit(asked.fact, asked.variant)
                asked_in = (request.asked_in or round_number) if course_of(stream) else None
                row = _edit_row(self.scenario, request, edit, settled, stream.taken_back_in(request))
                yield replace(row, asked_in=asked_in)


def _chained(spools: Sequence[Spool[AnswerRow]]) -> Iterator[AnswerRow]:
    return chain.from_iterable(spools)


def _num_withdrawn(verdicts: Mapping[Place, Verdict]) -> Counter[int]:
    """Party → number of its edits that were withdrawn."""
    return Counter(party for (party, _), verdict in verdicts.items() if verdict.fate == "withdrawn")


def _edit_row(
    scenario: Scenario, request: Request, edit: Edit, settled: Settled | None, retracted: int | None
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
        retracted=retracted,
    )
    if settled is None:
        return asked
    verdict = settled.of(request.party, request.index)
    return replace(
        asked,
        fate=verdict.fate,
        num_asking=verdict.num_asking,
        weight=weight_of(scenario.overlap, verdict),
        num_augmented=len(augmented(scenario, request, verdict, lambda _: edit)),
    )


def schedule_row(course: Course, round_number: int) -> ScheduleRow:
    """What the table says of a round in virtual time."""
    turn, ages = course.turns[round_number - 1], course.ages(round_number)
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


def attendance_rows(course: Course, round_number: int) -> Iterator[AttendanceRow]:
    """A row for each party that is asked in a round, in order."""
    turn = course.turns[round_number - 1]
    columns = turn.asked_S.tolist(), turn.num_edits_S.tolist(), turn.answer_s_S.tolist(), turn.is_late_S.tolist()
    for party, num_edits, answer_s, is_late in zip(*columns, strict=True):
        device = course.class_of[party]
        yield AttendanceRow(round_number, party, device, num_edits, answer_s, course.outcome(is_late))
