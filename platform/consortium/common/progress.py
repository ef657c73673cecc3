"""What a run tells the person who waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from consortium.common.time_left import TimeLeft


@dataclass(frozen=True)
class Progress:
    """A snapshot of a running run.

    Attributes:
        phase: what is being done, in words (``covariance``, ``targets``, ``collect``, ``evaluate`` …).
        round: round number from 1; 0 before the first.
        num_rounds: rounds in all.
        done: units of the present phase that are done (edits for targets, probed edits for evaluation, chunks else).
        total: units of the present phase.
        unit: name of the unit, in the plural.
        share_done: estimated share of the whole run that is done, 0 to 1.
        elapsed_s: seconds since the run began (or was resumed).
        left_s: seconds left by what was measured so far; None while that says too little.
        waiting_for: who has not answered yet, in words; empty when nothing is awaited.
    """

    phase: str
    round: int
    num_rounds: int
    done: int
    total: int
    unit: str
    share_done: float
    elapsed_s: float
    waiting_for: str = ""
    left_s: float | None = None

    def later(self, seconds: float) -> Progress:
        """The same snapshot so many seconds later, if nothing came: what is left shrinks until it is not believed."""
        left_s = None if self.left_s is None or seconds > self.left_s / 2 else self.left_s - seconds
        return replace(self, elapsed_s=self.elapsed_s + seconds, left_s=left_s)


ReportProgress = Callable[[Progress], None]


#: Rough cost of one unit of each phase, relative to the target of one edit: good enough to draw a bar, and not to say
#: how long is left.
_COST = {"targets": 1.0, "collect": 0.03, "unlearn": 0.03, "evaluate": 0.15}


class Meter:
    """Counts what is done of a run, and reports it.

    Args:
        num_rounds: rounds in all.
        expected: phase → units that this process will do in all rounds.
        report: who is told.
    """

    def __init__(self, num_rounds: int, expected: Mapping[str, int], report: ReportProgress) -> None:
        self._num_rounds = num_rounds
        self._all = sum(_COST[phase] * units for phase, units in expected.items())
        self._report = report
        self._start = time.monotonic()
        self._left = TimeLeft(num_rounds, expected)
        self._spent = 0.0
        self._phase, self._round, self._done, self._total, self._unit = "start", 0, 0, 0, "steps"

    def enter(self, phase: str, round_number: int, total: int, unit: str, done: int = 0) -> None:
        """A phase begins, or comes to the fore when so many of its units are done."""
        self._phase, self._round, self._done, self._total, self._unit = phase, round_number, done, total, unit
        self._left.enter(round_number, self._elapsed_s)
        self.show()

    def advance(self, units: int, kind: str | None = None) -> None:
        """So many units of work of a kind are done; those of the present phase are shown."""
        kind = kind or self._phase
        self._done += units if kind == self._phase else 0
        self._spent += _COST.get(kind, 0.0) * units
        self._left.advance(kind, units, self._elapsed_s)
        self.show()

    def skip(self, units: int, kind: str) -> None:
        """So many units of work of a kind turned out to be done already: shown as done, and expected no longer."""
        self._done += units if kind == self._phase else 0
        self._all -= _COST.get(kind, 0.0) * units
        self._left.skip(kind, units)
        self.show()

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._start

    def show(self, waiting_for: str = "") -> None:
        """Report where the run stands."""
        elapsed_s = self._elapsed_s
        self._report(
            Progress(
                phase=self._phase,
                round=self._round,
                num_rounds=self._num_rounds,
                done=self._done,
                total=self._total,
                unit=self._unit,
                share_done=min(1.0, self._spent / self._all) if self._all else 0.0,
                elapsed_s=elapsed_s,
                waiting_for=waiting_for,
                left_s=self._left.seconds(elapsed_s),
            )
        )
