"""Collaborative editing: sum the statistics, solve once.

    Δ = (Σ_i cross_i)·(C + H + Σ_i gram_i)⁻¹

Every party sends its statistics; their sum holds all that the solution for everybody's edits depends
on, so the merge equals editing by one owner of all edits (:mod:`consortium.merging.methods.global_edit`).

Source: Zheng et al. 2025, CollabEdit (arXiv 2410.09508), equation 7. What differs: parties send cross_i
in place of Δ_i·(C + gram_i), which is the same matrix without the detour over an inverse; the factored
form; the history counts a round once, after its merge.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from consortium.merging.method import Contribution, MergeMethod, PartyShare, of_kind
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import DenseStatistics, FactoredStatistics, Statistics, statistics_of


class CollabEdit(MergeMethod):
    """Exact merge by statistics; it has no parameters."""

    def contribute(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None = None) -> list[Statistics]:
        """Each party's statistics in the form that its share asks for."""
        return [
            statistics_of(share.basis, share.keys_KE, share.residuals_VE, share.form, share.generator)
            for share in shares
        ]

    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """Δ [V, K] = cross·(C + H + gram)⁻¹."""
        if isinstance(total, FactoredStatistics):
            return solver.merge(total)
        return solver.merge(of_kind(total, DenseStatistics, self.spec.name))
