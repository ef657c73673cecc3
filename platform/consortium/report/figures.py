"""Pictures of a run as inline SVG, or PNG where an SVG would be heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from consortium.report.drawing import STYLE, legend, new_figure, to_svg
from consortium.report.overhead import Spent
from consortium.report.results import PHASES, Traffic
from consortium.report.style import INK, OTHER_COLOUR, PHASE_COLOURS, SPENT_COLOURS, UNEDITED_COLOUR, LaneStyle
from consortium.report.words import distance, duration, measured, size

Curve = Sequence[tuple[int, float]]


def percent_curves(
    curves: Mapping[str, Curve], styles: Mapping[str, LaneStyle], unedited: float | None, of_edits: bool = False
) -> str:
    """Percent over rounds, one line a lane; the unedited model as a dashed line.

    Args:
        curves: lane → (round, percent).
        styles: lane → style.
        unedited: the unedited model's percent, or None.
        of_edits: the rounds are those in which the edits were made, not those after which was measured.
    """
    with rc_context(STYLE):
        figure, axes = new_figure(2.5)
        if unedited is not None:
            axes.axhline(unedited, color=UNEDITED_COLOUR, linestyle=(0, (4, 3)), linewidth=1.3)
        _draw_curves(axes, curves, styles)
        low, high = percent_range([value for curve in curves.values() for _, value in curve], unedited)
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        axes.set_xlabel("round in which the edits were made" if of_edits else "after round")
        return to_svg(figure)


def distance_curves(curves: Mapping[str, Curve], styles: Mapping[str, LaneStyle]) -> str:
    """Distances over rounds on a logarithmic axis; zeros, which it has no place for, stand at its foot, marked 0."""
    values = [value for curve in curves.values() for _, value in curve]
    foot = min((value for value in values if value > 0), default=1e-9) / 3
    shown = {lane: [(round, max(value, foot)) for round, value in curve] for lane, curve in curves.items()}
    with rc_context(STYLE):
        figure, axes = new_figure(2.5)
        axes.set_yscale("log")
        _draw_curves(axes, shown, styles)
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        if 0 in values:
            low, high = axes.get_ylim()
            powers = [value for value in axes.get_yticks() if 2 * foot < value <= high]
            axes.set_yticks([foot, *powers])
            axes.set_ylim(max(low, foot / 2), max(high, 10 * foot))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value <= foot else _power(value)))
        axes.set_xlabel("after round")
        return to_svg(figure)


def residual_curves(curves: Mapping[str, Curve], styles: Mapping[str, LaneStyle], threshold: float | None) -> str:
    """Lengths of residuals over the number of times that the same was asked for before, one line a lane."""
    with rc_context(STYLE):
        figure, axes = new_figure(2.5)
        if threshold is not None:
            axes.axhline(threshold, color=UNEDITED_COLOUR, linestyle=(0, (4, 3)), linewidth=1.3)
        _draw_curves(axes, curves, styles)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("times asked for before")
        return to_svg(figure)


def value_curves(curves: Mapping[str, Curve], styles: Mapping[str, LaneStyle], unedited: float | None) -> str:
    """A metric with a unit of its own over rounds.

    The axis is logarithmic where values differ tenfold, and spans a fifth of them at least, so that noise looks small.
    """
    shown = [value for curve in curves.values() for _, value in curve] + ([] if unedited is None else [unedited])
    with rc_context(STYLE):
        figure, axes = new_figure(2.5)
        if unedited is not None:
            axes.axhline(unedited, color=UNEDITED_COLOUR, linestyle=(0, (4, 3)), linewidth=1.3)
        _draw_curves(axes, curves, styles)
        if min(shown) > 0 and max(shown) > 10 * min(shown):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(numticks=6))
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            room = max(0.1 * max(shown), 0.55 * (max(shown) - min(shown))) or 1.0
            middle = (min(shown) + max(shown)) / 2
            axes.set_ylim(middle - room, middle + room)
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value < 1e4 else distance(value)))
        axes.set_xlabel("after round")
        return to_svg(figure)


def percent_bars(values: Mapping[str, float], styles: Mapping[str, LaneStyle], unedited: float | None) -> str:
    """Percent of each lane as a bar with its number; for a run with a single measured round."""
    with rc_context(STYLE):
        figure, axes = _bar_figure(list(values))
        _draw_bars(axes, values, styles, unedited, 100.0, None)
        is_signed = min(values.values()) < 0  # of the metrics in percent, a conflict's magnitude alone
        ticks = [-100, -50, 0, 50, 100] if is_signed else [0, 25, 50, 75, 100]
        axes.set_xlim(-114 if is_signed else 0, 114)
        axes.set_xticks(ticks, [*map(str, ticks[:-1]), "100 %"])
        return to_svg(figure)


def value_bars(
    values: Mapping[str, float], styles: Mapping[str, LaneStyle], unedited: float | None, unit: str | None
) -> str:
    """A metric with a unit of its own as bars with their numbers; those beyond twenty times the least are cut."""
    shown = [*values.values(), *([] if unedited is None else [unedited])]
    widest = min(max(shown), 20 * min((value for value in shown if value > 0), default=0.0)) or 1.0
    with rc_context(STYLE):
        figure, axes = _bar_figure(list(values))
        _draw_bars(axes, values, styles, unedited, widest, unit)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: distance(value)))
        return to_svg(figure)


def time_bars(seconds: Mapping[str, Mapping[str, float]]) -> str:
    """Work of each lane, stacked by phase."""
    with rc_context(STYLE):
        figure, axes = _bar_figure(list(seconds), room_in=0.9)
        widest = max((sum(phases.values()) for phases in seconds.values()), default=0) or 1.0
        for place, phases in enumerate(seconds.values()):
            left = 0.0
            for phase in PHASES:
                axes.barh(place, phases[phase], left=left, height=0.66, color=PHASE_COLOURS[phase])
                left += phases[phase]
            axes.text(left + widest / 60, place, duration(left), va="center", ha="left")
        axes.set_xlim(0, widest * 1.26)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g} s"))
        legend(figure, {phase: PHASE_COLOURS[phase] for phase in PHASES})
        return to_svg(figure)


def spent_bars(hosts: Mapping[str, Spent]) -> str:
    """What each host's time went into, stacked, with its overhead as a percentage."""
    with rc_context(STYLE):
        figure, axes = _bar_figure(list(hosts), room_in=0.9)
        widest = max(spent.total for spent in hosts.values()) or 1.0
        for place, spent in enumerate(hosts.values()):
            left = 0.0
            for name, colour in SPENT_COLOURS.items():
                axes.barh(place, getattr(spent, name), left=left, height=0.66, color=colour)
                left += getattr(spent, name)
            axes.text(left + widest / 60, place, f"{100 * spent.overhead_share:.1f} %", va="center", ha="left")
        axes.set_xlim(0, widest * 1.26)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g} s"))
        legend(figure, SPENT_COLOURS)
        return to_svg(figure)


def traffic_ranges(traffic: Mapping[str, Traffic], styles: Mapping[str, LaneStyle], dense_bytes: int | None) -> str:
    """What one party sends in one round: from the least to the most, with the median, on a logarithmic axis."""
    with rc_context(STYLE):
        figure, axes = _bar_figure(list(traffic))
        axes.set_xscale("log")
        for place, (lane, sent) in enumerate(traffic.items()):
            colour = styles[lane].colour
            least, most = max(sent.smallest, 1), max(sent.largest, 1)
            axes.plot([least, most], [place, place], color=colour, linewidth=7, alpha=0.35, solid_capstyle="round")
            axes.plot([max(sent.median, 1)], [place], marker="o", markersize=8, color=colour)
            axes.annotate(
                size(sent.median), (max(sent.median, 1), place), (0, 8), textcoords="offset points", ha="center"
            )
        if dense_bytes:
            axes.axvline(dense_bytes, color=INK, linestyle=(0, (1, 2)), linewidth=1.3)
        low, high = axes.get_xlim()
        axes.set_xlim(low / 3, high * 3)
        axes.set_ylim(len(traffic) - 0.4, -0.8)
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
        return to_svg(figure)


def kinds_bars(kinds: Mapping[int, Mapping[str, int]]) -> str:
    """Requests of each round, stacked by kind."""
    names = sorted({kind for counts in kinds.values() for kind in counts}, key=lambda kind: (kind != "fresh", kind))
    colours = dict(zip(names, ("#b9cfe2", "#4a7fb0", "#c0562b", "#e0a030", "#12355b", OTHER_COLOUR), strict=False))
    with rc_context(STYLE):
        figure, axes = new_figure(2.5)
        feet = dict.fromkeys(kinds, 0)
        for name in names:
            heights = [kinds[round].get(name, 0) for round in kinds]
            axes.bar(list(kinds), heights, bottom=list(feet.values()), width=0.7, color=colours.get(name, OTHER_COLOUR))
            feet = {round: foot + height for (round, foot), height in zip(feet.items(), heights, strict=True)}
        axes.set_xticks(list(kinds)[:: math.ceil(len(kinds) / 10)])
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        axes.set_xlim(min(kinds) - max(1, 4 - len(kinds)), max(kinds) + max(1, 4 - len(kinds)))
        axes.grid(axis="x", visible=False)
        axes.set_xlabel("round")
        legend(figure, colours)
        return to_svg(figure)


def _bar_figure(names: Sequence[str], room_in: float = 0.55) -> tuple[Figure, Axes]:
    """Axes for one horizontal bar a name, from the top down."""
    figure, axes = new_figure(room_in + 0.34 * max(len(names), 1))
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    return figure, axes


def _draw_bars(
    axes: Axes,
    values: Mapping[str, float],
    styles: Mapping[str, LaneStyle],
    unedited: float | None,
    widest: float,
    unit: str | None,
) -> None:
    """Bars with their numbers, none longer than ``widest``, and the unedited model as a dashed line."""
    for place, (lane, value) in enumerate(values.items()):
        length = min(value, widest)
        # The edge shows a bar that has no length.
        colour = styles[lane].colour
        axes.barh(place, length, height=0.66, color=colour, edgecolor=colour, linewidth=1.2, clip_on=False)
        label = axes.text(
            max(length, 0) + 0.015 * widest, place, measured(value, unit), va="center", ha="left", zorder=4
        )
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    if unedited is not None:
        axes.axvline(min(unedited, widest), color=UNEDITED_COLOUR, linestyle=(0, (4, 3)), linewidth=1.3)
    axes.set_xlim(0, 1.14 * widest)


def _draw_curves(axes: Axes, curves: Mapping[str, Curve], styles: Mapping[str, LaneStyle]) -> None:
    longest = max((len(curve) for curve in curves.values()), default=0)
    for lane, curve in curves.items():
        style = styles[lane]
        axes.plot(
            [round for round, _ in curve],
            [value for _, value in curve],
            color=style.colour,
            linestyle=style.line,
            linewidth=style.width,
            marker=style.marker if longest <= 12 or len(curve) == 1 else None,
            markersize=max(5.0, style.width + 3),
            markeredgecolor="white",
            markeredgewidth=0.6,
            zorder=3 - style.width / 10,
            clip_on=False,
        )
    axes.xaxis.set_major_locator(_whole_numbers())


def _whole_numbers() -> MaxNLocator:
    return MaxNLocator(8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])


def percent_range(values: Sequence[float], unedited: float | None) -> tuple[float, float]:
    """Limits of an axis that shows what differs: whole tens around all values, at least 30 points apart."""
    shown = [*values, *([] if unedited is None else [unedited])]
    low, high = 10 * math.floor(min(shown) / 10), 10 * math.ceil(max(shown) / 10)
    low = low if low < 0 else max(0, min(low, high - 30))
    return low, min(100, max(high, low + 30))


def _power(value: float) -> str:
    return distance(value).replace("1.0 × ", "") if value < 1e-3 else f"{value:g}"
