"""A clock for time-outs: it counts the time in which whoever waits did listen.

A worker is late when it was listened for so long without an answer. While the coordinator merges or writes a round
down, it hears nothing of workers, and what it does not hear is no fault of theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Patience:
    """Seconds of listening; what lies between two times of listening counts up to a limit.

    Args:
        longest_gap_s: longest time between that counts; handing out a few calls is part of listening.
        now: a clock that never goes back.
    """

    def __init__(self, longest_gap_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._longest_gap_s = longest_gap_s
        self._now = now
        self._counted_s = 0.0
        self._until = now()

    @property
    def spent_s(self) -> float:
        """Seconds that count, so far."""
        return self._counted_s + min(self._now() - self._until, self._longest_gap_s)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """All of the block's time counts."""
        self._counted_s = self.spent_s
        begun = self._now()
        try:
            yield
        finally:
            self._until = self._now()
            self._counted_s += self._until - begun
