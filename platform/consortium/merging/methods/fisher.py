"""Fisher averaging: the mean of local updates, each entry weighted by its diagonal Fisher information.

    Δ[v, k] = Σ_i F_i[v, k]·Δ_i[v, k] / Σ_i F_i[v, k]          F_i[v, k] = (C + H + gram_i)[k, k]

For a linear layer under squared error, ½‖W·x − y‖² with unit noise, the Fisher information of W[v, k] is E[x_k²]:
the diagonal of the inputs' second moment, the same for every output v. Over the inputs that the local updates were
solved with, ordinary text and a party's keys, that is the diagonal of G_i = C + H + gram_i; so this is RegMean with
α = 0 (:mod:`consortium.merging.methods.regmean`), under its own name.

Source: Matena and Raffel 2022, Merging models with Fisher-weighted averaging (arXiv 2111.09832), the diagonal mean with
equal λ_i. What differs: the Fisher information is that of the layer's least-squares problem, in closed form, and not
that of the whole model's likelihood, estimated from gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from consortium.merging.deltas import DeltaSum
from consortium.merging.method import Contribution, PartyShare, of_kind, solver_of
from consortium.merging.methods.regmean import weighted_mean, weighted_updates_of
from consortium.merging.solver import CovarianceSolver

_ALPHA = 0.0


@dataclass(frozen=True)
class Fisher:
    """Mean of local updates weighted by the diagonal Fisher information; it has no parameters."""

    name: ClassVar[str] = "fisher"
    title: ClassVar[str] = "Fisher average"
    reference: ClassVar[str] = "Matena and Raffel 2022, Fisher merging, arXiv 2111.09832"
    needs_solver: ClassVar[bool] = True
    removable: ClassVar[bool] = False

    def contribute(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None) -> list[DeltaSum]:
        """Each party's Δ_i·diag(G_i), in the place of an update, and its Gram sums."""
        return weighted_updates_of(shares, solver_of(solver), _ALPHA)

    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """Δ [V, K] = Σ Δ_i·diag(G_i) / Σ diag(G_i)."""
        return weighted_mean(of_kind(total, DeltaSum, self.name), solver, _ALPHA)
