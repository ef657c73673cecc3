"""What a run's time went into: arithmetic, solving, and what is neither.

From the first call for the prior or for targets to the end of the last commit, a host has as many seconds as it is
there; start-up is kept apart. Each of these seconds is one of

    arithmetic   work on the prior, contexts, targets, statistics and evaluation, as the host itself measured it
    solving      the host did nothing while the coordinator merged
    waiting      it had no call: it waited for slower hosts, or for the coordinator to have something for it
    calls        a call was on its way: handing it over, reading the arrays it names, the answer's way back
    records      the host did nothing while the coordinator wrote a round down

and the last three are overhead. A call's work is taken to begin when the call is handed out. A merge while all hosts
work takes nothing from them. Work on a crowded processor takes longer, which these numbers do not show. The serial
twin counts as one host that also merges and writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from consortium.records.rows import EventRow

OVERHEAD = ("waiting", "calls", "records")
"""What is neither arithmetic nor solving."""

SPENT_MEANINGS = {
    "arithmetic": "Work on the prior, targets, statistics and evaluation, as the host measured it.",
    "solving": "The host did nothing while the coordinator merged.",
    "waiting": "The host had no call: it waited for slower hosts, or for the coordinator.",
    "calls": "A call was on its way: handing it over, reading the arrays it names, the answer’s way back.",
    "records": "The host did nothing while the coordinator wrote a round down.",
}
"""What a host's seconds go into → what that means, in one line."""

SERIAL_HOST = "this process"

_WORK = ("prior", "contexts", "announce", "targets", "collect", "retract", "add", "evaluate")
_FIRST_WORK = ("prior", "targets")

#: From when to when, in seconds since the run's start.
_Span = tuple[float, float]


@dataclass(frozen=True)
class Spent:
    """Seconds by what they went into."""

    arithmetic: float = 0.0
    solving: float = 0.0
    waiting: float = 0.0
    calls: float = 0.0
    records: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    @property
    def total(self) -> float:
        """All of it."""
        return float(sum(getattr(self, each.name) for each in fields(self)))

    @property
    def overhead(self) -> float:
        """What is neither arithmetic nor solving."""
        return float(sum(getattr(self, name) for name in OVERHEAD))

    @property
    def overhead_share(self) -> float:
        """Overhead as a share of all, 0 to 1."""
        return self.overhead / self.total if self.total else 0.0


@dataclass(frozen=True)
class RunTime:
    """Where the time of a run went.

    Attributes:
        hosts: host → its seconds.
        wall_s: from the first call for the prior or for targets to the end of the last commit.
        startup_s: before that: opening models, and contexts where the prior was known. Processes that resumed the
            run start up and work again, and add to both.
    """

    hosts: Mapping[str, Spent]
    wall_s: float
    startup_s: float

    @property
    def spent(self) -> Spent:
        """The seconds of all hosts."""
        return sum(self.hosts.values(), Spent())


def run_time(events: Sequence[EventRow], ended_s: float | None = None) -> RunTime | None:
    """Where the time of a run went, from its events.

    Args:
        events: the run's events in any order.
        ended_s: when the last commit had been written; None where nobody knows, and its records are left out.

    Returns:
        None where no host worked for any time.
    """
    processes: list[list[EventRow]] = [[]]
    for event in sorted(events, key=lambda event: event.time_s):
        if event.kind == "resumed":
            processes.append([])
        processes[-1].append(event)
    ends = [None] * (len(processes) - 1) + [ended_s]
    stretches = [found for each in zip(processes, ends, strict=True) if (found := _stretch_of(*each)) is not None]
    hosts: dict[str, Spent] = {}
    for stretch in stretches:
        for host in stretch.hosts():
            hosts[host] = hosts.get(host, Spent()) + stretch.spent(host)
    if not hosts:
        return None
    wall_s = sum(stretch.end - stretch.start for stretch in stretches)
    return RunTime(hosts, wall_s, sum(stretch.start - stretch.begun for stretch in stretches))


@dataclass(frozen=True)
class _Stretch:
    """What one process did of a run: it began, its hosts worked from ``start`` to ``end``."""

    events: Sequence[EventRow]
    begun: float
    start: float
    end: float

    def hosts(self) -> list[str]:
        """All hosts that were there while others worked."""
        started = [event.host for event in self.events if event.host is not None and event.time_s <= self.end]
        worked = [event.host or SERIAL_HOST for event in self._calls()]
        return list(dict.fromkeys([*started, *worked]))

    def _calls(self) -> list[EventRow]:
        return [event for event in self.events if event.kind in _WORK and _handed(event) >= self.start]

    def spent(self, host: str) -> Spent:
        """One host's seconds."""
        calls = [event for event in self._calls() if (event.host or SERIAL_HOST) == host]
        begin, end = self._presence(host)
        sent = [(_handed(call) + _seconds(call), call.time_s) for call in calls]
        marks = [begin, *(time for call in calls for time in (_handed(call), call.time_s)), end]
        idle = list(pairwise(marks))[::2]
        solving, recording = _time_within(self._merges()), _time_within(self._records())
        merged, written = (sum(map(within, [*sent, *idle])) for within in (solving, recording))
        waiting, called = (
            sum(until - since - solving((since, until)) - recording((since, until)) for since, until in spans)
            for spans in (idle, sent)
        )
        return Spent(sum(map(_seconds, calls)), merged, waiting, called, written)

    def _presence(self, host: str) -> _Span:
        mine = [event for event in self.events if event.host == host]
        begin = max([self.start, *(event.time_s for event in mine if event.kind == "host-started")])
        end = min([self.end, *(event.time_s for event in mine if event.kind in ("host-lost", "host-parked"))])
        return begin, max(begin, end)

    def _merges(self) -> list[_Span]:
        return [(_handed(event), event.time_s) for event in self.events if event.kind == "merge"]

    def _records(self) -> list[_Span]:
        """Those of the last commit are in no event: they last until the end."""
        last_commit = max((event.time_s for event in self.events if event.kind == "commit"), default=self.end)
        spans = [(_handed(event), event.time_s) for event in self.events if event.kind == "records"]
        return [*spans, (last_commit, self.end)]


def _stretch_of(events: Sequence[EventRow], ended_s: float | None) -> _Stretch | None:
    first_calls = [_handed(event) for event in events if event.kind in _FIRST_WORK]
    commits = [event.time_s for event in events if event.kind == "commit"]
    if not first_calls or not commits:
        return None
    start, end = min(first_calls), max([*commits, *([] if ended_s is None else [ended_s])])
    begun = events[0].time_s if events[0].kind == "resumed" else 0.0
    return _Stretch(events, begun, start, end) if start < end else None


def _seconds(event: EventRow) -> float:
    return event.seconds or 0.0


def _handed(event: EventRow) -> float:
    """When a call was handed to its host; for what no host was asked, when it began."""
    return event.time_s - max(_seconds(event), event.round_trip_s or 0.0)


def _time_within(spans: Sequence[_Span]) -> Callable[[_Span], float]:
    """How much of a span is covered by ``spans``, which do not overlap."""
    ordered = np.array(sorted(spans), dtype=np.float64).reshape(-1, 2)
    covered = np.concatenate([[0.0], np.cumsum(ordered[:, 1] - ordered[:, 0])])
    knots, heights = ordered.reshape(-1), np.repeat(covered, 2)[1:-1]

    def until(time_s: float) -> float:
        return float(np.interp(time_s, knots, heights)) if len(knots) else 0.0

    return lambda span: until(span[1]) - until(span[0])
