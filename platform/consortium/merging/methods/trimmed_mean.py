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

import torch

from consortium.merging.bucketing import OverBuckets
from consortium.scenario.methods import TrimmedMeanSpec


class TrimmedMean(OverBuckets):
    """Coordinate-wise trimmed mean over groups of parties."""

    spec: TrimmedMeanSpec

    def middle(self, deltas_GVK: torch.Tensor) -> torch.Tensor:
        """The trimmed mean of the groups' updates."""
        return trimmed_mean(deltas_GVK, self.spec.trim)


def trimmed_mean(values_GVK: torch.Tensor, trim: float) -> torch.Tensor:
    """Mean [V, K] of each entry without its ⌊trim·G⌋ largest and smallest values."""
    num_buckets = values_GVK.shape[0]
    num_skipped = int(trim * num_buckets + 1e-9)
    return values_GVK.sort(dim=0).values[num_skipped : num_buckets - num_skipped].mean(dim=0)
