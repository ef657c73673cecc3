"""What a run tells the person who waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A snapshot of a running run.

    Attributes:
        phase: what is being done, in words (``prior``, ``targets``, ``collect``, ``evaluate`` …).
        round: round number from 1; 0 before the first.
        num_rounds: rounds in all.
        done: units of the present phase that are done (edits for targets, probed edits for evaluation, chunks else).
        total: units of the present phase.
        unit: name of the unit, in the plural.
        share_done: estimated share of the whole run that is done, 0 to 1.
        elapsed_s: seconds since the run began (or was resumed).
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


ReportProgress = Callable[[Progress], None]
