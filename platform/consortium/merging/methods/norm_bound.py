"""Norm bound: every party's statistics scaled down to a bound, then collaborative editing.

    cross_i ← cross_i·f_k·f_r,   gram_i ← gram_i·f_k²,   f = min(1, bound / size)      sizes as by screening
    Δ = (Σ_i cross_i)·(C + H + Σ_i gram_i)⁻¹

Key and residual of an edit are scaled down each, as if the party had asked for shorter ones; so Gram sums stay positive
semidefinite, and a message within the bounds passes as it is, bit for bit. Who adds the message up does this, since a
bad party would not. Sizes are in multiples of what is usual in the unedited model
(:mod:`consortium.merging.norms`); the table of rounds says how large the messages of a run were (``max_norm_ratio``).

A bound keeps one party from outweighing the others. It does not know right from wrong: a sign-flipped message has the
same size, and within the bound so many bad parties do as much as so many honest ones.

Source: Sun et al. 2019, Can you really backdoor federated learning? (arXiv 1911.07963), section 5, norm clipping.
What differs: keys and residuals are bounded in place of the update, which is solved for all parties together; the bound
is relative to the model; no noise is added. Not exact against `global` where anything is clipped.

Shapes: K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch

from consortium.merging.method import Bounds, Contribution, PartyShare, of_kind
from consortium.merging.methods.collabedit import CollabEdit
from consortium.merging.norms import relative_norms_of
from consortium.merging.reference_norms import ReferenceNorms
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import DenseStatistics, FactoredStatistics, Statistics


@dataclass(frozen=True)
class NormBound:
    """Collaborative editing with bounded keys and residuals.

    Attributes:
        keys: bound on the length of a party's keys, root mean square, in lengths of keys in ordinary text.
        residuals: the same of residuals, in lengths of what the unedited layer puts out for such keys.
    """

    keys: Annotated[float, Bounds("bound on the length of keys, in lengths of keys in ordinary text")] = 4.0
    residuals: Annotated[float, Bounds("bound on that of residuals, in lengths of what the layer puts out")] = 4.0

    name: ClassVar[str] = "norm_bound"
    title: ClassVar[str] = "Norm bound"
    reference: ClassVar[str] = "Sun et al. 2019, arXiv 1911.07963, norm clipping, over CollabEdit's sums"
    needs_solver: ClassVar[bool] = False
    removable: ClassVar[bool] = False

    def contribute(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None = None) -> list[Statistics]:
        """Each party's statistics, as large as they are."""
        return CollabEdit().contribute(shares, solver)

    def clipped(self, message: Contribution, reference_norms: ReferenceNorms) -> Statistics:
        """A party's admitted message within the bounds."""
        statistics = _statistics(message, self.name)
        sizes = relative_norms_of(statistics, reference_norms)
        key_scale = min(1.0, self.keys / max(sizes.get("keys", 0.0), self.keys))
        residual_scale = min(1.0, self.residuals / max(sizes.get("residuals", 0.0), self.residuals))
        if key_scale == residual_scale == 1.0:
            return statistics
        if isinstance(statistics, FactoredStatistics):
            factor_KN, image_VN = key_scale * statistics.factor_KN, residual_scale * statistics.image_VN
            return replace(statistics, factor_KN=factor_KN, image_VN=image_VN)
        gram_KK, cross_VK = key_scale**2 * statistics.gram_KK, key_scale * residual_scale * statistics.cross_VK
        return replace(statistics, gram_KK=gram_KK, cross_VK=cross_VK)

    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """Δ [V, K] = cross·(C + H + gram)⁻¹."""
        return solver.merge(_statistics(total, self.name))


def _statistics(contribution: Contribution, method: str) -> Statistics:
    if isinstance(contribution, FactoredStatistics):
        return contribution
    return of_kind(contribution, DenseStatistics, method)
