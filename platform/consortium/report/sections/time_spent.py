"""Where time went: work by phase and lane, what the hosts' time went into, and who worked when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from consortium.report import figures, words
from consortium.report.content import Figure, Figures, Meanings, Part, Run, Section, Table
from consortium.report.overhead import OVERHEAD, SPENT_MEANINGS, RunTime
from consortium.report.results import PHASES, Results
from consortium.report.sections.timeline import MOST_SVG_BARS, timeline
from consortium.report.style import PHASE_COLOURS, SPENT_COLOURS

_MOST_HOSTS = 24


def section(run: Run) -> Section | None:
    """None where nothing took any time yet."""
    results = run.results
    seconds = {lane.lane: {phase: lane.seconds(phase) for phase in PHASES} for lane in results.lanes if lane.rounds}
    timed = [event for event in results.events if event.seconds]
    if not seconds and not timed:
        return None
    parts: list[Part] = _from_disk(results)
    if results.time is not None:
        parts += _spent(results.time)
    if seconds:
        meaning = "Seconds of work, added up over all hosts and the coordinator; hosts work side by side."
        labels = {lane: words.duration(sum(phases.values())) for lane, phases in seconds.items()}
        data = (seconds, PHASE_COLOURS, labels)
        parts.append(Figures([Figure("work by phase", meaning, figures.stacked_bars, data)], _table(seconds)))
    if timed:
        lost = ", crosses lost hosts" if any(event.kind == "host-lost" for event in results.events) else ""
        meaning = f"Since the run’s start; dashed lines are commits of rounds{lost}."
        is_heavy = len(timed) > MOST_SVG_BARS
        parts.append(Figure("who worked when", meaning, timeline, (results.events,), is_wide=True, is_heavy=is_heavy))
    return Section("Where time went", parts)


def _from_disk(results: Results) -> list[Part]:
    """A remark where targets were read from disk; their times are not those of a first run."""
    targets = [event for event in results.events if event.kind == "targets"]
    num_read = sum(event.detail is not None for event in targets)
    return [f"{num_read:,} of {words.count(len(targets), 'call')} for targets found them on disk."] if num_read else []


def _spent(time: RunTime) -> list[Part]:
    """Arithmetic, solving and overhead: in a sentence, and for each host as a bar."""
    spent = time.spent
    total = spent.total or 1.0  # nothing took any time
    named = [f"{100 * getattr(spent, name) / total:.1f} % {name}" for name in OVERHEAD]
    sentence = (
        f"{words.count(len(time.hosts), 'host')} worked for {words.duration(time.wall_s)}, after "
        f"{words.duration(time.startup_s)} of start-up. Of the hosts’ time, "
        f"{100 * spent.arithmetic / total:.1f} % was arithmetic on the model and "
        f"{100 * spent.solving / total:.1f} % solving at the coordinator; "
        f"{100 * spent.overhead_share:.1f} % was overhead ({', '.join(named)})."
    )
    shown = dict(time.hosts) if len(time.hosts) <= _MOST_HOSTS else {"all hosts": spent}
    meaning = "The percentage is its overhead: waiting for others, calls on their way, and records."
    rows = {host: asdict(each) for host, each in shown.items()}
    labels = {host: f"{100 * each.overhead_share:.1f} %" for host, each in shown.items()}
    figure = Figure("time of each host", meaning, figures.stacked_bars, (rows, SPENT_COLOURS, labels))
    return [sentence, Figures([figure], Meanings(SPENT_MEANINGS))]


def _table(seconds: Mapping[str, Mapping[str, float]]) -> Table:
    rows = [[words.own(lane), *map(words.duration, phases.values())] for lane, phases in seconds.items()]
    return Table(("lane", *PHASES), rows)
