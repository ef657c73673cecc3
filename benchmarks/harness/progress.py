"""Telling the person who waits what is being done: a live line on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console

from benchmarks.harness.measure import Tell

#: Nothing is said of what is over within so long.
_QUIET_S = 1.0


@contextmanager
def telling(stream: TextIO) -> Iterator[Tell]:
    """A function that shows each line on ``stream`` for as long as the context lasts."""
    if not stream.isatty():
        yield LineWriter(stream)
        return
    with Console(file=stream).status("starting") as status:
        yield lambda line: status.update(line.replace("[", r"\["))


class LineWriter:
    """Writes a line when at least a second has gone by since the last one.

    Args:
        stream: where lines go.
        clock: seconds; only differences count.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._last_s = clock() - _QUIET_S

    def __call__(self, line: str) -> None:
        """Write the line if it is time for one."""
        now_s = self._clock()
        if now_s - self._last_s >= _QUIET_S:
            self._last_s = now_s
            self._stream.write(line + "\n")
            self._stream.flush()
