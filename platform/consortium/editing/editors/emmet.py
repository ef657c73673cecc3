"""EMMET: the smallest change of what ordinary text gets under which edits hold exactly, with a regulariser.

    Δ = R·(Kᵀ·C⁻¹·K + α·I)⁻¹·Kᵀ·C⁻¹ = R·Kᵀ·(α·C + K·Kᵀ)⁻¹

The first form is the paper's; the second, by the push-through identity, is MEMIT's formula with the key covariance α·C,
and α·H with a history. So the same sums are sent, and every merge method works as it is. As α → 0, edits become
equality constraints. That limit asks for linearly independent keys: two equal keys with different residuals have no
solution, and nearly equal ones a huge update. In float64, C + H + gram then loses as many digits as α makes it
lopsided, which is why α has a least value; the paper's code uses 0.1, with λ = 1000 in C.

Source: Gupta et al. 2024, EMMET (arXiv 2403.14236), equation 10, and the regulariser of its code. What differs: the
history; a single edit is regularised like several.
"""

from __future__ import annotations

from collections.abc import Mapping

from consortium.common.arrays import Array
from consortium.editing.editors.editor import Editor
from consortium.merging.solvers import Solvers
from consortium.scenario.editor import EmmetSpec


class Emmet(Editor):
    """Equality-constrained editing of many facts."""

    spec: EmmetSpec

    @property
    def history_scale(self) -> float:
        """α: the history stands beside C."""
        return self.spec.alpha

    def solvers(self, sums: Mapping[int, Array], num_tokens: int) -> Solvers:
        """What is solved against: α·C."""
        return Solvers(sums, num_tokens, self.spec.alpha * self.spec.covariance_weight)
