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

from dataclasses import replace

from consortium.merging.method import Contribution, of_kind
from consortium.merging.methods.collabedit import CollabEdit
from consortium.merging.norms import relative_norms_of
from consortium.merging.reference_norms import ReferenceNorms
from consortium.merging.statistics import DenseStatistics, FactoredStatistics, Statistics
from consortium.scenario.methods import NormBoundSpec


class NormBound(CollabEdit):
    """Collaborative editing with bounded keys and residuals; parties send their statistics as large as they are."""

    spec: NormBoundSpec

    def clipped(self, message: Contribution, reference_norms: ReferenceNorms) -> Statistics:
        """A party's admitted message within the bounds."""
        sizes = relative_norms_of(message, reference_norms)
        key_scale = min(1.0, self.spec.keys / max(sizes.get("keys", 0.0), self.spec.keys))
        residual_scale = min(1.0, self.spec.residuals / max(sizes.get("residuals", 0.0), self.spec.residuals))
        if isinstance(message, FactoredStatistics):
            if key_scale == residual_scale == 1.0:
                return message
            factor_KN, image_VN = key_scale * message.factor_KN, residual_scale * message.image_VN
            return replace(message, factor_KN=factor_KN, image_VN=image_VN)
        dense = of_kind(message, DenseStatistics, self.spec.name)
        if key_scale == residual_scale == 1.0:
            return dense
        gram_KK, cross_VK = key_scale**2 * dense.gram_KK, key_scale * residual_scale * dense.cross_VK
        return replace(dense, gram_KK=gram_KK, cross_VK=cross_VK)
