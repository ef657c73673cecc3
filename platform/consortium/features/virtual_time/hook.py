"""Virtual time as a hook: the stream by which a run goes, and what its tables say of the virtual course."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from consortium.data.edit import Edit
from consortium.data.request import Request
from consortium.features.hooks import RoundHook, RoundRecord
from consortium.features.virtual_time.participation import ParticipationStream
from consortium.features.virtual_time.timeline import Timeline
from consortium.records.rows import EditRow, ParticipationRow, ScheduleRow


class VirtualTime(RoundHook):
    """Writes down who was asked in a round, and when who answered."""

    name = "virtual_time"

    def edit_row(self, row: EditRow, request: Request, edit: Edit, record: RoundRecord) -> EditRow:
        """With the round in which the edit was asked for."""
        return replace(row, asked_in=request.asked_in or row.round)

    def tables(self, round_number: int, record: RoundRecord) -> Mapping[str, Sequence[Any]]:
        """The schedule of the round, and who attended."""
        assert isinstance(self.stream, ParticipationStream), "opened for a scenario with virtual time"
        timeline = self.stream.timeline
        return {
            "schedule": [schedule_row(timeline, round_number)],
            "participation": list(participation_rows(timeline, round_number)),
        }


def schedule_row(timeline: Timeline, round_number: int) -> ScheduleRow:
    """What the table says of a round in virtual time."""
    round_timeline, ages = timeline.turns[round_number - 1], timeline.ages(round_number)
    num_late = int(round_timeline.is_late_S.sum())
    return ScheduleRow(
        round=round_number,
        start_s=round_timeline.start_s,
        end_s=round_timeline.end_s,
        num_available=round_timeline.num_available,
        num_wanted=round_timeline.num_wanted,
        num_asked=len(round_timeline.asked_S),
        num_in_time=len(round_timeline.asked_S) - num_late,
        num_late=num_late,
        num_edits=len(ages),
        num_carried=int((ages > 0).sum()),
        age_rounds=float(ages.mean()) if len(ages) else None,
        most_age_rounds=int(ages.max()) if len(ages) else None,
        num_lost=round_timeline.num_lost,
        num_waiting=round_timeline.num_waiting,
    )


def participation_rows(timeline: Timeline, round_number: int) -> Iterator[ParticipationRow]:
    """A row for each party that is asked in a round, in order."""
    round_timeline = timeline.turns[round_number - 1]
    columns = (
        round_timeline.asked_S.tolist(),
        round_timeline.num_edits_S.tolist(),
        round_timeline.answer_s_S.tolist(),
        round_timeline.is_late_S.tolist(),
    )
    for party, num_edits, answer_s, is_late in zip(*columns, strict=True):
        device = timeline.class_of[party]
        yield ParticipationRow(round_number, party, device, num_edits, answer_s, timeline.outcome(is_late))


AT_COORDINATOR = VirtualTime
