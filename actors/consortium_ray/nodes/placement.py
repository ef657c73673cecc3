"""Where workers go: which nodes have room for which kind of worker, now and at the most.

Plain arithmetic on what nodes have, without Ray, so that a pool can be decided about and tested by hand. A worker does
not stretch over two nodes, and a share of a GPU not over two GPUs. Nodes are filled one after the other rather than
evenly, those with GPUs last for workers that need none: a node without workers is one that can be given back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from consortium.common.errors import ClusterError
from consortium.scenario.cluster import WorkersSpec

#: Shares such as 0.1 are not exact in binary: ten of them fit.
_SLACK = 1e-9

Needs = Mapping[str, float]


@dataclass(frozen=True)
class Node:
    """A node of the cluster.

    Attributes:
        id: its name in the cluster.
        total: resource → amount it has.
        available: resource → amount that nobody has reserved, as last heard; None where nobody else is there.
        type: name of its type, or empty.
        is_leaving: whether it is about to go, and takes no more workers.
    """

    id: str
    total: Needs
    available: Needs | None = None
    type: str = ""
    is_leaving: bool = False


@dataclass(frozen=True)
class NodeType:
    """Nodes that the cluster can start: their type, what each has, and how many there may be in all."""

    name: str
    resources: Needs
    max_nodes: int


@dataclass(frozen=True)
class Growth:
    """How a cluster can grow.

    Attributes:
        types: types of nodes that it can start; empty when it cannot grow.
        max_nodes: nodes that it may have in all, the head left out; None for as many as the types say.
        is_known: False where the cluster grows, but nobody can say by what.
    """

    types: Sequence[NodeType] = ()
    max_nodes: int | None = None
    is_known: bool = True

    @property
    def is_possible(self) -> bool:
        """Whether nodes may come that are not there yet."""
        return bool(self.types) or not self.is_known


FIXED = Growth()
"""A cluster that stays as it is."""


def needs_of(kind: WorkersSpec) -> dict[str, float]:
    """What Ray reserves for a worker."""
    return {name: share for name, share in (("CPU", kind.cpus), ("GPU", kind.gpus)) if share}


class Room:
    """What is free on each node while workers are placed on it one by one.

    Args:
        nodes: the nodes; on those that are about to go nothing is placed.
        placed: node and needs of each worker that is there already.
        to_come: types of nodes that can still be started where no other has room, and how many of each.
        most_to_come: how many of all types together; None for as many as these numbers say.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        placed: Iterable[tuple[str, Needs]] = (),
        to_come: Iterable[tuple[NodeType, int]] = (),
        most_to_come: int | None = None,
    ) -> None:
        self._nodes = {node.id: _Free(node) for node in nodes if not node.is_leaving}
        self._to_come = list(to_come)
        self._most_to_come = most_to_come
        for node_id, needs in placed:
            if node_id in self._nodes:
                self._nodes[node_id].take(needs)

    def place(self, needs: Needs) -> str | None:
        """Reserve a worker's needs on the node that suits best, and return it; None where none has room."""
        fitting = [free for free in self._nodes.values() if free.fits(needs)] or self._opened(needs)
        if not fitting:
            return None
        best = min(fitting, key=lambda free: (free.has_gpus and not needs.get("GPU"), free.num_workers == 0))
        best.take(needs, is_new=True)
        return best.node.id

    def _opened(self, needs: Needs) -> list[_Free]:
        """A node that is started for a worker, of the type that suits best; none where none may come."""
        types = [(kind, place) for place, (kind, number) in enumerate(self._to_come) if number > 0]
        fitting = [(kind, place) for kind, place in types if _Free(Node("", kind.resources)).fits(needs)]
        if not fitting or self._most_to_come == 0:
            return []
        kind, place = min(fitting, key=lambda each: bool(each[0].resources.get("GPU")) and not needs.get("GPU"))
        self._to_come[place] = kind, self._to_come[place][1] - 1
        self._most_to_come = None if self._most_to_come is None else self._most_to_come - 1
        node = Node(f"{kind.name} to come {len(self._nodes)}", kind.resources, None, kind.name)
        self._nodes[node.id] = _Free(node)
        return [self._nodes[node.id]]


class _Free:
    """What is free on one node; each GPU is counted by itself."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.num_workers = 0
        self._amounts = dict(node.total)
        self._gpus = [1.0] * int(node.total.get("GPU", 0))
        self._unreserved = dict(node.total if node.available is None else node.available)

    @property
    def has_gpus(self) -> bool:
        return bool(self._gpus)

    def fits(self, needs: Needs) -> bool:
        """Whether a worker finds room: by what our workers leave, and by what others leave as far as was heard."""
        amounts = all(
            min(self._amounts.get(name, 0.0), self._unreserved.get(name, 0.0)) + _SLACK >= share
            for name, share in needs.items()
        )
        return amounts and self._gpus_for(needs.get("GPU", 0.0)) is not None

    def take(self, needs: Needs, *, is_new: bool = False) -> None:
        """Reserve a worker's needs; what was heard of reservations may hold that of a worker that is there already."""
        self.num_workers += 1
        for name, share in needs.items():
            self._amounts[name] = self._amounts.get(name, 0.0) - share
            self._unreserved[name] = self._unreserved.get(name, 0.0) - share * is_new
        share = needs.get("GPU", 0.0)
        for index in self._gpus_for(share) or []:
            self._gpus[index] -= min(share, 1.0)

    def _gpus_for(self, share: float) -> list[int] | None:
        """The GPUs that a worker gets: the fullest one with room for a share, or as many free ones; None for no
        room."""
        each, number = min(share, 1.0), max(1, round(share))
        if not share:
            return []
        open_ones = sorted((left, index) for index, left in enumerate(self._gpus) if left + _SLACK >= each)
        return [index for _, index in open_ones[:number]] if len(open_ones) >= number else None


def most_room(nodes: Sequence[Node], growth: Growth) -> Room | None:
    """All room that there can ever be, were nobody else there: on the nodes and on those to come; None: unknown."""
    if not growth.is_known:
        return None
    started = {kind.name for kind in growth.types}
    left = None if growth.max_nodes is None else growth.max_nodes - sum(node.type in started for node in nodes)
    numbers = [kind.max_nodes - sum(node.type == kind.name for node in nodes) for kind in growth.types]
    to_come = list(zip(growth.types, numbers, strict=True))
    return Room([replace(node, available=None) for node in nodes], to_come=to_come, most_to_come=left)


def allot(kinds: Sequence[WorkersSpec], demand: int, room: Room | None) -> tuple[int, ...]:
    """How many workers of each kind there shall be: every kind's min, then in the kinds' order as many as are of use.

    Args:
        kinds: the kinds of workers.
        demand: workers that would find something to do.
        room: room for them, of which this takes its share; None where nobody knows what may come, and all find room.

    Returns:
        Workers by kind; fewer than its min where a kind finds no room.
    """
    counts = [0] * len(kinds)
    for index, kind in enumerate(kinds):
        counts[index] += _fill(room, kind, kind.min)
    for index, kind in enumerate(kinds):
        counts[index] += _fill(room, kind, min(kind.max - counts[index], demand - sum(counts)))
    return tuple(counts)


def _fill(room: Room | None, kind: WorkersSpec, wanted: int) -> int:
    """Place up to so many workers, and say how many found room."""
    if room is None:
        return max(0, wanted)
    return next((number for number in range(wanted) if room.place(needs_of(kind)) is None), max(0, wanted))


def refuse_what_cannot_be(kinds: Sequence[WorkersSpec], nodes: Sequence[Node], growth: Growth) -> None:
    """See that every kind's min finds room, on the nodes that are there or may come.

    Raises:
        ClusterError: it never will; with a table of what is asked and what the cluster has.
    """
    found = allot(kinds, 0, most_room(nodes, growth))
    if all(count >= kind.min for count, kind in zip(found, kinds, strict=True)):
        return
    raise ClusterError(
        "cluster.workers: " + ", ".join(_asked(kind) for kind in kinds) + "\n" + table(kinds, found, nodes, growth),
        "workers that the cluster has room for",
        "lower cluster.workers.min, give each worker less (cluster.workers.cpus may be a fraction)"
        + (", or let the cluster grow further (cluster.autoscale, or its node types)" if growth.types else ""),
    )


def _asked(kind: WorkersSpec) -> str:
    return f"at least {kind.min} workers at {kind.cpus:g} CPU and {kind.gpus:g} GPU each"


def table(kinds: Sequence[WorkersSpec], found: Sequence[int], nodes: Sequence[Node], growth: Growth) -> str:
    """What was asked for, what there is room for, and what the cluster has, as lines of a table."""
    lines = [f"  {'asked for':<28}{'CPU each':>10}{'GPU each':>10}{'room for':>10}"]
    for kind, count in zip(kinds, found, strict=True):
        lines.append(f"  {f'{kind.min} to {kind.max} workers':<28}{kind.cpus:>10g}{kind.gpus:>10g}{count:>10}")
    lines.append(f"  {'the cluster':<28}{'CPU':>10}{'GPU':>10}")
    shapes: dict[tuple[str, float, float], int] = {}
    for node in nodes:
        shape = (node.type, node.total.get("CPU", 0), node.total.get("GPU", 0))
        shapes[shape] = shapes.get(shape, 0) + 1
    for (name, cpus, gpus), count in shapes.items():
        lines.append(f"  {f'{count} nodes {name}'.rstrip():<28}{cpus:>10g}{gpus:>10g}")
    reserved = {name: sum(_reserved(node, name) for node in nodes) for name in ("CPU", "GPU")}
    if any(amount > _SLACK for amount in reserved.values()):
        lines.append(f"  {'reserved now, of all nodes':<28}{reserved['CPU']:>10g}{reserved['GPU']:>10g}")
    for each in growth.types:
        cpus, gpus = each.resources.get("CPU", 0), each.resources.get("GPU", 0)
        lines.append(f"  {f'at most {each.max_nodes} of {each.name}':<28}{cpus:>10g}{gpus:>10g}")
    return "\n".join(lines)


def _reserved(node: Node, name: str) -> float:
    """How much of a resource somebody has reserved on a node, as last heard."""
    total = node.total.get(name, 0.0)
    return total - (total if node.available is None else node.available.get(name, 0.0))
