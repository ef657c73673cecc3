"""Progress of a run: a live line on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from consortium.common.progress import Progress, ReportProgress
from consortium.common.terminal import printable, takes_unicode

LINE_EVERY_S = 5.0
LINE_AT_CHANGE_S = 1.0
AGAIN_EVERY_S = 20.0


@contextmanager
def shown_progress(stream: TextIO) -> Iterator[ReportProgress]:
    """A function that shows each snapshot on ``stream`` for as long as the context lasts.

    The last one is shown again, with the time, while nothing new comes: one call may take minutes.
    """
    with _shown(stream) as show, repeated(show, AGAIN_EVERY_S) as report:
        yield report


@contextmanager
def repeated(show: ReportProgress, every_s: float) -> Iterator[ReportProgress]:
    """A function that shows snapshots, and the last one again after every ``every_s`` seconds without any."""
    lock, ended = Lock(), Event()
    last: list[tuple[Progress, float]] = []  # the last snapshot, and when it came

    def report(progress: Progress) -> None:
        with lock:
            last[:] = [(progress, time.monotonic())]
            show(progress)

    def show_again() -> None:
        shown_s = time.monotonic()
        while not ended.wait(max(0.01, shown_s + every_s - time.monotonic())):
            with lock:
                now_s = time.monotonic()
                shown_s = max(shown_s, last[0][1]) if last else now_s
                if now_s - shown_s >= every_s:
                    progress, came_s = last[0]
                    show(progress.later(now_s - came_s))
                    shown_s = now_s

    thread = Thread(target=show_again, name="progress", daemon=True)
    thread.start()
    try:
        yield report
    finally:
        ended.set()
        thread.join()


@contextmanager
def _shown(stream: TextIO) -> Iterator[ReportProgress]:
    if not stream.isatty():
        yield LineWriter(stream)
        return
    console = Console(file=stream)
    plain = not takes_unicode(stream)
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield lambda progress: live.update(_live_line(progress, plain))


class LineWriter:
    """Writes a snapshot as a line when its phase changes, or a while after the last line.

    Args:
        stream: where lines go.
        clock: seconds; only differences count.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._last_s = float("-inf")
        self._last_phase: tuple[int, str] | None = None

    def __call__(self, progress: Progress) -> None:
        """Write a line if it is time for one."""
        phase = (progress.round, progress.phase)
        wait_s = LINE_EVERY_S if phase == self._last_phase else LINE_AT_CHANGE_S
        now_s = self._clock()
        if now_s - self._last_s < wait_s:
            return
        self._last_s, self._last_phase = now_s, phase
        self._stream.write(line_of(progress) + "\n")
        self._stream.flush()


def line_of(progress: Progress) -> str:
    """A snapshot in words, in ASCII."""
    parts = [
        f"round {progress.round}/{progress.num_rounds}",
        progress.phase,
        *([f"{progress.done}/{progress.total} {progress.unit}"] if progress.total else []),
        f"{100 * progress.share_done:.0f} % of the run",
        f"{short_duration(progress.elapsed_s)} so far",
    ]
    if progress.left_s is not None:
        parts.append(f"about {short_duration(progress.left_s)} left")
    if progress.waiting_for:
        parts.append(f"waiting for {printable(progress.waiting_for)}")
    return " | ".join(parts)


def short_duration(seconds: float) -> str:
    """Seconds for people: ``45 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if not math.isfinite(seconds):
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _live_line(progress: Progress, plain: bool) -> Table | Text:
    if plain:
        return Text(line_of(progress), no_wrap=True, overflow="crop")
    row = Table.grid(padding=(0, 1))
    row.add_row(
        f"[bold]round {progress.round}/{progress.num_rounds}[/]",
        f"{progress.phase} {progress.done}/{progress.total} {progress.unit}" if progress.total else progress.phase,
        ProgressBar(total=1.0, completed=progress.share_done, width=24),
        f"{100 * progress.share_done:.0f} %",
        short_duration(progress.elapsed_s),
        f"[dim]{_left(progress)}[/]",
    )
    return row


def _left(progress: Progress) -> str:
    left = "" if progress.left_s is None else f"about {short_duration(progress.left_s)} left"
    awaited = progress.waiting_for and f"waiting for {printable(progress.waiting_for)}"
    return escape(" · ".join(part for part in (left, awaited) if part))
