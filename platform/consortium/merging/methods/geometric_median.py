"""Geometric median: the update whose distances to all groups' updates add up to least, times the number of groups.

    Δ_g = cross_g·(C + H + gram_g)⁻¹        Δ = α·G·argmin_M Σ_g ‖M − Δ_g‖F

Updates count as a whole here: a group that is far from the others weighs little at every entry, and one that is near
keeps its own. With f of G groups bad, the median is at most 2·(G − f)/(G − 2·f) times as far from any point as the
farthest honest group, however far the bad ones are.

Source: Pillutla et al. 2019, Robust aggregation for federated learning (arXiv 1912.13445), by Weiszfeld's iteration
with their smoothing; the bound is Minsker's 2015 (arXiv 1308.1334), lemma 2.1. What differs: groups of parties, and the
sum rather than the mean (α = 1/G gives it). Not exact against `global`.

Shapes: K key width, V value width, G groups.
"""

from __future__ import annotations

import torch

from consortium.merging.bucketing import OverBuckets
from consortium.scenario.methods import GeometricMedianSpec

#: Weiszfeld's steps at most, and the step, relative to the median length of updates, at which it has resolved.
_MOST_STEPS = 200
_RESOLVED = 1e-9
#: Distances count as no less than this, relative to the same.
_SMOOTHING = 1e-6


class GeometricMedian(OverBuckets):
    """Geometric median over groups of parties."""

    spec: GeometricMedianSpec

    def middle(self, deltas_GVK: torch.Tensor) -> torch.Tensor:
        """The geometric median of the groups' updates."""
        return geometric_median(deltas_GVK)


def geometric_median(values_GVK: torch.Tensor) -> torch.Tensor:
    """The point [V, K] with the least sum of Frobenius distances to all values, by Weiszfeld's iteration."""
    flat_GX = values_GVK.flatten(1)
    lengths_G = flat_GX.norm(dim=1)
    scale = float(lengths_G.median()) or float(lengths_G.max())
    point_X = flat_GX.mean(dim=0)
    for _ in range(_MOST_STEPS if scale else 0):
        closeness_G = 1.0 / (flat_GX - point_X).norm(dim=1).clamp(min=_SMOOTHING * scale)
        new_X = (closeness_G / closeness_G.sum()) @ flat_GX
        moved = float((new_X - point_X).norm())
        point_X = new_X
        if moved <= _RESOLVED * scale:
            break
    return point_X.reshape(values_GVK.shape[1:])
