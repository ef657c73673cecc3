"""What figures show: functions from numbers to figures of matplotlib, to be called in the report's style."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from consortium.report.drawing import legend, new_figure
from consortium.report.results import Traffic
from consortium.report.style import INK, KIND_COLOURS, OTHER_COLOUR, UNEDITED_STYLE, ArmStyle
from consortium.report.words import distance, measured, size

Curve = Sequence[tuple[float, float]]
Curves = Mapping[str, Curve]
Styles = Mapping[str, ArmStyle]

_DASHED: dict[str, Any] = {"color": UNEDITED_STYLE.colour, "linestyle": (0, (4, 3)), "linewidth": 1.3}


def percent_curves(curves: Curves, styles: Styles, unedited: float | None, of_edits: bool = False) -> Figure:
    """Percent over rounds, one line an arm; the unedited model as a dashed line.

    Args:
        curves: arm → (round, percent).
        styles: arm → style.
        unedited: the unedited model's percent, or None.
        of_edits: the rounds are those in which the edits were made, not those after which was measured.
    """
    figure, axes = _curves(curves, styles, unedited)
    axes.set_ylim(*percent_range(_values(curves, unedited)))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    form(axes.yaxis, lambda value: f"{value:g} %")
    axes.set_xlabel("round in which the edits were made" if of_edits else "after round")
    return figure


def distance_curves(curves: Curves, styles: Styles) -> Figure:
    """Distances over rounds on a logarithmic axis; zeros, which it has no place for, stand at its foot, marked 0."""
    values = _values(curves)
    foot = min((value for value in values if value > 0), default=1e-9) / 3
    shown = {arm: [(round, max(value, foot)) for round, value in curve] for arm, curve in curves.items()}
    figure, axes = _curves(shown, styles, log=True)
    if 0 in values:
        low, high = axes.get_ylim()
        axes.set_yticks([foot, *(value for value in axes.get_yticks() if 2 * foot < value <= high)])
        axes.set_ylim(max(low, foot / 2), max(high, 10 * foot))
    form(axes.yaxis, lambda value: "0" if value <= foot else _power(value))
    axes.set_xlabel("after round")
    return figure


def residual_curves(curves: Curves, styles: Styles, threshold: float | None) -> Figure:
    """Lengths of residuals over the number of times that the same was asked for before, one line an arm."""
    figure, axes = _curves(curves, styles, threshold)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("times asked for before")
    return figure


def value_curves(curves: Curves, styles: Styles, unedited: float | None) -> Figure:
    """A metric with a unit of its own over rounds.

    The axis is logarithmic where values differ tenfold, and spans a fifth of them at least, so that noise looks small.
    """
    values = _values(curves, unedited)
    least, most = min(values), max(values)
    is_log = least > 0 and most > 10 * least
    figure, axes = _curves(curves, styles, unedited, log=is_log)
    if not is_log:
        room = max(0.1 * most, 0.55 * (most - least)) or 1.0
        axes.set_ylim((least + most) / 2 - room, (least + most) / 2 + room)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    form(axes.yaxis, lambda value: f"{value:g}" if value < 1e4 else distance(value))
    axes.set_xlabel("after round")
    return figure


def percent_bars(values: Mapping[str, float], styles: Styles, unedited: float | None) -> Figure:
    """Percent of each arm as a bar with its number; for a run with a single measured round."""
    figure, axes = _bars(values, styles, unedited, 100.0, None)
    is_signed = min(values.values()) < 0  # of the metrics in percent, a conflict's magnitude alone
    ticks = [-100, -50, 0, 50, 100] if is_signed else [0, 25, 50, 75, 100]
    axes.set_xlim(-114 if is_signed else 0, 114)
    axes.set_xticks(ticks, [*map(str, ticks[:-1]), "100 %"])
    return figure


def value_bars(values: Mapping[str, float], styles: Styles, unedited: float | None, unit: str | None) -> Figure:
    """A metric with a unit of its own as bars with their numbers; those beyond twenty times the least are cut."""
    shown = [*values.values(), *([] if unedited is None else [unedited])]
    widest = min(max(shown), 20 * min((value for value in shown if value > 0), default=0.0)) or 1.0
    figure, axes = _bars(values, styles, unedited, widest, unit)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    form(axes.xaxis, distance)
    return figure


def stacked_bars(
    rows: Mapping[str, Mapping[str, float]], colours: Mapping[str, str], labels: Mapping[str, str]
) -> Figure:
    """Seconds of each row by what they went into, with a label behind each bar."""
    figure, axes = bar_figure(list(rows), room_in=0.9)
    widest = max((sum(parts.values()) for parts in rows.values()), default=0) or 1.0
    for place, (name, parts) in enumerate(rows.items()):
        left = 0.0
        for part, colour in colours.items():
            axes.barh(place, parts[part], left=left, height=0.66, color=colour)
            left += parts[part]
        axes.text(left + widest / 60, place, labels[name], va="center", ha="left")
    axes.set_xlim(0, widest * 1.26)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    form(axes.xaxis, lambda value: f"{value:,.4g} s")
    legend(figure, colours)
    return figure


def traffic_ranges(traffic: Mapping[str, Traffic], styles: Styles, dense_bytes: int | None) -> Figure:
    """What one party sends in one round: from the least to the most, with the median, on a logarithmic axis."""
    figure, axes = bar_figure(list(traffic))
    axes.set_xscale("log")
    for place, (arm, sent) in enumerate(traffic.items()):
        colour, median = styles[arm].colour, max(sent.median, 1)
        ends = [max(sent.smallest, 1), max(sent.largest, 1)]
        axes.plot(ends, [place, place], color=colour, linewidth=7, alpha=0.35, solid_capstyle="round")
        axes.plot([median], [place], marker="o", markersize=8, color=colour)
        axes.annotate(size(sent.median), (median, place), (0, 8), textcoords="offset points", ha="center")
    if dense_bytes:
        axes.axvline(dense_bytes, color=INK, linestyle=(0, (1, 2)), linewidth=1.3)
    low, high = axes.get_xlim()
    axes.set_xlim(low / 3, high * 3)
    axes.set_ylim(len(traffic) - 0.4, -0.8)
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.xaxis.set_minor_locator(NullLocator())
    form(axes.xaxis, size)
    return figure


def kinds_bars(kinds: Mapping[int, Mapping[str, int]]) -> Figure:
    """Requests of each round, stacked by kind."""
    names = sorted({kind for counts in kinds.values() for kind in counts}, key=lambda kind: (kind != "fresh", kind))
    colours = dict(zip(names, KIND_COLOURS, strict=False))
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
    return figure


def bar_figure(names: Sequence[str], room_in: float = 0.55, bar_in: float = 0.34) -> tuple[Figure, Axes]:
    """Axes for one horizontal bar a name, from the top down."""
    figure, axes = new_figure(room_in + bar_in * max(len(names), 1))
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    return figure, axes


def draw_curves(axes: Axes, curves: Curves, styles: Styles) -> None:
    """One line an arm, with markers where there are few points."""
    longest = max((len(curve) for curve in curves.values()), default=0)
    for arm, curve in curves.items():
        style = styles[arm]
        axes.plot(
            [x for x, _ in curve],
            [y for _, y in curve],
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


def percent_range(values: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis that shows what differs: whole tens around all values, at least 30 points apart."""
    low, high = 10 * math.floor(min(values) / 10), 10 * math.ceil(max(values) / 10)
    low = low if low < 0 else max(0, min(low, high - 30))
    return low, min(100, max(high, low + 30))


def form(axis: Axis, words: Callable[[float], str]) -> None:
    """Label an axis's ticks by a function of their values."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))


def _curves(curves: Curves, styles: Styles, dashed: float | None = None, log: bool = False) -> tuple[Figure, Axes]:
    """Curves over whole numbers, and a dashed line at a value."""
    figure, axes = new_figure(2.5)
    if log:
        axes.set_yscale("log")
    if dashed is not None:
        axes.axhline(dashed, **_DASHED)
    draw_curves(axes, curves, styles)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if log:
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
    return figure, axes


def _bars(
    values: Mapping[str, float], styles: Styles, unedited: float | None, widest: float, unit: str | None
) -> tuple[Figure, Axes]:
    """Bars with their numbers, none longer than ``widest``, and the unedited model as a dashed line."""
    figure, axes = bar_figure(list(values))
    for place, (arm, value) in enumerate(values.items()):
        length, colour = min(value, widest), styles[arm].colour  # the edge shows a bar that has no length
        axes.barh(place, length, height=0.66, color=colour, edgecolor=colour, linewidth=1.2, clip_on=False)
        right = max(length, 0) + 0.015 * widest
        label = axes.text(right, place, measured(value, unit), va="center", ha="left", zorder=4)
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    if unedited is not None:
        axes.axvline(min(unedited, widest), **_DASHED)
    axes.set_xlim(0, 1.14 * widest)
    return figure, axes


def _values(curves: Curves, unedited: float | None = None) -> list[float]:
    return [value for curve in curves.values() for _, value in curve] + ([] if unedited is None else [unedited])


def _power(value: float) -> str:
    return distance(value).replace("1.0 × ", "") if value < 1e-3 else f"{value:g}"
