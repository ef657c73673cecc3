"""Sums kept apart by groups of parties, so that a merge can compare what groups say.

A party's group is its number modulo the number of groups: it follows from the scenario and not from party batches or
workers. Within a group statistics add as anywhere; a sum holds as many of them as there are groups, however many
parties there are.

Shapes: K key width, V value width, G groups.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from consortium.common.errors import StatisticsError
from consortium.merging.deltas import check_addable
from consortium.merging.method import Contribution, MergeMethod, PartyShare, of_kind
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis, Statistics, joined_statistics, statistics_of, widths
from consortium.scenario.methods import OverBucketsSpec


@dataclass(frozen=True, eq=False)
class BucketSums:
    """Statistics by group, groups in ascending order; there is at least one.

    Attributes:
        buckets: number of a group → the sum of its parties' statistics.
    """

    buckets: Mapping[int, Statistics]

    @property
    def basis(self) -> Basis:
        """What they are taken against."""
        return next(iter(self.buckets.values())).basis

    @property
    def num_edits(self) -> int:
        """Edits of all groups."""
        return sum(each.num_edits for each in self.buckets.values())

    @property
    def num_parties(self) -> int:
        """Parties of all groups, those without edits included."""
        return sum(each.num_parties for each in self.buckets.values())

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return sum(each.nbytes for each in self.buckets.values())

    @property
    def gram(self) -> Statistics:
        """Gram sums over all groups, for the history."""
        return joined_statistics([each.gram for each in self.buckets.values()])

    def check(self, origin: str = "a party") -> None:
        """Raise StatisticsError, naming ``origin``, unless there is a group, and all numbers are finite and fit."""
        if not self.buckets:
            raise StatisticsError(f"{origin} sent no group", "statistics of at least one", "send those of one's own")
        for number, each in self.buckets.items():
            each.check(f"group {number} of {origin}")

    def __add__(self, other: BucketSums) -> BucketSums:
        return self.joined([other])

    def joined(self, others: Sequence[BucketSums]) -> BucketSums:
        """The sums of this and all others, group by group and in their order."""
        parts: dict[int, list[Statistics]] = {}
        for each in (self, *others):  # also of groups that do not meet, all are of one basis and width
            check_addable(self.basis, self._widths, each.basis, each._widths)
            for number, statistics in each.buckets.items():
                parts.setdefault(number, []).append(statistics)
        return BucketSums({number: joined_statistics(parts[number]) for number in sorted(parts)})

    @property
    def _widths(self) -> tuple[int, int]:
        return widths(next(iter(self.buckets.values())))


class OverBuckets(MergeMethod):
    """What methods over groups have in common: each is a middle of the groups' updates, and says which."""

    spec: OverBucketsSpec

    def contribute(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None = None) -> list[BucketSums]:
        """Each party's statistics, under its group."""
        return bucket_sums_of(shares, self.spec.buckets)

    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """Δ [V, K] = α·G·middle of Δ_g."""
        deltas_GVK = bucket_updates(of_kind(total, BucketSums, self.spec.name), solver)
        return self.spec.alpha * len(deltas_GVK) * self.middle(deltas_GVK)

    @abstractmethod
    def middle(self, deltas_GVK: torch.Tensor) -> torch.Tensor:
        """One update [V, K] in the middle of those of all groups."""


def bucket_sums_of(shares: Sequence[PartyShare], num_buckets: int) -> list[BucketSums]:
    """Each party's statistics as a sum of one, under the number of its group."""
    return [
        BucketSums(
            {
                share.party % num_buckets: statistics_of(
                    share.basis, share.keys_KE, share.residuals_VE, share.form, share.generator
                )
            }
        )
        for share in shares
    ]


def bucket_updates(sums: BucketSums, solver: CovarianceSolver) -> torch.Tensor:
    """Each group's own update cross_g·(C + H + gram_g)⁻¹, [G, V, K] float64, of all groups that have parties."""
    sums.check("the merge")
    return torch.stack([solver.merge(statistics) for statistics in sums.buckets.values()])


def buckets_of(method: MergeMethod) -> int | None:
    """In how many groups a method keeps parties apart; None where it does not."""
    return method.spec.buckets if isinstance(method, OverBuckets) else None
