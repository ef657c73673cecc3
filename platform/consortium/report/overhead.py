"""What a run's time went into: arithmetic, solving, and what is neither.

From the first call for the key covariance or for targets to the end of the last commit, a worker has as many seconds as
it is there; start-up is kept apart. Each of these seconds is one of

    arithmetic   work on the key covariance, contexts, targets, statistics and evaluation, as the worker itself measured
    it
    solving      the worker did nothing while the coordinator merged
    waiting      it had no call: it waited for slower workers, or for the coordinator to have something for it
    calls        a call was on its way: handing it over, reading the arrays it names, the answer's way back
    records      the worker did nothing while the coordinator wrote a round down

and the last three are overhead. A call's work is taken to begin when the call is handed out. A merge while all workers
work takes nothing from them. Work on a crowded processor takes longer, which these numbers do not show. The serial
twin counts as one worker that also merges and writes.
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
    "arithmetic": "Work on the key covariance, targets, statistics and evaluation, as the worker measured it.",
    "solving": "The worker did nothing while the coordinator merged.",
    "waiting": "The worker had no call: it waited for slower workers, or for the coordinator.",
    "calls": "A call was on its way: handing it over, reading the arrays it names, the answer’s way back.",
    "records": "The worker did nothing while the coordinator wrote a round down.",
}
"""What a worker's seconds go into → what that means, in one line."""

SERIAL_WORKER = "this process"

_WORK = ("covariance", "contexts", "announce", "targets", "collect", "unlearn", "add", "evaluate")
_FIRST_WORK = ("covariance", "targets")

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
        workers: worker → its seconds.
        wall_s: from the first call for the key covariance or for targets to the end of the last commit.
        startup_s: before that: opening models, and contexts where the key covariance was known. Processes that resumed
            the run start up and work again, and add to both.
    """

    workers: Mapping[str, Spent]
    wall_s: float
    startup_s: float

    @property
    def spent(self) -> Spent:
        """The seconds of all workers."""
        return sum(self.workers.values(), Spent())


def run_time(events: Sequence[EventRow], ended_s: float | None = None) -> RunTime | None:
    """Where the time of a run went, from its events.

    Args:
        events: the run's events in any order.
        ended_s: when the last commit had been written; None where nobody knows, and its records are left out.

    Returns:
        None where no worker worked for any time.
    """
    processes: list[list[EventRow]] = [[]]
    for event in sorted(events, key=lambda event: event.time_s):
        if event.kind == "resumed":
            processes.append([])
        processes[-1].append(event)
    ends = [None] * (len(processes) - 1) + [ended_s]
    stretches = [found for each in zip(processes, ends, strict=True) if (found := _stretch_of(*each)) is not None]
    workers: dict[str, Spent] = {}
    for stretch in stretches:
        for worker in stretch.workers():
            workers[worker] = workers.get(worker, Spent()) + stretch.spent(worker)
    if not workers:
        return None
    wall_s = sum(stretch.end - stretch.start for stretch in stretches)
    return RunTime(workers, wall_s, sum(stretch.start - stretch.begun for stretch in stretches))


@dataclass(frozen=True)
class _Stretch:
    """What one process did of a run: it began, its workers worked from ``start`` to ``end``."""

    events: Sequence[EventRow]
    begun: float
    start: float
    end: float

    def workers(self) -> list[str]:
        """All workers that were there while others worked."""
        started = [event.worker for event in self.events if event.worker is not None and event.time_s <= self.end]
        worked = [event.worker or SERIAL_WORKER for event in self._calls()]
        return list(dict.fromkeys([*started, *worked]))

    def _calls(self) -> list[EventRow]:
        return [event for event in self.events if event.kind in _WORK and _handed(event) >= self.start]

    def spent(self, worker: str) -> Spent:
        """One worker's seconds."""
        calls = [event for event in self._calls() if (event.worker or SERIAL_WORKER) == worker]
        begin, end = self._presence(worker)
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

    def _presence(self, worker: str) -> _Span:
        mine = [event for event in self.events if event.worker == worker]
        begin = max([self.start, *(event.time_s for event in mine if event.kind == "worker-started")])
        end = min([self.end, *(event.time_s for event in mine if event.kind in ("worker-lost", "worker-stopped"))])
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
    """When a call was handed to its worker; for what no worker was asked, when it began."""
    return event.time_s - max(_seconds(event), event.round_trip_s or 0.0)


def _time_within(spans: Sequence[_Span]) -> Callable[[_Span], float]:
    """How much of a span is covered by ``spans``, which do not overlap."""
    ordered = np.array(sorted(spans), dtype=np.float64).reshape(-1, 2)
    covered = np.concatenate([[0.0], np.cumsum(ordered[:, 1] - ordered[:, 0])])
    knots, heights = ordered.reshape(-1), np.repeat(covered, 2)[1:-1]

    def until(time_s: float) -> float:
        return float(np.interp(time_s, knots, heights)) if len(knots) else 0.0

    return lambda span: until(span[1]) - until(span[0])
