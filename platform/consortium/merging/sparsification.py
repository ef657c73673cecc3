"""Sparsification: what a party leaves of its own update before it sends it.

    drop    δ[v, k] = m[v, k]·Δ[v, k] / (1 − p),  m[v, k] = 0 with probability p, else 1      DARE, DARE + TIES
    trim    τ = δ where |δ| is among the top `density` of its entries, else 0                  TIES, DARE + TIES

Where both are asked for, the drop goes before the trim. Trimming still counts all V·K entries, so with 1 − p below
density nothing that the drop left is trimmed; libraries that put the drop in the place of the trim (peft's
``dare_ties``) do the same with density 1. A party draws its own mask, other ones for each arm, round and layer.

Source: the drop is DARE's, Yu et al. 2023, Language models are super Mario (arXiv 2311.03099), section 3; p = 0.9 is
the rate that the paper reports as harmless for whole fine-tuned models. The trim is that of Yadav et al. 2023,
TIES-Merging (arXiv 2306.01708), algorithm 1. What differs: each edited weight matrix is one update, and thinned by
itself, not the model as a whole, since layers are merged one after the other. How methods are put together from
sparsification and consensus is mergekit's generalised task arithmetic (arXiv 2403.13257).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from consortium.common.arrays import array_of, tensor_of
from consortium.merging.deltas import DeltaSum, DenseUpdate, delta_sums_of
from consortium.merging.method import PartyShare, solver_of
from consortium.merging.solver import CovarianceSolver
from consortium.scenario.methods import DropsSpec, LocalUpdatesSpec, TrimsSpec


def sparse_updates_of(
    shares: Sequence[PartyShare], solver: CovarianceSolver | None, spec: LocalUpdatesSpec
) -> list[DeltaSum]:
    """Each party's local update as a sum of one, with what the method leaves of it; dense where it leaves out any."""
    alone = delta_sums_of(shares, solver_of(solver))
    return [_sparse(share, update, spec) for share, update in zip(shares, alone, strict=True)]


def _sparse(share: PartyShare, alone: DeltaSum, spec: LocalUpdatesSpec) -> DeltaSum:
    if not isinstance(spec, DropsSpec | TrimsSpec):
        return alone
    delta_VK = tensor_of(alone.delta_VK)
    if isinstance(spec, DropsSpec):
        assert share.drops is not None, "a method that drops entries was given a share without a generator for it"
        delta_VK = drop_at_random(delta_VK, spec.drop, share.drops)
    if isinstance(spec, TrimsSpec):
        delta_VK = trim(delta_VK, spec.density)
    return DeltaSum(DenseUpdate(array_of(delta_VK)), alone.gram)


def drop_at_random(delta_VK: torch.Tensor, probability: float, generator: torch.Generator) -> torch.Tensor:
    """δ [V, K]: each entry is 0 with a probability p, and else divided by 1 − p; drawn on the CPU."""
    drawn_VK = torch.rand(delta_VK.shape, generator=generator, dtype=torch.float64)
    return torch.where(drawn_VK < probability, 0.0, delta_VK / (1.0 - probability))


def trim(delta_VK: torch.Tensor, density: float) -> torch.Tensor:
    """The update with all but its largest entries, by magnitude, set to zero; ⌊density·V·K⌋ are kept."""
    num_kept = int(density * delta_VK.numel())
    kept = delta_VK.abs().flatten().topk(num_kept, sorted=False).indices
    trimmed = torch.zeros_like(delta_VK).flatten()
    trimmed[kept] = delta_VK.flatten()[kept]
    return trimmed.reshape(delta_VK.shape)
