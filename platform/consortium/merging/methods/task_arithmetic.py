"""Task arithmetic: the parties' local updates added, times a coefficient; DARE and the simple average are of its kind.

    task arithmetic   Δ = α·Σ_i Δ_i
    simple average    Δ = Σ_i Δ_i / P
    DARE              Δ = α·Σ_i δ_i,   δ_i: Δ_i with entries dropped (:mod:`consortium.merging.sparsification`)

With P parties whose edits differ, each edit of the average is done to about one P-th; a party without edits in a round
contributes Δ_i = 0 and still counts in P. The expectation of DARE's δ_i is Δ_i, so that of its Δ is task arithmetic's
update; an entry's variance is α²·p/(1 − p)·Σ_i Δ_i[v, k]².

Source: Ilharco et al. 2023, Editing models with task arithmetic (arXiv 2212.04089), section 2. What differs: α = 1 by
default, which is the baseline Task-Arithmetic of Zheng et al. 2025 (arXiv 2410.09508) and, for a single party, exact;
for whole fine-tuned models Ilharco et al. choose α on held-out data.

The average is the baseline Simple-Average of Zheng et al. 2025, after federated averaging, McMahan et al. 2017 (arXiv
1602.05629), algorithm 1, with equal weights. What differs: the paper's code divides by ten whatever the number of
parties. DARE: Yu et al. 2023, Language models are super Mario (arXiv 2311.03099), section 3, before task arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from consortium.common.arrays import tensor_of
from consortium.merging.deltas import DeltaSum
from consortium.merging.method import Contribution, MergeMethod, PartyShare, of_kind
from consortium.merging.solver import CovarianceSolver
from consortium.merging.sparsification import sparse_updates_of
from consortium.scenario.methods import DareSpec, SimpleAverageSpec, TaskArithmeticSpec


class TaskArithmetic(MergeMethod):
    """Scaled sum of local updates."""

    spec: TaskArithmeticSpec | DareSpec

    def contribute(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None) -> list[DeltaSum]:
        """Each party's local update."""
        return sparse_updates_of(shares, solver, self.spec)

    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """Δ [V, K] = α·Σ Δ_i."""
        return self.spec.alpha * summed_delta(total, solver, self.spec.name)


class SimpleAverage(MergeMethod):
    """Mean of local updates."""

    spec: SimpleAverageSpec

    def contribute(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None) -> list[DeltaSum]:
        """Each party's local update."""
        return sparse_updates_of(shares, solver, self.spec)

    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """Δ [V, K] = Σ Δ_i / P."""
        return summed_delta(total, solver, self.spec.name) / total.num_parties


def summed_delta(total: Contribution, solver: CovarianceSolver, method: str) -> torch.Tensor:
    """Σ Δ_i [V, K] on the solver's device, checked."""
    deltas = of_kind(total, DeltaSum, method)
    deltas.check("the merge")
    return tensor_of(deltas.delta_VK, solver.device)
