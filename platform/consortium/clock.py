"""Virtual time: the stream by which a run goes, and what its tables say of the virtual course."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from consortium.editing.editors.registry import create
from consortium.records.rows import AttendanceRow, ScheduleRow
from consortium.rounds import plan_round
from consortium.scenario.prepare import describe
from consortium.scenario.schema import Scenario
from consortium.streams.attendance import AttendedStream
from consortium.streams.course import Asks, Course, run_course
from consortium.streams.demand import facts_at_each_deal
from consortium.streams.devices import Devices
from consortium.streams.message_sizes import MessageSizes
from consortium.streams.stream import Stream


def open_stream(scenario: Scenario, relations: Sequence[str]) -> Stream:
    """What parties put into each round of a scenario: what they ask for in it, unless virtual time says otherwise.

    Args:
        scenario: the scenario as resolved.
        relations: the relation of every fact of the fact set, in order.

    Raises:
        ScenarioError: there are too few facts, or the trace of devices cannot be read.
    """
    asked = scenario.seed, scenario.parties, scenario.stream, relations
    num_facts = facts_at_each_deal(scenario, len(relations))
    if not scenario.has_clock:
        return Stream(*asked, num_facts)
    devices = Devices(scenario.seed, scenario.devices, scenario.parties.count)
    sizes = message_sizes(scenario)

    def follow(asks: Asks) -> Course:
        return run_course(scenario.seed, scenario.schedule, devices, sizes, asks)

    return AttendedStream(*asked, follow, num_facts)


def message_sizes(scenario: Scenario) -> MessageSizes:
    """Bytes of a scenario's messages; the widths are those of the model's config, no weights are read.

    There is one virtual time for all lanes: statistics are what ``merge.statistics`` says, and exchanges those of
    ``merge.exchange``. Messages of methods that send updates differ by what these weigh.
    """
    model = describe(scenario.model)
    tunes_weights = create(scenario.editor).tunes_weights
    return MessageSizes(
        key_width=model.key_width,
        value_width=model.value_width,
        num_layers=len(scenario.editor.edited_layers),
        num_exchanges=len(plan_round(scenario.editor, scenario.merge.exchange)),
        form="update" if tunes_weights else scenario.merge.statistics,
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
