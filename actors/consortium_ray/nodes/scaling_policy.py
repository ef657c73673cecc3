"""When workers start and when they end: decisions about plain data, which the pool carries out.

Workers start in batches, since they all read the same libraries and the same model from the same disks. A worker ends,
is *stopped*, when more are there than find something to do and it had nothing to do for its kind's ``idle_s``; those go
first whose node then has the fewest workers left, so that nodes become free of workers rather than all a little
emptier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from consortium.scenario.cluster import WorkersSpec

from consortium_ray.nodes.placement import Node

#: Workers that may be starting at the same time, however few CPUs there are.
SMALLEST_BATCH = 4


@dataclass(frozen=True)
class WorkerCounts:
    """How a worker stands.

    Attributes:
        incarnation: its number.
        kind: index of its kind.
        node: the node it is on.
        is_starting: it has not answered yet.
        idle_s: seconds that it has had nothing to do; None when it is busy or starting.
    """

    incarnation: int
    kind: int
    node: str
    is_starting: bool = False
    idle_s: float | None = None


def to_start(targets: Sequence[int], workers: Sequence[WorkerCounts], nodes: Sequence[Node]) -> list[int]:
    """Kinds of the workers to start now: what is missing of each, as many as one batch still takes."""
    present = Counter(worker.kind for worker in workers)
    missing = [kind for kind, target in enumerate(targets) for _ in range(target - present[kind])]
    batch = max(SMALLEST_BATCH, int(sum(node.total.get("CPU", 0) for node in nodes)))
    return missing[: max(0, batch - sum(worker.is_starting for worker in workers))]


def to_stop(
    targets: Sequence[int], kinds: Sequence[WorkersSpec], workers: Sequence[WorkerCounts], keeping: Collection[int] = ()
) -> list[int]:
    """Incarnations of the workers to end now; none of ``keeping``."""
    left = Counter(worker.kind for worker in workers)
    on_node = Counter(worker.node for worker in workers)
    resting = [
        worker
        for worker in workers
        if worker.idle_s is not None
        and worker.idle_s >= kinds[worker.kind].idle_s
        and worker.incarnation not in keeping
    ]
    stopped: list[int] = []
    # Kinds that a scenario names first are taken first and given back last.
    for worker in sorted(resting, key=lambda each: (-each.kind, on_node[each.node], each.node, each.incarnation)):
        if left[worker.kind] > targets[worker.kind]:
            left[worker.kind] -= 1
            stopped.append(worker.incarnation)
    return stopped
