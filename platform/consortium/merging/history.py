"""History: H, the Gram sums of all earlier rounds of one arm and layer, kept as small as they come.

Shapes: K key width, N columns of a round, M columns of several rounds.

    H = base + Σ_r columns_r·columns_rᵀ

Rounds of few edits are columns: K·N numbers rather than K·K, and what was solved against earlier rounds is
extended rather than made anew (:mod:`consortium.merging.solver`). Once the columns of all rounds would be more
than a quarter of K, they are multiplied out and added to a dense base, since a new Cholesky factor then costs
less than carrying them along. The rule looks at counts alone, so a history is the same numbers whoever makes it,
and a checkpoint holds it as it is.

Why a quarter: columns cost about 4·K·M·N operations in a round's merge and 2·K²·N to multiply out in the end, a
new factor K³/3 once every K/(4·N) rounds. Their sum is least at 0.4·K and within an eighth of it from K/4 to
K/2; a quarter asks for the least memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from consortium.common.arrays import Array, array_of, tensor_of
from consortium.merging.statistics import FactoredStatistics, Statistics
from consortium.scenario.methods import MethodSpec
from consortium.scenario.schema import Scenario

#: Columns are kept while there are at most K / 4 of them.
_COLUMNS_SHARE = 4


@dataclass(frozen=True, eq=False)
class GramHistory:
    """H of one arm and layer.

    Attributes:
        arm: name of the arm.
        base_round: last round in the base; 0 where there is none.
        base_KK: Gram sums up to that round; None for zero.
        columns: later round → columns [K, N], in ascending order of rounds.
    """

    arm: str
    base_round: int = 0
    base_KK: Array | None = None
    columns: Mapping[int, Array] = field(default_factory=dict)

    @property
    def num_columns(self) -> int:
        """M, the columns of all rounds after the base."""
        return sum(columns_KN.shape[1] for columns_KN in self.columns.values())

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        base = 0 if self.base_KK is None else self.base_KK.nbytes
        return base + sum(columns_KN.nbytes for columns_KN in self.columns.values())

    @property
    def base_version(self) -> str | None:
        """A name that no other base of this layer has in a run; None for no base, which arms share."""
        return None if self.base_KK is None else self._version(self.base_round)

    def versions(self) -> list[str]:
        """Names of this history as it was after each round of ``columns``; no other contents ever have them."""
        return [self._version(round_number) for round_number in self.columns]

    @property
    def version(self) -> str | None:
        """Name of this history; None for zero."""
        return self.versions()[-1] if self.columns else self.base_version

    def _version(self, round_number: int) -> str:
        return f"{self.arm}@{round_number}"

    def multiplied_out(self) -> torch.Tensor:
        """H [K, K]; there must be a base or columns."""
        total_KK = None if self.base_KK is None else tensor_of(self.base_KK).clone()
        for columns_KN in map(tensor_of, self.columns.values()):
            total_KK = columns_KN @ columns_KN.T if total_KK is None else total_KK.addmm_(columns_KN, columns_KN.T)
        assert total_KK is not None, "a history without numbers"
        return total_KK


def grown(history: GramHistory | None, gram: Statistics, weight: float) -> GramHistory | None:
    """H + weight·gram after a round, as a history of the arm and round that the Gram sums are of.

    A round without edits leaves the history as it is. ``weight`` is positive.
    """
    arm, round_number = gram.basis.arm, gram.basis.round
    history = history or GramHistory(arm)
    if isinstance(gram, FactoredStatistics):
        if not gram.num_columns:
            return history if history.version else None
        if _COLUMNS_SHARE * (history.num_columns + gram.num_columns) <= gram.factor_KN.shape[0]:
            added = {round_number: _mixed(gram.factor_KN, weight)}
            return GramHistory(arm, history.base_round, history.base_KK, {**history.columns, **added})
    gram_KK = tensor_of(gram.gram_KK)
    if history.version is None:
        return GramHistory(arm, round_number, array_of(weight * gram_KK))
    return GramHistory(arm, round_number, array_of(history.multiplied_out().add_(gram_KK, alpha=weight)))


def _mixed(factor_KN: Array, weight: float) -> Array:
    """Columns with the same Gram sums times ``weight``, but of the sums alone: parties' own columns are not kept.

    With factorᵀ = Q·R, gram = Rᵀ·R, whatever parties and rotations the columns came from.
    """
    triangle_NK = torch.linalg.qr(tensor_of(factor_KN).T, mode="r").R
    return array_of(math.sqrt(weight) * triangle_NK.T)


def history_weight_of(scenario: Scenario, spec: MethodSpec) -> float:
    """h of an arm: its own, or else that of all; ``covariance`` weighs earlier keys as heavily as ordinary text, by
    λ."""
    weight = scenario.merge.history_weight if spec.history_weight is None else spec.history_weight
    return scenario.editor.covariance_weight if weight == "covariance" else float(weight)
