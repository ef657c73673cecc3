"""Virtual time: how long rounds were, who was late, what became of late edits, and when the
model knew what it was asked to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import MaxNLocator

from consortium.records.rows import ScheduleRow
from consortium.report import words
from consortium.report.content import Figure, Figures, Run, Section, Table
from consortium.report.drawing import legend, new_figure
from consortium.report.figures import Curve, Curves, form, percent_range
from consortium.report.results import Results
from consortium.report.style import ArmStyle
from consortium.scenario.schema import Scenario

_MOST_ROWS = 30
_LATE_WORDS = {"carry": "come with a later answer", "wait": "are waited for", "drop": "are lost"}
_ANSWER_COLOURS = {"in time": "#12355b", "late": "#e0a030"}
_EDIT_COLOURS = {"merged": "#12355b", "merged later": "#4a7fb0", "waiting": "#d3dae0", "lost": "#c0562b"}
_AGE_COLOURS = {"mean": "#12355b", "most": "#e0a030"}
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
    if not run.directory.scenario.has_virtual_time:
        return None
    rows = [ScheduleRow(**row) for row in run.directory.table("schedule").to_pylist()]
    if not rows:
        return None
    drawn = {
        "answers": ("Parties asked in each round, from its begin to its end.", _draw_answers),
        "edits": ("What became, by the end of each round, of all edits asked for.", _draw_edits),
    }
    if any(row.num_carried for row in rows):
        meaning = "Rounds from asking to merging of the edits that a round merged."
        drawn["age of edits"] = meaning, _draw_ages
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
    late = _LATE_WORDS[scenario.virtual_time.schedule.late]
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
        unit = next(arm.final[metric].unit for arm in results.arms if metric in arm.final)
        curves = {arm.arm: [(ends[number], value) for number, value in arm.curve(metric)] for arm in results.arms}
        meaning, name = "After each round, of the edits that were probed.", words.metric_name(metric)
        charts.append(_curves(run, f"{name} over virtual time", meaning, curves, unit is None))
    if run.directory.scenario.evaluate.edits == "all":
        meaning = "Efficacy of the merged edits, times the share of all edits asked for so far that are merged."
        charts.append(_curves(run, "asked for and held", meaning, held_of_all(results, rows), True))
    return [chart for chart in charts if chart.data[0]]


def _curves(run: Run, title: str, meaning: str, curves: Curves, in_percent: bool) -> Figure:
    shown = {arm: curve for arm, curve in curves.items() if curve}
    return Figure(title, meaning, _draw_curves, (shown, run.styles, in_percent), legend=run.styles)


def held_of_all(results: Results, rows: Sequence[ScheduleRow]) -> dict[str, list[tuple[float, float]]]:
    """Arm → (end of round in seconds, percent of all edits asked for so far that are merged and hold)."""
    num_merged, shares = 0, {}
    for row, num_asked_for in zip(rows, _num_asked_for(rows), strict=True):
        num_merged += row.num_edits
        shares[row.round] = row.end_s, num_merged / num_asked_for if num_asked_for else 0.0
    return {
        arm.arm: [(shares[number][0], shares[number][1] * percent) for number, percent in arm.curve("efficacy")]
        for arm in results.arms
    }


def _cell(row: ScheduleRow, name: str) -> str:
    value = getattr(row, name)
    return words.duration(value) if name.endswith("_s") else f"{value:,}"


def _draw_answers(rows: Sequence[ScheduleRow]) -> Drawn:
    """Each round as a bar from its beginning to its end, as high as parties were asked, those in time below."""
    widths = [row.end_s - row.start_s for row in rows]
    starts, in_time, late = zip(*((row.start_s, row.num_in_time, row.num_late) for row in rows), strict=True)
    figure, axes = new_figure(2.5)
    axes.bar(starts, in_time, widths, align="edge", color=_ANSWER_COLOURS["in time"])
    axes.bar(starts, late, widths, in_time, align="edge", color=_ANSWER_COLOURS["late"])
    axes.vlines(starts, 0, [sum(pair) for pair in zip(in_time, late, strict=True)], color="white", linewidth=0.6)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    _time_axis(axes, rows[-1].end_s)
    legend(figure, _ANSWER_COLOURS)
    return figure


def _draw_edits(rows: Sequence[ScheduleRow]) -> Drawn:
    """What became, by the end of each round, of the edits that were asked for, stacked over the round's time."""
    ends = [rows[0].start_s, *(row.end_s for row in rows)]
    later, lost = _summed([row.num_carried for row in rows]), _summed([row.num_lost for row in rows])
    at_once = _summed([row.num_edits - row.num_carried for row in rows])
    waiting = [0, *(row.num_waiting for row in rows)]
    figure, axes = new_figure(2.5)
    axes.stackplot(ends, at_once, later, waiting, lost, colors=list(_EDIT_COLOURS.values()), step="pre")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    form(axes.yaxis, lambda value: f"{value:,.0f}")
    _time_axis(axes, ends[-1])
    legend(figure, _EDIT_COLOURS)
    return figure


def _draw_ages(rows: Sequence[ScheduleRow]) -> Drawn:
    """Rounds from asking to merging of the edits that each round merged: their mean, and the most."""
    shown = [row for row in rows if row.age_rounds is not None and row.most_age_rounds is not None]
    ends = [row.end_s for row in shown]
    figure, axes = new_figure(2.5)
    axes.plot(ends, [row.most_age_rounds or 0 for row in shown], color=_AGE_COLOURS["most"], marker="s")
    axes.plot(ends, [row.age_rounds or 0.0 for row in shown], color=_AGE_COLOURS["mean"], marker="o")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    _time_axis(axes, rows[-1].end_s)
    legend(figure, _AGE_COLOURS)
    return figure


def _draw_curves(found: Mapping[str, Curve], styles: Mapping[str, ArmStyle], in_percent: bool = True) -> Drawn:
    """A measure over virtual time, one line an arm: arm → (seconds, value)."""
    figure, axes = new_figure(2.5)
    for arm, points in found.items():
        style = styles[arm]
        axes.plot(
            [time_s for time_s, _ in points],
            [value for _, value in points],
            color=style.colour,
            linestyle=style.line,
            linewidth=style.width,
            marker=style.marker if len(points) <= 12 else None,
            zorder=3 - style.width / 10,
        )
    if in_percent:
        form(axes.yaxis, lambda value: f"{value:g} %")
        axes.set_ylim(*percent_range([value for points in found.values() for _, value in points]))
    _time_axis(axes, max(time_s for points in found.values() for time_s, _ in points))
    return figure


def _summed(counts: Sequence[int]) -> list[int]:
    """Sums up to each round, from none."""
    return [sum(counts[:end]) for end in range(len(counts) + 1)]


def _time_axis(axes: Axes, longest_s: float) -> None:
    units = (("s", 1.0, 300.0), ("min", 60.0, 3 * 3600.0), ("h", 3600.0, 3 * 86400.0), ("d", 86400.0, float("inf")))
    name, seconds = next((name, seconds) for name, seconds, most in units if longest_s <= most)
    axes.set_xlim(0, longest_s or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    form(axes.xaxis, lambda value: f"{value / seconds:g}")
    if seconds > 1:
        ticks = MaxNLocator(5, steps=[1, 2, 3, 6, 10]).tick_values(0, longest_s / seconds)
        axes.set_xticks([tick * seconds for tick in ticks if tick * seconds <= longest_s])
    axes.set_xlabel(f"virtual time, {name}")
