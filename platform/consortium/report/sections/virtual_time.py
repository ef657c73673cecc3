"""The report's section on virtual time: how long rounds were, who was late, what became of late edits, and when the
model knew what it was asked to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from consortium.records.directory import RunDirectory
from consortium.records.rows import ScheduleRow
from consortium.report import html, words
from consortium.report.results import Results
from consortium.report.sections import virtual_time_figures
from consortium.report.style import LaneStyle

Styles = Mapping[str, LaneStyle]

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


def section(directory: RunDirectory, results: Results, styles: Styles) -> str:
    """What happened in virtual time; empty for a run without it, and before its first round."""
    if not directory.scenario.has_clock:
        return ""
    rows = [ScheduleRow(**row) for row in directory.table("schedule").to_pylist()]
    if not rows:
        return ""
    charts = [
        html.chart(
            "answers",
            "Parties asked in each round, from its begin to its end.",
            lambda: virtual_time_figures.answers(rows),
        ),
        html.chart(
            "edits",
            "What became, by the end of each round, of all edits asked for.",
            lambda: virtual_time_figures.edits(rows),
        ),
    ]
    if any(row.num_carried for row in rows):
        meaning = "Rounds from asking to merging of the edits that a round merged."
        charts.append(html.chart("age of edits", meaning, lambda: virtual_time_figures.ages(rows)))
    charts += _over_time(directory, results, rows, styles)
    return (
        f'<h2>Virtual time</h2><p>{_told(directory, rows)}</p><div class="charts">{"".join(charts)}</div>{_table(rows)}'
    )


def _told(directory: RunDirectory, rows: Sequence[ScheduleRow]) -> str:
    """The section in words."""
    num_asked, num_late = sum(row.num_asked for row in rows), sum(row.num_late for row in rows)
    num_merged, num_lost = sum(row.num_edits for row in rows), sum(row.num_lost for row in rows)
    num_later = sum(row.num_carried for row in rows)
    share = f", {100 * (1 - num_late / num_asked):.1f} % of them in time" if num_asked else ""
    late = _LATE_WORDS[directory.scenario.schedule.late]
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


def _over_time(directory: RunDirectory, results: Results, rows: Sequence[ScheduleRow], styles: Styles) -> list[str]:
    """The main metric over virtual time and, where edits of all rounds are probed, what holds of all asked for."""
    metric = words.main_metric(results)
    ends = {row.round: row.end_s for row in rows}
    charts = []
    if metric is not None:
        name = words.metric_name(metric)
        unit = next(lane.final[metric].unit for lane in results.lanes if metric in lane.final)
        found = {lane.lane: [(ends[number], value) for number, value in lane.curve(metric)] for lane in results.lanes}
        found = {lane: points for lane, points in found.items() if points}
        meaning = "After each round, of the edits that were probed."
        charts.append(
            html.chart(
                f"{name} over virtual time", meaning, partial(virtual_time_figures.curves, found, styles, unit is None)
            )
        )
    if directory.scenario.evaluate.edits == "all":
        held = {lane: points for lane, points in held_of_all(results, rows).items() if points}
        meaning = "Efficacy of the merged edits, times the share of all edits asked for so far that are merged."
        if held:
            charts.append(html.chart("asked for and held", meaning, partial(virtual_time_figures.curves, held, styles)))
    return charts


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


def _table(rows: Sequence[ScheduleRow]) -> str:
    header = "".join(f'<th scope="col" class="n">{name}</th>' for name in _COLUMNS.values())
    shown = rows[:_MOST_ROWS]
    body = "".join(
        "<tr>" + "".join(f'<td class="n">{_cell(row, name)}</td>' for name in _COLUMNS) + "</tr>" for row in shown
    )
    rest = f"<p>And {words.count(len(rows) - len(shown), 'round')} more.</p>" if len(rows) > len(shown) else ""
    return html.table(header, body) + rest


def _cell(row: ScheduleRow, name: str) -> str:
    value = getattr(row, name)
    return words.duration(value) if name.endswith("_s") else f"{value:,}"
