"""Trimmed mean: each entry of the groups' updates without its largest and smallest ones, times the number of groups.

    Δ_g = cross_g·(C + H + gram_g)⁻¹        Δ[v, k] = α·G·mean of Δ_g[v, k] without the b largest and b smallest

With no trimming and α = 1 this is task arithmetic over groups. Up to b groups with bad parties cannot move any entry of
the mean beyond the range of the honest groups. An edit that one group alone asks for is in one of G updates: trimming
hits it wherever it stands out, and what is left of it is multiplied by G together with everybody's noise.

Source: Yin et al. 2018, Byzantine-robust distributed learning (arXiv 1803.01498), definition 2. What differs: groups of
parties in place of parties, so that memory does not grow with their number; the sum rather than the mean (α = 1/G
gives it), since parties' edits differ. Not exact against `global`.

Shapes: K key width, V value width, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from consortium.merging.groups import ALPHA, GROUPS, GroupSums, group_sums_of, group_updates
from consortium.merging.method import Bounds, Contribution, PartyShare, of_kind
from consortium.merging.solver import PriorSolver


@dataclass(frozen=True)
class TrimmedMean:
    """Coordinate-wise trimmed mean over groups of parties.

    Attributes:
        groups: G, the number of groups of parties.
        trim: share of groups left out at either end, rounded down to b of G.
        alpha: α, the coefficient of the sum over groups.
    """

    groups: Annotated[float, GROUPS] = 5
    trim: Annotated[float, Bounds("share of groups left out at either end", high=0.5, high_included=False)] = 0.2
    alpha: Annotated[float, ALPHA] = 1.0

    name: ClassVar[str] = "trimmed_mean"
    title: ClassVar[str] = "Trimmed mean"
    reference: ClassVar[str] = "Yin et al. 2018, arXiv 1803.01498, definition 2, over groups"
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
        """Δ [V, K] = α·G·trimmed mean of Δ_g."""
        deltas_GVK = group_updates(of_kind(total, GroupSums, self.name), solver)
        return self.alpha * len(deltas_GVK) * trimmed_mean(deltas_GVK, self.trim)


def trimmed_mean(values_GVK: torch.Tensor, trim: float) -> torch.Tensor:
    """Mean [V, K] of each entry without its ⌊trim·G⌋ largest and smallest values."""
    num_groups = values_GVK.shape[0]
    num_left_out = int(trim * num_groups + 1e-9)
    return values_GVK.sort(dim=0).values[num_left_out : num_groups - num_left_out].mean(dim=0)
