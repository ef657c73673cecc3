"""Local updates: what a party would do to the weights alone, and their sum.

Shapes: E edits, K key width, V value width.

    Δ_i = cross_i·(C + H + gram_i)⁻¹

The merge methods that average updates, rather than solving for all edits together, start here. A party
without edits has Δ_i = 0 and counts as a party.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from consortium.arrays import Array, added, array_of, require_finite
from consortium.errors import StatisticsError
from consortium.merging.method import PartyShare
from consortium.merging.solver import PriorSolver
from consortium.statistics import Basis, Statistics, check_same_basis, statistics_of


def local_delta(share: PartyShare, solver: PriorSolver) -> torch.Tensor:
    """The party's own update [V, K], float64, as if it were the only party."""
    statistics = statistics_of(share.basis, share.keys_KE, share.residuals_VE, "auto", share.generator)
    return solver.merge(statistics)


def gram_of(share: PartyShare) -> Statistics:
    """The party's Gram sums for the history, as statistics without values."""
    return statistics_of(share.basis, share.keys_KE, share.residuals_VE[:0], share.form, share.generator)


class CarriesGram:
    """What contributions share that hold Gram sums for the history beside their updates."""

    gram: Statistics

    @property
    def basis(self) -> Basis:
        """What the updates are taken against."""
        return self.gram.basis

    @property
    def num_edits(self) -> int:
        """Edits of all parties."""
        return self.gram.num_edits

    @property
    def num_parties(self) -> int:
        """Parties summed, those without edits included."""
        return self.gram.num_parties

    @property
    def gram_KK(self) -> Array:
        """Σ key·keyᵀ for the history."""
        return self.gram.gram_KK


@dataclass(frozen=True, eq=False)
class DeltaSum(CarriesGram):
    """Sum of parties' local updates; its size does not depend on their number.

    Attributes:
        delta_VK: Σ Δ_i.
        gram: Gram sums for the history: statistics with V = 0.
    """

    delta_VK: Array
    gram: Statistics

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return self.delta_VK.nbytes + self.gram.nbytes

    def check(self, origin: str = "a party") -> None:
        """Raise StatisticsError, naming ``origin``, unless all numbers are finite and shapes fit."""
        self.gram.check(origin)
        require_finite(self.delta_VK, f"delta_VK of {origin} for {self.basis}")

    def __add__(self, other: DeltaSum) -> DeltaSum:
        check_addable(self.basis, self.delta_VK, other.basis, other.delta_VK)
        return DeltaSum(added(self.delta_VK, other.delta_VK), self.gram + other.gram)


def delta_sum_of(share: PartyShare, solver: PriorSolver) -> DeltaSum:
    """One party's local update as a sum of one."""
    return DeltaSum(array_of(local_delta(share, solver)), gram_of(share))


def check_addable(left_basis: Basis, left_VK: Array, right_basis: Basis, right_VK: Array) -> None:
    """Raise StatisticsError unless two updates are of one basis and one shape."""
    check_same_basis(left_basis, right_basis)
    if left_VK.shape != right_VK.shape:
        raise StatisticsError(
            f"updates for {left_basis} of shapes {list(left_VK.shape)} and {list(right_VK.shape)}",
            "one shape [V, K] from every party",
            "let every party open the same model",
        )
