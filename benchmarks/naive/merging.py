"""Merging as the paper's code does it: dense matrices in float64, an inverse for each system. The oracle.

Shapes: K key width, V value width.

    Δ_i = cross_i·inv(C + H + gram_i)                                     every party, then
    Δ   = Σ_i Δ_i·(C + H + gram_i)·inv(C + H + Σ_i gram_i)                collabedit
    Δ   = Σ_i Δ_i / P                                                     simple average
    W   = Σ_i (W + Δ_i)·G̃_i·inv(Σ_i G̃_i)                                  RegMean, from whole weights

Nothing is reused from one party, layer or round to the next, and nothing is checked. For tests and benchmarks.

Source: Zheng et al. 2025, CollabEdit (arXiv 2410.09508), equation 7 and its code. What differs: a round's Gram
sums are not added to H inside the loop over parties. RegMean: Jin et al. 2023 (arXiv 2212.09849), equation 2.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch


def local_delta_naively(system_KK: torch.Tensor, cross_VK: torch.Tensor) -> torch.Tensor:
    """Δ_i [V, K] from C + H + gram_i and cross_i."""
    delta_VK: torch.Tensor = cross_VK @ torch.linalg.inv(system_KK)
    return delta_VK


def merge_naively(
    covariance_KK: torch.Tensor,
    history_KK: torch.Tensor | None,
    crosses: Iterable[torch.Tensor],
    grams: Iterable[torch.Tensor],
) -> torch.Tensor:
    """Δ [V, K] of collabedit, float64.

    Args:
        covariance_KK: C.
        history_KK: H; None for zero.
        crosses: each party's cross [V, K], one or more; may be made one by one.
        grams: each party's gram [K, K], in the same order.
    """
    base_KK = _base(covariance_KK, history_KK)
    gram_sum_KK = torch.zeros_like(base_KK)
    back_VK: torch.Tensor | None = None
    for cross_VK, gram_KK in zip(crosses, grams, strict=True):
        system_KK = base_KK + gram_KK.double()
        own_VK = local_delta_naively(system_KK, cross_VK.double()) @ system_KK
        back_VK = own_VK if back_VK is None else back_VK + own_VK
        gram_sum_KK = gram_sum_KK + gram_KK.double()
    assert back_VK is not None, "at least one party"
    delta_VK: torch.Tensor = back_VK @ torch.linalg.inv(base_KK + gram_sum_KK)
    return delta_VK


def average_naively(
    covariance_KK: torch.Tensor,
    history_KK: torch.Tensor | None,
    crosses: Iterable[torch.Tensor],
    grams: Iterable[torch.Tensor],
) -> torch.Tensor:
    """Δ [V, K] of the simple average, float64; arguments as for :func:`merge_naively`."""
    base_KK = _base(covariance_KK, history_KK)
    pairs = zip(crosses, grams, strict=True)
    deltas = [local_delta_naively(base_KK + gram_KK.double(), cross_VK.double()) for cross_VK, gram_KK in pairs]
    return torch.stack(deltas).mean(dim=0)


def regmean_naively(
    covariance_KK: torch.Tensor,
    history_KK: torch.Tensor | None,
    crosses: Iterable[torch.Tensor],
    grams: Iterable[torch.Tensor],
    alpha: float,
) -> torch.Tensor:
    """Δ [V, K] of RegMean, float64: whole weights of all parties are averaged, and what they started from taken off.

    Arguments as for :func:`merge_naively`; ``alpha`` scales the entries of each G off its diagonal.
    """
    base_KK = _base(covariance_KK, history_KK)
    above_VK, below_KK = torch.zeros(1, dtype=torch.float64), torch.zeros_like(base_KK)
    for cross_VK, gram_KK in zip(crosses, grams, strict=True):
        system_KK = base_KK + gram_KK.double()
        scaled_KK = alpha * system_KK + (1 - alpha) * torch.diag(system_KK.diagonal())
        edited_VK = torch.ones_like(cross_VK).double() + local_delta_naively(system_KK, cross_VK.double())
        above_VK, below_KK = above_VK + edited_VK @ scaled_KK, below_KK + scaled_KK
    merged_VK: torch.Tensor = above_VK @ torch.linalg.inv(below_KK)
    return merged_VK - 1.0


def _base(covariance_KK: torch.Tensor, history_KK: torch.Tensor | None) -> torch.Tensor:
    return covariance_KK.double() if history_KK is None else covariance_KK.double() + history_KK.double()
