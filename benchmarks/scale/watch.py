"""Memory of a command and of all that it starts, as Linux tells it (proc(5)).

Of each process the greatest resident set (``VmHWM``), which the kernel itself keeps, so that no peak is missed. Of all
together the sum of their proportional sets (``Pss``: a page that n processes share counts 1/n in each), which nobody
keeps, so that it is looked at every so often. With them the processor time of each (``utime`` and ``stime``), which
other work on the machine makes longer by far less than it does the time on the clock.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from consortium.common.errors import RunError

_PROC = Path("/proc")
_EVERY_S = 2.0
#: Beginning of a process's command line → what it is; Ray names its workers after what they do.
_ROLES = {"ray::CoordinatorActor": "coordinator", "ray::WorkerActor": "worker"}
OTHER = "other"


@dataclass
class Watched:
    """What was seen of a command.

    Attributes:
        wall_s: how long it took.
        together_bytes: the greatest sum of proportional sets that was seen.
        peaks: process number → (role, its greatest resident set in bytes).
        processor: process number → seconds of processor time, as last seen.
    """

    wall_s: float = 0.0
    together_bytes: int = 0
    peaks: dict[int, tuple[str, int]] = field(default_factory=dict)
    processor: dict[int, float] = field(default_factory=dict)

    @property
    def processor_s(self) -> float:
        """Processor time of all processes together; what one did after the last look is not in it."""
        return sum(self.processor.values())

    def of(self, role: str) -> list[int]:
        """Greatest resident sets of the processes of one role, the largest first."""
        return sorted((peak for each, peak in self.peaks.values() if each == role), reverse=True)


def watch(command: Sequence[str], cwd: Path, environment: Mapping[str, str], longest_s: float) -> Watched:
    """Run a command to its end and look at its memory meanwhile.

    Raises:
        RunError: it failed, or took too long and was ended.
    """
    seen, begun = Watched(), time.monotonic()
    process = subprocess.Popen(
        command, cwd=cwd, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        while process.poll() is None:
            _look(process.pid, seen)
            if time.monotonic() - begun > longest_s:
                raise _failed(command, f"no end within {longest_s:g} s")
            time.sleep(_EVERY_S)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    seen.wall_s = time.monotonic() - begun
    if process.returncode:
        told = process.stderr.read().strip() if process.stderr else ""
        raise _failed(command, told[-500:])
    return seen


def _failed(command: Sequence[str], why: str) -> RunError:
    return RunError(f"`{' '.join(command)}`: {why}", "a run that ends well", "run that command by itself")


def _look(root: int, seen: Watched) -> None:
    together = 0
    for pid in family(root, _parents()):
        seen.processor[pid] = _processor_s(pid) or seen.processor.get(pid, 0.0)
        found = _memory(pid)
        if found is not None:
            peak, share = found
            together += share
            known, highest = seen.peaks.get(pid, (OTHER, 0))
            role = _role(pid)  # of Ray's workers only while they do that
            seen.peaks[pid] = known if role == OTHER else role, max(peak, highest)
    seen.together_bytes = max(seen.together_bytes, together)


def _parents() -> dict[int, int]:
    """Process → its parent, of all that are there."""
    found = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            status = _lines(folder / "stat")
            if status:  # "pid (name) state parent …", and the name may hold anything
                found[int(folder.name)] = int(status[0].rpartition(")")[2].split()[1])
    return found


def _processor_s(pid: int) -> float:
    """User and system time of a process; 0 when it is gone."""
    status = _lines(_PROC / str(pid) / "stat")
    fields = status[0].rpartition(")")[2].split() if status else []
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def family(root: int, parents: Mapping[int, int]) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def _role(pid: int) -> str:
    command = " ".join(_lines(_PROC / str(pid) / "cmdline"))
    return next((role for begin, role in _ROLES.items() if command.startswith(begin)), OTHER)


def _memory(pid: int) -> tuple[int, int] | None:
    """Greatest resident set and proportional set of a process, in bytes; None when it is gone or shows neither."""
    peak = _kilobytes(_lines(_PROC / str(pid) / "status"), "VmHWM")
    share = _kilobytes(_lines(_PROC / str(pid) / "smaps_rollup"), "Pss")
    return None if peak is None or share is None else (1024 * peak, 1024 * share)


def _kilobytes(lines: Iterable[str], name: str) -> int | None:
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
