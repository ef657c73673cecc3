"""DARE before TIES: drop entries of each local update at random, rescale the others, then trim, elect and average.

    drop    δ_i as in DARE (:mod:`consortium.merging.methods.dare`)
    trim, elect, merge    TIES on the δ_i (:mod:`consortium.merging.methods.ties`)

Source: Yu et al. 2023 (arXiv 2311.03099), where the drop goes before TIES-Merging (Yadav et al. 2023,
arXiv 2306.01708). Trimming still counts all V·K entries, so with 1 − drop below density nothing that the drop left is
trimmed; libraries that put the drop in the place of the trim (peft's ``dare_ties``) do the same with density 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from consortium.common.arrays import tensor_of
from consortium.merging.method import Bounds, Contribution, PartyShare, of_kind, solver_of
from consortium.merging.methods.dare import DROP, thinned_updates_of
from consortium.merging.methods.ties import SignedSums, elected_mean, signed_sums_of, trim
from consortium.merging.solver import CovarianceSolver


@dataclass(frozen=True)
class DareTies:
    """Random drop and rescaling, then trim, elect sign, disjoint mean.

    Attributes:
        drop: p, the probability that an entry is dropped.
        density: share of each local update's entries that is kept after that.
        lambda_: λ, the coefficient of the mean; ``lambda`` in a scenario.
    """

    drop: Annotated[float, DROP] = 0.9
    density: Annotated[float, Bounds("share of each thinned update's entries that is kept", high=1.0)] = 0.2
    lambda_: Annotated[float, Bounds("coefficient of the merged update")] = 1.0

    name: ClassVar[str] = "dare_ties"
    title: ClassVar[str] = "DARE + TIES"
    reference: ClassVar[str] = "Yu et al. 2023, DARE, arXiv 2311.03099, before TIES, arXiv 2306.01708"
    needs_solver: ClassVar[bool] = True
    removable: ClassVar[bool] = False

    def contribute(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None) -> list[SignedSums]:
        """Each party's local update, thinned, trimmed and split by sign."""
        thinned = thinned_updates_of(shares, solver_of(solver), self.drop)
        return [signed_sums_of(trim(tensor_of(each.delta_VK), self.density), each.gram) for each in thinned]

    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """Δ [V, K] = λ · mean of the entries that have the elected sign."""
        sums = of_kind(total, SignedSums, self.name)
        sums.check("the merge")
        return self.lambda_ * elected_mean(sums).to(solver.device)
