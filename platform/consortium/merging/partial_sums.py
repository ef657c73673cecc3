"""The tree of additions: cohorts are added in groups of consecutive numbers, and the groups' sums after that.

The groups follow from ``cluster.group_size`` alone. So whoever adds a group, the coordinator or a host of some machine,
and in whatever order the groups get there, the sum is the same in every bit.
"""

from __future__ import annotations

from consortium.merging.method import Contribution, RunningSum


class GroupedSum:
    """A sum over cohorts, given in ascending order; at most one group's sum and the total of those before are held.

    Args:
        group_size: cohorts of a group.
    """

    def __init__(self, group_size: int) -> None:
        self._size = group_size
        self._total = RunningSum()
        self._group: RunningSum | None = None
        self._last_cohort = -1

    def add(self, cohort: int, contribution: Contribution) -> None:
        """Add a cohort's contribution; cohorts that have nothing to give are left out."""
        assert cohort > self._last_cohort, f"cohort {cohort} after {self._last_cohort}"
        if self._group is None or cohort // self._size != self._last_cohort // self._size:
            self._end_group()
            self._group = RunningSum()
        self._group.add(contribution)
        self._last_cohort = cohort

    def add_group(self, group_sum: Contribution) -> None:
        """Add the sum of the next group, which somebody else has made; then no cohort is added on its own."""
        assert self._group is None, "whole groups and single cohorts in one sum"
        self._total.add(group_sum)

    def total(self) -> Contribution:
        """The sum; StatisticsError when nothing was added."""
        self._end_group()
        return self._total.total()

    def _end_group(self) -> None:
        if self._group is not None:
            self._total.add(self._group.total())
            self._group = None
