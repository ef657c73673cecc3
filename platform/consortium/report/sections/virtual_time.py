"""Virtual time: how long rounds were, who was late, what became of late edits, and when the
model knew what it was asked to know."""

from __future__ import annotations

from collections.abc import Sequence

from consortium.records.rows import ScheduleRow
from consortium.report import words
from consortium.report.content import Figure, Figures, Run, Section, Table
from consortium.report.figures import Curves
from consortium.report.results import Results
from consortium.report.sections import virtual_time_figures
from consortium.scenario.schema import Scenario

_MOST_ROWS = 30
_LATE_WORDS = {"carry": "come with a later answer", "wait": "are waited for", "drop": "are lost"}
_COLUMNS = {
    "round": "round",
    "start_s": "from",
    "end_s": "to",
    "num_available": "there",
    "num_asked": "asked",
    "num_in_time": "in time",
    "num_late": "late",
    "num_edits": "edits merged",
    "num_carried": "of earlier rounds",
    "num_lost": "lost",
    "num_waiting": "waiting",
}


def section(run: Run) -> Section | None:
    """None for a run without virtual time, and before its first round."""
    if not run.directory.scenario.has_clock:
        return None
    rows = [ScheduleRow(**row) for row in run.directory.table("schedule").to_pylist()]
    if not rows:
        return None
    drawn = {
        "answers": ("Parties asked in each round, from its begin to its end.", virtual_time_figures.answers),
        "edits": ("What became, by the end of each round, of all edits asked for.", virtual_time_figures.edits),
    }
    if any(row.num_carried for row in rows):
        meaning = "Rounds from asking to merging of the edits that a round merged."
        drawn["age of edits"] = meaning, virtual_time_figures.ages
    charts = [Figure(title, meaning, draw, (rows,)) for title, (meaning, draw) in drawn.items()]
    charts += _over_time(run, rows)
    table = Table(tuple(_COLUMNS.values()), [[_cell(row, name) for name in _COLUMNS] for row in rows[:_MOST_ROWS]], "n")
    rest = [f"And {words.count(len(rows) - _MOST_ROWS, 'round')} more."] * (len(rows) > _MOST_ROWS)
    return Section("Virtual time", [_told(run.directory.scenario, rows), Figures(charts), table, *rest])


def _told(scenario: Scenario, rows: Sequence[ScheduleRow]) -> str:
    """The section in words."""
    num_asked, num_late = sum(row.num_asked for row in rows), sum(row.num_late for row in rows)
    num_merged, num_lost = sum(row.num_edits for row in rows), sum(row.num_lost for row in rows)
    num_later = sum(row.num_carried for row in rows)
    share = f", {100 * (1 - num_late / num_asked):.1f} % of them in time" if num_asked else ""
    late = _LATE_WORDS[scenario.schedule.late]
    wanted = words.count(_num_asked_for(rows)[-1], "edit")
    return (
        f"{words.count(len(rows), 'round')} took {words.duration(rows[-1].end_s)} of virtual time. Parties were asked "
        f"{words.count(num_asked, 'time')}{share}; edits that are late {late}. "
        f"Of {wanted} asked for, {num_merged:,} were merged, {num_later:,} of them in a later round than they were "
        f"asked for, {num_lost:,} were lost, and {rows[-1].num_waiting:,} still wait."
    )


def _num_asked_for(rows: Sequence[ScheduleRow]) -> list[int]:
    """Edits asked for up to each round: those that were merged or lost so far, and those that wait."""
    done, found = 0, []
    for row in rows:
        done += row.num_edits + row.num_lost
        found.append(done + row.num_waiting)
    return found


def _over_time(run: Run, rows: Sequence[ScheduleRow]) -> list[Figure]:
    """The main metric over virtual time and, where edits of all rounds are probed, what holds of all asked for."""
    results, metric = run.results, words.main_metric(run.results)
    ends = {row.round: row.end_s for row in rows}
    charts = []
    if metric is not None:
        unit = next(lane.final[metric].unit for lane in results.lanes if metric in lane.final)
        curves = {lane.lane: [(ends[number], value) for number, value in lane.curve(metric)] for lane in results.lanes}
        meaning, name = "After each round, of the edits that were probed.", words.metric_name(metric)
        charts.append(_curves(run, f"{name} over virtual time", meaning, curves, unit is None))
    if run.directory.scenario.evaluate.edits == "all":
        meaning = "Efficacy of the merged edits, times the share of all edits asked for so far that are merged."
        charts.append(_curves(run, "asked for and held", meaning, held_of_all(results, rows), True))
    return [chart for chart in charts if chart.data[0]]


def _curves(run: Run, title: str, meaning: str, curves: Curves, in_percent: bool) -> Figure:
    shown = {lane: curve for lane, curve in curves.items() if curve}
    return Figure(title, meaning, virtual_time_figures.curves, (shown, run.styles, in_percent), legend=run.styles)


def held_of_all(results: Results, rows: Sequence[ScheduleRow]) -> dict[str, list[tuple[float, float]]]:
    """Lane → (end of round in seconds, percent of all edits asked for so far that are merged and hold)."""
    num_merged, shares = 0, {}
    for row, num_asked_for in zip(rows, _num_asked_for(rows), strict=True):
        num_merged += row.num_edits
        shares[row.round] = row.end_s, num_merged / num_asked_for if num_asked_for else 0.0
    return {
        lane.lane: [(shares[number][0], shares[number][1] * percent) for number, percent in lane.curve("efficacy")]
        for lane in results.lanes
    }


def _cell(row: ScheduleRow, name: str) -> str:
    value = getattr(row, name)
    return words.duration(value) if name.endswith("_s") else f"{value:,}"
