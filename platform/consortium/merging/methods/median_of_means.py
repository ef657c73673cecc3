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

import torch

from consortium.merging.bucketing import OverBuckets
from consortium.scenario.methods import MedianOfMeansSpec


class MedianOfMeans(OverBuckets):
    """Coordinate-wise median over groups of parties."""

    spec: MedianOfMeansSpec

    def middle(self, deltas_GVK: torch.Tensor) -> torch.Tensor:
        """The median of the groups' updates."""
        return median(deltas_GVK)


def median(values_GVK: torch.Tensor) -> torch.Tensor:
    """Median [V, K] of each entry; of an even number the mean of the two in the middle."""
    values_GVK = values_GVK.sort(dim=0).values
    last = values_GVK.shape[0] - 1
    return (values_GVK[last // 2] + values_GVK[last - last // 2]) / 2
