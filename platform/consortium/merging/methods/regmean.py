"""RegMean: the weights whose outputs are nearest to every party's own, each on its own inputs.

    G̃_i = α·G_i + (1 − α)·diag(G_i)          G_i = C + H + gram_i
    W    = (Σ_i W_i·G̃_i)·(Σ_i G̃_i)⁻¹         so, with W_i = W + Δ_i,   Δ = (Σ_i Δ_i·G̃_i)·(Σ_i G̃_i)⁻¹

A party's inputs are ordinary text, which the key covariance and the history stand for, and its edits' keys. As
Δ_i·G_i = cross_i for a local update Δ_i, what a party sends and what is solved are sums:

    Σ Δ_i·G̃_i = α·Σ cross_i + (1 − α)·Σ Δ_i·diag(G_i)          V×K, or columns side by side
    Σ G̃_i     = α·(P·(C + H) + Σ gram_i) + (1 − α)·diag of it  from P and the Gram sum

With α = 1 this is collabedit with C + H counted once for every party, also for those without edits: P parties
hold P times as strongly to what the model was. For one party every α gives its own update.

α = 0 is averaging weighted by the diagonal Fisher information, and has the name `fisher`:

    Δ[v, k] = Σ_i F_i[v, k]·Δ_i[v, k] / Σ_i F_i[v, k]          F_i[v, k] = G_i[k, k]

For a linear layer under squared error, ½‖W·x − y‖² with unit noise, the Fisher information of W[v, k] is E[x_k²]: the
diagonal of the inputs' second moment, the same for every output v.

Source: Jin et al. 2023, Dataless knowledge fusion (arXiv 2212.09849), equation 2, with its scaling of non-diagonal
items by α = 0.9. What differs: G_i is what the local update was solved with, not measured on the edited model again.
Fisher: Matena and Raffel 2022, Merging models with Fisher-weighted averaging (arXiv 2111.09832), the diagonal mean with
equal λ_i. What differs: the information is that of the layer's least-squares problem, in closed form, and not that of
the whole model's likelihood, estimated from gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from consortium.common.arrays import Array, array_of, tensor_of
from consortium.merging.deltas import (
    DeltaSum,
    DenseUpdate,
    FactoredUpdate,
    Update,
    delta_sums_of,
    joined_updates,
)
from consortium.merging.method import Contribution, MergeMethod, PartyShare, of_kind, solver_of
from consortium.merging.solver import CovarianceSolver, check_key_width, solved_from_right
from consortium.merging.statistics import FactoredStatistics, Statistics, statistics_of, widths
from consortium.scenario.methods import FisherSpec, RegMeanSpec


class RegMean(MergeMethod):
    """Regression mean of local updates."""

    spec: RegMeanSpec | FisherSpec

    def contribute(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None) -> list[DeltaSum]:
        """Each party's Δ_i·G̃_i, in the place of an update, and its Gram sums."""
        return weighted_updates_of(shares, solver_of(solver), self.spec.alpha)

    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """Δ [V, K] = (Σ Δ_i·G̃_i)·(Σ G̃_i)⁻¹."""
        return weighted_mean(of_kind(total, DeltaSum, self.spec.name), solver, self.spec.alpha)


def weighted_updates_of(shares: Sequence[PartyShare], solver: CovarianceSolver, alpha: float) -> list[DeltaSum]:
    """Each party's α·cross_i + (1 − α)·Δ_i·diag(G_i), in the form that its share asks for, as a sum of one."""
    if alpha == 1.0:
        return [_sent(share, [], _statistics_of(share, solver)) for share in shares]
    diagonal_K = solver.system_KK().diagonal().cpu()
    found = []
    for share, alone in zip(shares, delta_sums_of(shares, solver), strict=True):
        weights_K = (1.0 - alpha) * (diagonal_K + share.keys_KE.double().square().sum(dim=1).cpu())
        weighted = _columns_scaled(alone.update, array_of(weights_K))
        if alpha == 0.0:
            found.append(DeltaSum(weighted, alone.gram))
            continue
        found.append(_sent(share, [weighted], _statistics_of(share, solver), alpha))
    return found


def weighted_mean(total: DeltaSum, solver: CovarianceSolver, alpha: float) -> torch.Tensor:
    """(Σ Δ_i·G̃_i)·(Σ G̃_i)⁻¹ from the sums over all parties."""
    total.check("the merge")
    system_KK = solver.system_KK().mul_(total.num_parties).add_(tensor_of(total.gram.gram_KK, solver.device))
    numerator_VK = tensor_of(total.delta_VK, solver.device)
    if alpha == 0.0:
        return numerator_VK / system_KK.diagonal()
    diagonal_K = system_KK.diagonal().clone()
    system_KK.mul_(alpha).diagonal().copy_(diagonal_K)
    return solved_from_right(numerator_VK, system_KK, f"the sum of C + H + gram over parties of {solver.place}")


def _statistics_of(share: PartyShare, solver: CovarianceSolver) -> Statistics:
    statistics = statistics_of(share.basis, share.keys_KE, share.residuals_VE, share.form, share.generator)
    check_key_width(widths(statistics)[0], solver.key_width, solver.place)
    return statistics


def _sent(share: PartyShare, parts: list[Update], statistics: Statistics, alpha: float = 1.0) -> DeltaSum:
    """A party's message: ``parts`` and α·cross together."""
    if isinstance(statistics, FactoredStatistics):
        cross: Update = FactoredUpdate(_scaled(statistics.image_VN, alpha), statistics.factor_KN)
    else:
        cross = DenseUpdate(_scaled(statistics.cross_VK, alpha))
    update = joined_updates([*parts, cross])
    return DeltaSum(DenseUpdate(update.delta_VK) if share.form == "dense" else update, statistics.gram)


def _columns_scaled(update: Update, weights_K: Array) -> Update:
    """Δ·diag(weights), of the form that Δ has."""
    if isinstance(update, FactoredUpdate):
        return FactoredUpdate(update.weights_VN, array_of(tensor_of(update.solved_KN) * tensor_of(weights_K)[:, None]))
    return DenseUpdate(array_of(tensor_of(update.delta_VK) * tensor_of(weights_K)))


def _scaled(array: Array, factor: float) -> Array:
    return array if factor == 1.0 else array_of(factor * tensor_of(array))
