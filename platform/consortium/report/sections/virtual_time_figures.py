"""Pictures of a run in virtual time; the axis of time is in the unit that suits its length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from consortium.records.rows import ScheduleRow
from consortium.report.drawing import legend, new_figure
from consortium.report.figures import Curve, form, percent_range
from consortium.report.style import LaneStyle

ANSWER_COLOURS = {"in time": "#12355b", "late": "#e0a030"}
EDIT_COLOURS = {"merged": "#12355b", "merged later": "#4a7fb0", "waiting": "#d3dae0", "lost": "#c0562b"}
AGE_COLOURS = {"mean": "#12355b", "most": "#e0a030"}


def answers(rows: Sequence[ScheduleRow]) -> Figure:
    """Each round as a bar from its beginning to its end, as high as parties were asked, those in time below."""
    widths = [row.end_s - row.start_s for row in rows]
    starts, in_time, late = zip(*((row.start_s, row.num_in_time, row.num_late) for row in rows), strict=True)
    figure, axes = new_figure(2.5)
    axes.bar(starts, in_time, widths, align="edge", color=ANSWER_COLOURS["in time"])
    axes.bar(starts, late, widths, in_time, align="edge", color=ANSWER_COLOURS["late"])
    axes.vlines(starts, 0, [sum(pair) for pair in zip(in_time, late, strict=True)], color="white", linewidth=0.6)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    _time_axis(axes, rows[-1].end_s)
    legend(figure, ANSWER_COLOURS)
    return figure


def edits(rows: Sequence[ScheduleRow]) -> Figure:
    """What became, by the end of each round, of the edits that were asked for, stacked over the round's time."""
    ends = [rows[0].start_s, *(row.end_s for row in rows)]
    later, lost = _summed([row.num_carried for row in rows]), _summed([row.num_lost for row in rows])
    at_once = _summed([row.num_edits - row.num_carried for row in rows])
    waiting = [0, *(row.num_waiting for row in rows)]
    figure, axes = new_figure(2.5)
    axes.stackplot(ends, at_once, later, waiting, lost, colors=list(EDIT_COLOURS.values()), step="pre")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    form(axes.yaxis, lambda value: f"{value:,.0f}")
    _time_axis(axes, ends[-1])
    legend(figure, EDIT_COLOURS)
    return figure


def ages(rows: Sequence[ScheduleRow]) -> Figure:
    """Rounds from asking to merging of the edits that each round merged: their mean, and the most."""
    shown = [row for row in rows if row.age_rounds is not None and row.most_age_rounds is not None]
    ends = [row.end_s for row in shown]
    figure, axes = new_figure(2.5)
    axes.plot(ends, [row.most_age_rounds or 0 for row in shown], color=AGE_COLOURS["most"], marker="s")
    axes.plot(ends, [row.age_rounds or 0.0 for row in shown], color=AGE_COLOURS["mean"], marker="o")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    _time_axis(axes, rows[-1].end_s)
    legend(figure, AGE_COLOURS)
    return figure


def curves(found: Mapping[str, Curve], styles: Mapping[str, LaneStyle], in_percent: bool = True) -> Figure:
    """A measure over virtual time, one line a lane: lane → (seconds, value)."""
    figure, axes = new_figure(2.5)
    for lane, points in found.items():
        style = styles[lane]
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
