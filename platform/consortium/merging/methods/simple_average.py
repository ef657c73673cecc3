"""Simple average: the mean of the parties' local updates.

    Δ = Σ_i Δ_i / P

With P parties whose edits differ, each edit is done to about one P-th; a party without edits in a round
contributes Δ_i = 0 and still counts in P.

Source: the baseline Simple-Average of Zheng et al. 2025 (arXiv 2410.09508), after federated averaging,
McMahan et al. 2017 (arXiv 1602.05629), algorithm 1, with equal weights. What differs: the paper's code
divides by ten whatever the number of parties; here P is the number of parties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from consortium.common.arrays import tensor_of
from consortium.merging.deltas import DeltaSum, delta_sums_of
from consortium.merging.method import Contribution, PartyShare, of_kind, solver_of
from consortium.merging.solver import CovarianceSolver


@dataclass(frozen=True)
class SimpleAverage:
    """Mean of local updates; it has no parameters."""

    name: ClassVar[str] = "simple_average"
    title: ClassVar[str] = "Simple average"
    reference: ClassVar[str] = "McMahan et al. 2017, FedAvg, arXiv 1602.05629, algorithm 1, equal weights"
    needs_solver: ClassVar[bool] = True
    removable: ClassVar[bool] = False

    def contribute(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None) -> list[DeltaSum]:
        """Each party's local update."""
        return delta_sums_of(shares, solver_of(solver))

    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """Δ [V, K] = Σ Δ_i / P."""
        deltas = of_kind(total, DeltaSum, self.name)
        deltas.check("the merge")
        return tensor_of(deltas.delta_VK, solver.device) / deltas.num_parties
