"""The tree of additions: party batches are added in groups of consecutive numbers, and the groups' sums after that.

The groups follow from ``cluster.reduce_fanout`` alone. So whoever adds a group, the coordinator or a worker of some
machine, and in whatever order the groups get there, the sum is the same in every bit.
"""

from __future__ import annotations

from consortium.merging.method import Contribution, RunningSum


class PartialSums:
    """A sum over party batches, given in ascending order; at most one group's sum and the total of those before are
    held.

    Args:
        reduce_fanout: party batches of a group.
    """

    def __init__(self, reduce_fanout: int) -> None:
        self._size = reduce_fanout
        self._total = RunningSum()
        self._group: RunningSum | None = None
        self._last_party_batch = -1

    def add(self, party_batch: int, contribution: Contribution) -> None:
        """Add a party batch's contribution; party batches that have nothing to give are left out."""
        assert party_batch > self._last_party_batch, f"party batch {party_batch} after {self._last_party_batch}"
        if self._group is None or party_batch // self._size != self._last_party_batch // self._size:
            self._end_group()
            self._group = RunningSum()
        self._group.add(contribution)
        self._last_party_batch = party_batch

    def add_group(self, group_sum: Contribution) -> None:
        """Add the sum of the next group, which somebody else has made; then no party batch is added on its own."""
        assert self._group is None, "whole groups and single party batches in one sum"
        self._total.add(group_sum)

    def total(self) -> Contribution:
        """The sum; StatisticsError when nothing was added."""
        self._end_group()
        return self._total.total()

    def _end_group(self) -> None:
        if self._group is not None:
            self._total.add(self._group.total())
            self._group = None
