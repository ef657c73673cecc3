"""Looking at the cluster about each second while a run goes on: rows for the table of nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Event, Lock, Thread
from typing import Protocol

from consortium.records.directory import RunDirectory
from consortium.records.rows import NodeRow
from consortium.scenario.cluster import WorkersSpec
from consortium.scenario.schema import Scenario

from consortium_ray.nodes.nodes import UNREACHABLE, present
from consortium_ray.nodes.placement import Node
from consortium_ray.nodes.scaling_policy import WorkerCounts

#: Time between two looks.
INTERVAL_S = 1.0
#: Looks become rarer as a run goes on, so that rows of a run of days stay few: so many in each doubling of its time.
_LOOKS = 2000
#: Digits of a node's id that tell it from others.
_ID_DIGITS = 12

See = Callable[[float], Sequence[NodeRow]]


class WorkersByNode(Protocol):
    """What is asked of a pool."""

    num_wanted: int
    num_stopped: int

    def counts_by_kind(self) -> list[WorkerCounts]:
        """How each worker stands."""
        ...


class NodeWatch:
    """A thread that looks at the cluster, since the coordinator's own may be merging for long.

    Args:
        look: time → what is seen then.
        clock: seconds since the run's start, pauses left out.
    """

    def __init__(self, look: See, clock: Callable[[], float]) -> None:
        self._look = look
        self._clock = clock
        self._rows: list[NodeRow] = []
        self._lock = Lock()
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="node-watch", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                rows = self._look(self._clock())
            except UNREACHABLE:
                rows = []  # the cluster cannot be asked just now; the run itself notices what that means
            with self._lock:
                self._rows += rows
            self._ended.wait(max(INTERVAL_S, self._clock() / _LOOKS))

    def take(self, round_number: int) -> list[NodeRow]:
        """What was seen since this was last called, as rows of a round."""
        with self._lock:
            rows, self._rows = self._rows, []
        return [replace(row, round=round_number) for row in rows]

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join(INTERVAL_S)


def see(kinds: Sequence[WorkersSpec], workers: WorkersByNode | None, time_s: float) -> list[NodeRow]:
    """The cluster and the workers on it, now."""
    if workers is None:
        return node_rows(present(), [], kinds, time_s)
    rows = node_rows(present(), workers.counts_by_kind(), kinds, time_s)
    return [replace(row, workers_wanted=workers.num_wanted, workers_stopped=workers.num_stopped) for row in rows]


def node_rows(
    nodes: Sequence[Node], workers: Sequence[WorkerCounts], kinds: Sequence[WorkersSpec], time_s: float
) -> list[NodeRow]:
    """One row for each node, of round 0."""
    return [_row(node, [worker for worker in workers if worker.node == node.id], kinds, time_s) for node in nodes]


def _row(node: Node, workers: Sequence[WorkerCounts], kinds: Sequence[WorkersSpec], time_s: float) -> NodeRow:
    has = {name: node.total.get(name, 0.0) for name in ("CPU", "GPU")}
    free = {name: (node.total if node.available is None else node.available).get(name, 0.0) for name in has}
    busy = [kinds[worker.kind] for worker in workers if not worker.is_starting and worker.idle_s is None]
    num_starting = sum(worker.is_starting for worker in workers)
    return NodeRow(
        round=0,
        time_s=time_s,
        node=node.id[:_ID_DIGITS],
        type=node.type,
        cpus=has["CPU"],
        gpus=has["GPU"],
        cpus_reserved=max(0.0, has["CPU"] - free["CPU"]),
        gpus_reserved=max(0.0, has["GPU"] - free["GPU"]),
        cpus_busy=sum(kind.cpus for kind in busy),
        gpus_busy=sum(kind.gpus for kind in busy),
        workers=len(workers) - num_starting,
        workers_starting=num_starting,
        workers_wanted=0,
        workers_stopped=0,
    )


def see_nodes_end(scenario: Scenario, directory: RunDirectory) -> list[NodeRow]:
    """Look how the cluster gives its nodes back after the last round, until all are gone or ``watch_s`` is over."""
    stopped = directory.table("nodes", ["workers_stopped"])["workers_stopped"]
    num_stopped = stopped[-1].as_py() if len(stopped) else 0
    look = partial(see, scenario.cluster.worker_kinds, None)
    rows: list[NodeRow] = []
    give_up = time.monotonic() + scenario.cluster.autoscale.watch_s
    while time.monotonic() < give_up:
        with suppress(*UNREACHABLE):  # the run is over, and this is no reason to say that it failed
            found = look(directory.worked_s)
            rows += [replace(row, round=scenario.stream.rounds, workers_stopped=num_stopped) for row in found]
            if not any(row.cpus or row.gpus for row in found):
                break
        time.sleep(INTERVAL_S)
    return rows
