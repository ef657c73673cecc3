"""What a cluster that grows is asked for: room for this run's workers beside everything that others reserve.

Ray's autoscaler is told how large the whole cluster shall be at least, whoever uses it. Room for the workers alone
would therefore be there already where another job fills it, and nothing would grow. So what others reserve is asked for
as well, and so are nodes that workers avoid. Plain arithmetic on what nodes have, without Ray.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from consortium.scenario.cluster import WorkersSpec

from consortium_ray.nodes.placement import Needs, Node, needs_of

#: Seconds for which something must have been reserved before it counts. What a worker that ended had reserved is still
#: told of for a moment, and no node is to be started for it.
STEADY_S = 3.0
#: What workers reserve.
_RESOURCES = ("CPU", "GPU")
_SLACK = 1e-6


def used_by_others(nodes: Iterable[Node], placed: Iterable[tuple[str, Needs]]) -> dict[str, Needs]:
    """Node → what is reserved there by others than the workers in ``placed``, which are (node, needs)."""
    own: dict[str, dict[str, float]] = {}
    for node_id, needs in placed:
        amounts = own.setdefault(node_id, {})
        for name, share in needs.items():
            amounts[name] = amounts.get(name, 0.0) + share
    found = {}
    for node in nodes:
        free = node.total if node.available is None else node.available
        mine = own.get(node.id, {})
        rest = {name: node.total.get(name, 0.0) - free.get(name, 0.0) - mine.get(name, 0.0) for name in _RESOURCES}
        found[node.id] = {name: round(amount, 4) for name, amount in rest.items() if amount > _SLACK}
    return {node_id: amounts for node_id, amounts in found.items() if amounts}


class SteadyUse:
    """What others have reserved all the time for a while.

    Args:
        steady_s: for how long.
        now: a clock.
    """

    def __init__(self, steady_s: float = STEADY_S, now: Callable[[], float] = time.monotonic) -> None:
        self._steady_s = steady_s
        self._now = now
        self._seen: deque[tuple[float, Mapping[str, Needs]]] = deque()

    def see(self, used: Mapping[str, Needs]) -> dict[str, Needs]:
        """Take what is reserved now; returns the least of what was in the last seconds, nothing in the first ones."""
        now = self._now()
        self._seen.append((now, used))
        while len(self._seen) > 1 and self._seen[1][0] <= now - self._steady_s:
            self._seen.popleft()
        if self._seen[0][0] > now - self._steady_s:
            return {}
        return {node_id: least for node_id in used if (least := self._least(node_id))}

    def _least(self, node_id: str) -> Needs:
        amounts = [use.get(node_id, {}) for _, use in self._seen]
        least = {name: min(each.get(name, 0.0) for each in amounts) for name in _RESOURCES}
        return {name: amount for name, amount in least.items() if amount}


def bundles_for(
    kinds: Sequence[WorkersSpec],
    targets: Sequence[int],
    nodes: Iterable[Node],
    others: Mapping[str, Needs],
    avoided: Collection[str] = (),
) -> list[dict[str, float]]:
    """What shall fit into the cluster at the same time: the workers, what others reserve, and nodes that are
    avoided."""
    workers = [dict(needs_of(kind)) for kind, number in zip(kinds, targets, strict=True) for _ in range(number)]
    if not workers:
        return []
    whole = {node.id: {name: node.total[name] for name in _RESOURCES if node.total.get(name)} for node in nodes}
    taken = [whole[node_id] if node_id in avoided else dict(others.get(node_id, {})) for node_id in whole]
    return [*workers, *(bundle for bundle in taken if bundle)]
