"""Median of means: each entry's median over the groups' updates, times the number of groups.

    Δ_g = cross_g·(C + H + gram_g)⁻¹        Δ[v, k] = α·G·median of Δ_g[v, k]

Within a group statistics add, which is the mean; the median is over groups. As long as more than half of the groups are
honest, no entry of the median is beyond the range of the honest ones. It is the trimmed mean that trims most.

Source: Nemirovsky and Yudin 1983; Yin et al. 2018 (arXiv 1803.01498), definition 1, for distributed learning. What
differs: the sum rather than the mean (α = 1/G gives it), since parties' edits differ; of an even number of groups the
mean of the two middle values. Not exact against `global`.

Shapes: K key width, V value width, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from consortium.merging.groups import ALPHA, GROUPS, GroupSums, group_sums_of, group_updates
from consortium.merging.method import Contribution, PartyShare, of_kind
from consortium.merging.solver import PriorSolver


@dataclass(frozen=True)
class MedianOfMeans:
    """Coordinate-wise median over groups of parties.

    Attributes:
        groups: G, the number of groups of parties.
        alpha: α, the coefficient of the sum over groups.
    """

    groups: Annotated[float, GROUPS] = 5
    alpha: Annotated[float, ALPHA] = 1.0

    name: ClassVar[str] = "median_of_means"
    title: ClassVar[str] = "Median of means"
    reference: ClassVar[str] = "Yin et al. 2018, arXiv 1803.01498, definition 1, over groups"
    needs_solver: ClassVar[bool] = False
    retractable: ClassVar[bool] = False

    @property
    def num_groups(self) -> int:
        """G."""
        return int(self.groups)

    def contribute(self, shares: Sequence[PartyShare], solver: PriorSolver | None = None) -> list[GroupSums]:
        """Each party's statistics, under its group."""
        return group_sums_of(shares, self.num_groups)

    def merge(self, total: Contribution, solver: PriorSolver) -> torch.Tensor:
        """Δ [V, K] = α·G·median of Δ_g."""
        deltas_GVK = group_updates(of_kind(total, GroupSums, self.name), solver)
        return self.alpha * len(deltas_GVK) * median(deltas_GVK)


def median(values_GVK: torch.Tensor) -> torch.Tensor:
    """Median [V, K] of each entry; of an even number the mean of the two in the middle."""
    values_GVK = values_GVK.sort(dim=0).values
    last = values_GVK.shape[0] - 1
    return (values_GVK[last // 2] + values_GVK[last - last // 2]) / 2
