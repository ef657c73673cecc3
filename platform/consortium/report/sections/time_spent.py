"""Where time went: work by phase and arm, what the workers' time went into, and who worked when."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure as Drawn

from consortium.records.rows import EventRow
from consortium.report import figures, words
from consortium.report.content import Block, Figure, Figures, Meanings, Run, Section, Table
from consortium.report.drawing import WIDTH_IN, legend, new_figure
from consortium.report.overhead import OVERHEAD, SPENT_MEANINGS, RunTime
from consortium.report.results import TIMED_PHASES, Results
from consortium.report.style import INK, OTHER_COLOUR, PHASE_COLOURS, SPENT_COLOURS

_MOST_WORKERS = 24
_MOST_SVG_BARS = 1500
_BAR_HEIGHT = 0.72


def section(run: Run) -> Section | None:
    """None where nothing took any time yet."""
    results = run.results
    seconds = {arm.arm: {phase: arm.seconds(phase) for phase in TIMED_PHASES} for arm in results.arms if arm.rounds}
    timed = [event for event in results.events if event.seconds]
    if not seconds and not timed:
        return None
    parts: list[Block] = _from_disk(results)
    if results.time is not None:
        parts += _spent(results.time)
    if seconds:
        meaning = "Seconds of work, added up over all workers and the coordinator; workers work side by side."
        labels = {arm: words.duration(sum(phases.values())) for arm, phases in seconds.items()}
        data = (seconds, PHASE_COLOURS, labels)
        parts.append(Figures([Figure("work by phase", meaning, figures.stacked_bars, data)], _table(seconds)))
    if timed:
        lost = ", crosses lost workers" if any(event.kind == "worker-lost" for event in results.events) else ""
        meaning = f"Since the run’s start; dashed lines are commits of rounds{lost}."
        is_heavy = len(timed) > _MOST_SVG_BARS
        parts.append(Figure("who worked when", meaning, timeline, (results.events,), is_wide=True, is_heavy=is_heavy))
    return Section("Where time went", parts)


def _from_disk(results: Results) -> list[Block]:
    """A remark where targets were read from disk; their times are not those of a first run."""
    targets = [event for event in results.events if event.kind == "targets"]
    num_read = sum(event.detail is not None for event in targets)
    return [f"{num_read:,} of {words.count(len(targets), 'call')} for targets found them on disk."] if num_read else []


def _spent(time: RunTime) -> list[Block]:
    """Arithmetic, solving and overhead: in a sentence, and for each worker as a bar."""
    spent = time.spent
    total = spent.total or 1.0  # nothing took any time
    named = [f"{100 * getattr(spent, name) / total:.1f} % {name}" for name in OVERHEAD]
    sentence = (
        f"{words.count(len(time.workers), 'worker')} worked for {words.duration(time.wall_s)}, after "
        f"{words.duration(time.startup_s)} of start-up. Of the workers’ time, "
        f"{100 * spent.arithmetic / total:.1f} % was arithmetic on the model and "
        f"{100 * spent.solving / total:.1f} % solving at the coordinator; "
        f"{100 * spent.overhead_share:.1f} % was overhead ({', '.join(named)})."
    )
    shown = dict(time.workers) if len(time.workers) <= _MOST_WORKERS else {"all workers": spent}
    meaning = "The percentage is its overhead: waiting for others, calls on their way, and records."
    rows = {worker: asdict(each) for worker, each in shown.items()}
    labels = {worker: f"{100 * each.overhead_share:.1f} %" for worker, each in shown.items()}
    figure = Figure("time of each worker", meaning, figures.stacked_bars, (rows, SPENT_COLOURS, labels))
    return [sentence, Figures([figure], Meanings(SPENT_MEANINGS))]


def _table(seconds: Mapping[str, Mapping[str, float]]) -> Table:
    rows = [[words.own(arm), *map(words.duration, phases.values())] for arm, phases in seconds.items()]
    return Table(("arm", *TIMED_PHASES), rows)


def timeline(events: Sequence[EventRow]) -> Drawn:
    """One line a worker, bars coloured by phase, crosses where a worker was lost; some event must have taken time."""
    timed = [event for event in events if event.seconds]
    workers = sorted({_worker(event) for event in timed}, key=lambda name: (name != "coordinator", _natural(name)))
    place = {worker: index for index, worker in enumerate(workers)}
    figure, axes = new_figure(0.9 + 0.27 * min(len(workers), 40), 2.8 * WIDTH_IN)
    _draw_bars(axes, timed, place)
    for event in events:
        if event.kind == "worker-lost" and event.worker in place:
            axes.plot(event.time_s, place[event.worker], marker="X", color="#D55E00", markersize=9, zorder=5)
    _draw_round_ends(axes, events)
    axes.set_xlim(min(0.0, *(_start(event) for event in timed)), 1.02 * max(event.time_s for event in events))
    axes.set_ylim(len(workers) - 0.4, -0.6)
    axes.set_yticks(range(len(workers)), workers if len(workers) <= _MOST_WORKERS else [""] * len(workers))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    figures.form(axes.xaxis, lambda value: f"{value:,.4g} s")
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
    return colours if kinds <= colours.keys() else colours | {"opening, key covariance and other": OTHER_COLOUR}


def _worker(event: EventRow) -> str:
    return event.worker or "coordinator"


def _natural(name: str) -> list[tuple[int, str]]:
    """worker-2 before worker-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
