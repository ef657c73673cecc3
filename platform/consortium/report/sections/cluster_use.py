"""How a run used its cluster: pure arithmetic over the table of nodes and the events.

A moment is what was seen at one time; what was seen counts until the next moment. A node without CPUs and GPUs, such
as the head of a cluster, has no room for workers and is left out, but for its price. Seconds are since the demand
began, that is, since workers were first wanted. Columns are explained in :class:`consortium.records.rows.NodeRow`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from consortium.records.rows import EventRow, NodeRow

#: A worker or node that ends within so many seconds of its start was started in vain.
THRASH_S = 30.0
_HOUR_S = 3600.0


@dataclass(frozen=True)
class Moment:
    """The cluster at one time."""

    time_s: float
    rows: tuple[NodeRow, ...]  # what was seen of each node that has room for workers
    num_wanted: int  # workers that were wanted
    num_stopped: int  # workers ended for want of work, so far
    all_rows: tuple[NodeRow, ...]  # with nodes that have no room

    @property
    def num_workers(self) -> int:
        """Workers that are ready or busy."""
        return sum(row.workers for row in self.rows)

    @property
    def num_starting(self) -> int:
        """Workers that are starting."""
        return sum(row.workers_starting for row in self.rows)


@dataclass(frozen=True)
class ClusterUse:
    """What the report says of the cluster; a time is None where it did not come to that."""

    first_node_s: float | None  # until there was a node with room
    satisfied_s: float | None  # until as many workers were ready as were wanted
    first_down_s: float | None  # until there were fewer nodes than before
    minimum_s: float | None  # until there were as few nodes as there ever were after the most
    reserved_share: float  # of the CPU-seconds (or, without CPUs, GPU-seconds) of all nodes, those that were reserved
    used_share: float  # those that workers with a call held
    node_s: float  # node-seconds
    idle_node_s: float  # node-seconds without any reservation
    num_thrashed: int  # nodes and workers that ended within THRASH_S of their start
    most_nodes: int  # nodes at most


def moments(rows: Sequence[NodeRow]) -> list[Moment]:
    """The rows by time, in order."""
    found = []
    for time_s, group in groupby(sorted(rows, key=lambda row: row.time_s), key=lambda row: row.time_s):
        seen = tuple(group)
        room = tuple(row for row in seen if row.cpus or row.gpus)
        found.append(Moment(time_s, room, seen[0].workers_wanted, seen[0].workers_stopped, seen))
    return found


def cluster_use(series: Sequence[Moment], events: Sequence[EventRow]) -> ClusterUse | None:
    """The measures of a run's cluster; None where workers were never wanted.

    Args:
        series: the moments in order.
        events: the run's events.
    """
    begin = next((moment.time_s for moment in series if moment.num_wanted), None)
    if begin is None:
        return None
    since = [moment for moment in series if moment.time_s >= begin]

    def until(is_so: Callable[[Moment], bool]) -> float | None:
        return next((moment.time_s - begin for moment in since if is_so(moment)), None)

    counts = [len(moment.rows) for moment in since]
    peak = counts.index(max(counts))
    fewer = next((right for left, right in pairwise(since) if len(right.rows) < len(left.rows)), None)
    fewest = min(counts[peak:])
    least = since[peak + counts[peak:].index(fewest)] if fewest < counts[peak] else None
    reserved, used = _shares(series)
    return ClusterUse(
        first_node_s=until(lambda moment: bool(moment.rows)),
        satisfied_s=until(lambda moment: 0 < moment.num_wanted <= moment.num_workers),
        first_down_s=None if fewer is None else fewer.time_s - begin,
        minimum_s=None if least is None else least.time_s - begin,
        reserved_share=reserved,
        used_share=used,
        node_s=_integral(series, lambda moment: len(moment.rows)),
        idle_node_s=_integral(series, lambda moment: sum(_is_idle(row) for row in moment.rows)),
        num_thrashed=sum(span < THRASH_S for span in [*_node_spans(series), *_worker_spans(events)]),
        most_nodes=max(counts),
    )


def _integral(series: Sequence[Moment], amount: Callable[[Moment], float]) -> float:
    """The amount times the seconds it lasted, summed; the last moment lasts no time."""
    return float(sum(amount(left) * (right.time_s - left.time_s) for left, right in pairwise(series)))


def _is_idle(row: NodeRow) -> bool:
    return not (row.cpus_reserved or row.gpus_reserved)


def _shares(series: Sequence[Moment]) -> tuple[float, float]:
    """Reserved and used shares of CPUs, or of GPUs where no node has CPUs."""
    kind = "cpus" if any(row.cpus for moment in series for row in moment.rows) else "gpus"

    def total(column: str) -> float:
        return _integral(series, lambda moment: sum(getattr(row, column) for row in moment.rows))

    whole = total(kind)
    return (total(f"{kind}_reserved") / whole, total(f"{kind}_busy") / whole) if whole else (0.0, 0.0)


def _node_spans(series: Sequence[Moment]) -> Iterator[float]:
    """How long each node was there that both came and went while it was looked."""
    came: dict[str, float] = {}
    for left, right in pairwise(series):
        before, after = ({row.node for row in moment.rows} for moment in (left, right))
        came |= dict.fromkeys(sorted(after - before), right.time_s)
        yield from (right.time_s - came.pop(node) for node in sorted(before - after) if node in came)


def _worker_spans(events: Sequence[EventRow]) -> Iterator[float]:
    """How long each worker was there that was started and stopped; numbers begin again when a run is resumed."""
    came: dict[str | None, float] = {}
    for event in sorted(events, key=lambda event: event.time_s):
        if event.kind == "worker-started":
            came[event.worker] = event.time_s
        elif event.kind == "worker-stopped" and event.worker in came:
            yield event.time_s - came.pop(event.worker)


def cost(series: Sequence[Moment], prices: Mapping[str, float]) -> float:
    """What the nodes cost while it was looked.

    Args:
        series: the moments in order.
        prices: an hour's price of a node by its type, or of ``cpu`` and ``gpu`` for nodes of other types.
    """
    return _integral(series, lambda moment: sum(_price(row, prices) for row in moment.all_rows)) / _HOUR_S


def _price(row: NodeRow, prices: Mapping[str, float]) -> float:
    """What an hour of a node costs."""
    if row.type in prices:
        return prices[row.type]
    return row.cpus * prices.get("cpu", 0.0) + row.gpus * prices.get("gpu", 0.0)
