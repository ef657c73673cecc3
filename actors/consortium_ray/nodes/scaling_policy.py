"""When hosts start and when they end: decisions about plain data, which the pool carries out.

Hosts start in batches, since they all read the same libraries and the same model from the same disks. A host ends, is
*parked*, when more are there than find something to do and it had nothing to do for its kind's ``idle_s``; those go
first whose node then has the fewest hosts left, so that nodes become free of hosts rather than all a little emptier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from consortium.scenario.cluster import HostsSpec

from consortium_ray.nodes.placement import Node

#: Hosts that may be starting at the same time, however few CPUs there are.
SMALLEST_BATCH = 4


@dataclass(frozen=True)
class Standing:
    """How a host stands.

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


def to_start(targets: Sequence[int], hosts: Sequence[Standing], nodes: Sequence[Node]) -> list[int]:
    """Kinds of the hosts to start now: what is missing of each, as many as one batch still takes."""
    present = Counter(host.kind for host in hosts)
    missing = [kind for kind, target in enumerate(targets) for _ in range(target - present[kind])]
    batch = max(SMALLEST_BATCH, int(sum(node.total.get("CPU", 0) for node in nodes)))
    return missing[: max(0, batch - sum(host.is_starting for host in hosts))]


def to_park(
    targets: Sequence[int], kinds: Sequence[HostsSpec], hosts: Sequence[Standing], keeping: Collection[int] = ()
) -> list[int]:
    """Incarnations of the hosts to end now; none of ``keeping``."""
    left = Counter(host.kind for host in hosts)
    on_node = Counter(host.node for host in hosts)
    resting = [
        host
        for host in hosts
        if host.idle_s is not None and host.idle_s >= kinds[host.kind].idle_s and host.incarnation not in keeping
    ]
    parked: list[int] = []
    # Kinds that a scenario names first are taken first and given back last.
    for host in sorted(resting, key=lambda each: (-each.kind, on_node[each.node], each.node, each.incarnation)):
        if left[host.kind] > targets[host.kind]:
            left[host.kind] -= 1
            parked.append(host.incarnation)
    return parked
