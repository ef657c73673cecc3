"""What a run on Ray may leave behind: processes of actors, placement groups, shared memory, files.

before = left_behind()
...
assert_nothing_left(before)

Only what belongs to this process's own Ray is looked at: others may run on the machine.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import ray

_PATIENCE_S = 30.0


@dataclass(frozen=True)
class LeftBehind:
    """What is there now.

    Attributes:
        actors: names of processes that are actors.
        placement_groups: states of placement groups that were not removed.
        shared_memory: files in /dev/shm that Ray's processes have mapped, deleted or not.
        reserved: resources that somebody holds, the object store's bytes among them.
        files: what lies in the folder for temporary files; a test that looks gives itself a folder of its own.
    """

    actors: tuple[str, ...]
    placement_groups: tuple[str, ...]
    shared_memory: frozenset[str]
    reserved: tuple[tuple[str, float], ...]
    files: frozenset[str]


def left_behind() -> LeftBehind:
    """Look."""
    processes = _descendants(os.getpid())
    names = [_command(pid) for pid in processes]
    groups = ray.util.placement_group_table().values()
    return LeftBehind(
        actors=tuple(sorted(name for name in names if name.startswith(("ray::WorkerActor", "ray::CoordinatorActor")))),
        placement_groups=tuple(group["state"] for group in groups if group["state"] != "REMOVED"),
        shared_memory=frozenset(path for pid in processes for path in _shared_memory(pid)),
        reserved=_reserved(),
        files=frozenset(path.name for path in Path(tempfile.gettempdir()).iterdir()),
    )


def assert_nothing_left(before: LeftBehind) -> None:
    """What was made since is gone, soon."""
    give_up = time.monotonic() + _PATIENCE_S
    while (now := left_behind()) != before:
        assert time.monotonic() < give_up, f"left behind: {now}; before: {before}"
        time.sleep(0.5)


def _reserved() -> tuple[tuple[str, float], ...]:
    free = ray.available_resources()
    return tuple(
        (name, round(amount - free.get(name, 0.0), 6))
        for name, amount in sorted(ray.cluster_resources().items())
        if name in ("CPU", "GPU", "object_store_memory")
    )


def _descendants(root: int) -> list[int]:
    parents = {pid: parent for pid in _pids() if (parent := _parent(pid)) is not None}
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        children = [child for child, parent in parents.items() if parent == pid]
        found += children
        waiting += children
    return found


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _parent(pid: int) -> int | None:
    text = _read(pid, "stat")
    return int(text.rpartition(")")[2].split()[1]) if text else None


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace("\0", " ").strip()


def _shared_memory(pid: int) -> set[str]:
    return {line.split(None, 5)[5] for line in _read(pid, "maps").splitlines() if " /dev/shm/" in line}


def _read(pid: int, name: str) -> str:
    """A file of a process; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
