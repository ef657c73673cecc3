"""The picture of who worked when, from a run's events."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from consortium.records.rows import EventRow
from consortium.report.drawing import WIDTH_IN, legend, new_figure
from consortium.report.figures import form
from consortium.report.style import INK, OTHER_COLOUR, PHASE_COLOURS

MOST_SVG_BARS = 1500
"""Bars beyond which an SVG would be heavy."""

_MOST_NAMED_HOSTS = 24
_BAR_HEIGHT = 0.72


def timeline(events: Sequence[EventRow]) -> Figure:
    """One line a host, bars coloured by phase, crosses where a host was lost; some event must have taken time."""
    timed = [event for event in events if event.seconds]
    hosts = sorted({_worker(event) for event in timed}, key=lambda name: (name != "coordinator", _natural(name)))
    place = {host: index for index, host in enumerate(hosts)}
    figure, axes = new_figure(0.9 + 0.27 * min(len(hosts), 40), 2.8 * WIDTH_IN)
    _draw_bars(axes, timed, place)
    for event in events:
        if event.kind == "host-lost" and event.host in place:
            axes.plot(event.time_s, place[event.host], marker="X", color="#D55E00", markersize=9, zorder=5)
    _draw_round_ends(axes, events)
    axes.set_xlim(min(0.0, *(_start(event) for event in timed)), 1.02 * max(event.time_s for event in events))
    axes.set_ylim(len(hosts) - 0.4, -0.6)
    axes.set_yticks(range(len(hosts)), hosts if len(hosts) <= _MOST_NAMED_HOSTS else [""] * len(hosts))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    form(axes.xaxis, lambda value: f"{value:,.4g} s")
    legend(figure, _colours(timed))
    return figure


def _draw_bars(axes: Axes, timed: Sequence[EventRow], place: Mapping[str, int]) -> None:
    """One collection a kind: tens of thousands of bars as patches of their own would take minutes."""
    for kind in dict.fromkeys(event.kind for event in timed):
        bars = [_bar(event, place[_worker(event)]) for event in timed if event.kind == kind]
        colour = PHASE_COLOURS.get(kind, OTHER_COLOUR)
        axes.add_collection(PolyCollection(bars, facecolors=colour, edgecolors="white", linewidths=0.3))


def _bar(event: EventRow, row: int) -> list[tuple[float, float]]:
    top, bottom = row - _BAR_HEIGHT / 2, row + _BAR_HEIGHT / 2
    start, end = _start(event), event.time_s
    return [(start, top), (end, top), (end, bottom), (start, bottom)]


def _start(event: EventRow) -> float:
    return event.time_s - (event.seconds or 0.0)


def _draw_round_ends(axes: Axes, events: Sequence[EventRow]) -> None:
    commits = [event.time_s for event in events if event.kind == "commit"]
    if len(commits) <= 40:
        for time_s in commits:
            axes.axvline(time_s, color=INK, linewidth=0.7, linestyle=(0, (2, 2)), zorder=0)


def _colours(timed: Sequence[EventRow]) -> dict[str, str]:
    kinds = {event.kind for event in timed}
    colours = {kind: colour for kind, colour in PHASE_COLOURS.items() if kind in kinds}
    return colours if kinds <= colours.keys() else colours | {"opening, prior and other": OTHER_COLOUR}


def _worker(event: EventRow) -> str:
    return event.host or "coordinator"


def _natural(name: str) -> list[tuple[int, str]]:
    """host-2 before host-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
