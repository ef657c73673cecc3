"""Cutting a node off for a while: a program that stops all processes of a node, and continues them.

    python -I -S node_cut.py RAYLET SECONDS

A process that is stopped (SIGSTOP) answers nothing and closes nothing, which is what everybody else sees of a node
whose link is cut; and nobody needs privileges for it. The program is an orphan in a session of its own, so it neither
stops with the node nor ends with it: Ray ends no more than the children of its workers. Whatever becomes of the node
meanwhile, and if it is itself asked to end, it continues what it has stopped. It is run by its path, so it imports
nothing but the standard library.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Time between two looks. What was being started when its parent was stopped is there after it.
_LOOK_S = 0.05


@dataclass(frozen=True)
class _Process:
    """A process that is no zombie; its start (clock ticks since the machine's) tells it from others of its number."""

    pid: int
    started: int
    parent: int


def cut_off(raylet: int, seconds: float) -> None:
    """Stop a raylet and all that descends from it, and continue them after so many seconds.

    Where the raylet ends meanwhile there is no node left to cut off, and what it leaves is continued at once.
    """
    stopped: list[_Process] = []
    try:
        _stop(raylet, stopped)
        until = time.monotonic() + seconds
        while stopped and _is_there(stopped[0]) and (left := until - time.monotonic()) > 0:
            time.sleep(min(_LOOK_S, left))
    finally:
        for process in stopped:
            _send(process, signal.SIGCONT)


def _stop(raylet: int, stopped: list[_Process]) -> None:
    """Stop a family, parents first, until it has nobody who runs; ``stopped`` is whom to continue."""
    found = [each for each in [_look(raylet)] if each is not None]
    while found:
        stopped += found
        for process in found:
            _send(process, signal.SIGSTOP)
        time.sleep(_LOOK_S)
        family = {process.pid for process in stopped}
        # A raylet may adopt orphans, and then this program is its child.
        found = [each for each in _running() if each.parent in family and each.pid not in {*family, os.getpid()}]


def _send(process: _Process, what: signal.Signals) -> None:
    if _is_there(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, what)


def _is_there(process: _Process) -> bool:
    now = _look(process.pid)
    return now is not None and now.started == process.started


def _running() -> Iterator[_Process]:
    for path in Path("/proc").iterdir():
        process = _look(int(path.name)) if path.name.isdigit() else None
        if process is not None:
            yield process


def _look(pid: int) -> _Process | None:
    """A process; None where it is gone, or only waits for its parent to hear of its end."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The fields of proc(5) from the third on; the second is a name, which may hold anything.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else _Process(pid, started=int(fields[19]), parent=int(fields[1]))


def _end(*_: object) -> None:
    sys.exit(1)


def main(raylet: int, seconds: float) -> None:
    """Leave the family of whoever started this, and cut the node off."""
    if os.fork():
        os._exit(0)
    for asked in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(asked, _end)
    cut_off(raylet, seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
