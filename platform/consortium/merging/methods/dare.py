"""DARE: drop entries of each local update at random, rescale the others, and add.

    drop    δ_i[v, k] = m_i[v, k]·Δ_i[v, k] / (1 − p),  m_i[v, k] = 0 with probability p, else 1
    merge   Δ = α·Σ_i δ_i

The expectation of δ_i is Δ_i, so that of Δ is task arithmetic's update; an entry's variance is
α²·p/(1 − p)·Σ_i Δ_i[v, k]². A party draws its own mask, other ones for each arm, round and layer.

Source: Yu et al. 2023, Language models are super Mario (arXiv 2311.03099), section 3, before task
arithmetic (Ilharco et al. 2023, arXiv 2212.04089). p = 0.9 is the rate that the paper reports as harmless for whole
fine-tuned models. What differs: each edited weight matrix is one update; nothing else of the model is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from consortium.common.arrays import array_of, tensor_of
from consortium.merging.deltas import DeltaSum, DenseUpdate, delta_sums_of
from consortium.merging.method import Bounds, Contribution, PartyShare, of_kind, solver_of
from consortium.merging.solver import CovarianceSolver

DROP = Bounds(
    "probability that an entry of a local update is dropped", low_included=True, high=1.0, high_included=False
)


@dataclass(frozen=True)
class Dare:
    """Random drop, rescaling, and the scaled sum.

    Attributes:
        drop: p, the probability that an entry is dropped.
        alpha: α, the coefficient of the sum.
    """

    drop: Annotated[float, DROP] = 0.9
    alpha: Annotated[float, Bounds("coefficient of the sum of thinned local updates")] = 1.0

    name: ClassVar[str] = "dare"
    title: ClassVar[str] = "DARE"
    reference: ClassVar[str] = "Yu et al. 2023, DARE, arXiv 2311.03099, section 3"
    needs_solver: ClassVar[bool] = True
    removable: ClassVar[bool] = False

    def contribute(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None) -> list[DeltaSum]:
        """Each party's local update, thinned out; always dense, since a thinned product has no factors."""
        return thinned_updates_of(shares, solver_of(solver), self.drop)

    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """Δ [V, K] = α·Σ δ_i."""
        deltas = of_kind(total, DeltaSum, self.name)
        deltas.check("the merge")
        return self.alpha * tensor_of(deltas.delta_VK, solver.device)


def thinned_updates_of(shares: Sequence[PartyShare], solver: CovarianceSolver, drop: float) -> list[DeltaSum]:
    """Each party's local update after its own random drop, as a dense sum of one."""
    alone = zip(shares, delta_sums_of(shares, solver), strict=True)
    thinned = ((thin(tensor_of(each.delta_VK), drop, _drops_of(share)), each.gram) for share, each in alone)
    return [DeltaSum(DenseUpdate(array_of(delta_VK)), gram) for delta_VK, gram in thinned]


def thin(delta_VK: torch.Tensor, drop: float, generator: torch.Generator) -> torch.Tensor:
    """δ [V, K]: each entry is 0 with probability ``drop``, and else divided by 1 − ``drop``; drawn on the CPU."""
    drawn_VK = torch.rand(delta_VK.shape, generator=generator, dtype=torch.float64)
    return torch.where(drawn_VK < drop, 0.0, delta_VK / (1.0 - drop))


def _drops_of(share: PartyShare) -> torch.Generator:
    assert share.drops is not None, "a method that drops entries was given a share without a generator for it"
    return share.drops
