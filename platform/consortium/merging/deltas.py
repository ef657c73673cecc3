"""Local updates: what a party would do to the weights alone, and their sum.

Shapes: E edits, K key width, V value width, N columns of a factored update.

    Δ_i = cross_i·(C + H + gram_i)⁻¹ = weights_VN·solved_KNᵀ

The merge methods that average updates, rather than solving for all edits together, start here. Updates of few
edits stay factors, N·(K+V) numbers in place of V·K, until a sum has so many columns that the dense form is the
smaller one. A party without edits has Δ_i = 0 and counts as a party.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from consortium.common.arrays import Array, array_of, require_finite, side_by_side
from consortium.common.errors import StatisticsError
from consortium.merging.method import PartyShare
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis, FactoredStatistics, Statistics, check_same_basis, statistics_of, summed


@dataclass(frozen=True, eq=False)
class DenseUpdate:
    """An update itself."""

    delta_VK: Array

    @property
    def widths(self) -> tuple[int, int]:
        """Value width V and key width K."""
        return self.delta_VK.shape[0], self.delta_VK.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return self.delta_VK.nbytes

    def check(self, origin: str) -> None:
        """Raise StatisticsError, naming ``origin``, unless all numbers are finite."""
        require_finite(self.delta_VK, f"delta_VK of {origin}")


@dataclass(frozen=True, eq=False)
class FactoredUpdate:
    """Factors of an update: Δ = weights·solvedᵀ. The columns of ``solved_KN`` are A⁻¹ times mixed keys."""

    weights_VN: Array
    solved_KN: Array

    @property
    def delta_VK(self) -> Array:
        """Δ, multiplied out."""
        return summed([], (self.weights_VN, self.solved_KN))

    @property
    def widths(self) -> tuple[int, int]:
        """Value width V and key width K."""
        return self.weights_VN.shape[0], self.solved_KN.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return self.weights_VN.nbytes + self.solved_KN.nbytes

    def check(self, origin: str) -> None:
        """Raise StatisticsError, naming ``origin``, unless all numbers are finite and shapes fit."""
        if self.weights_VN.shape[1] != self.solved_KN.shape[1]:
            raise StatisticsError(
                f"factors {list(self.weights_VN.shape)} and {list(self.solved_KN.shape)} of {origin}",
                "weights_VN [V, N] and solved_KN [K, N]",
                "make updates with delta_sums_of",
            )
        require_finite(self.weights_VN, f"weights_VN of {origin}")
        require_finite(self.solved_KN, f"solved_KN of {origin}")


Update = DenseUpdate | FactoredUpdate


def joined_updates(parts: Sequence[Update]) -> Update:
    """The sum of updates of one shape, in their order; factored while all are and that is not the larger form."""
    value_width, key_width = parts[0].widths
    factored = [part for part in parts if isinstance(part, FactoredUpdate)]
    dense = [part.delta_VK for part in parts if isinstance(part, DenseUpdate)]
    if not factored:
        return DenseUpdate(summed(dense))
    weights_VN = side_by_side([part.weights_VN for part in factored])
    solved_KN = side_by_side([part.solved_KN for part in factored])
    if not dense and weights_VN.shape[1] * (value_width + key_width) <= value_width * key_width:
        return FactoredUpdate(weights_VN, solved_KN)
    return DenseUpdate(summed(dense, (weights_VN, solved_KN)))


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


@dataclass(frozen=True, eq=False)
class DeltaSum(CarriesGram):
    """Sum of parties' local updates; its size does not depend on their number.

    Attributes:
        update: Σ Δ_i.
        gram: Gram sums for the history: statistics with V = 0.
    """

    update: Update
    gram: Statistics

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return self.update.nbytes + self.gram.nbytes

    @property
    def delta_VK(self) -> Array:
        """Σ Δ_i, multiplied out if it is factored."""
        return self.update.delta_VK

    def check(self, origin: str = "a party") -> None:
        """Raise StatisticsError, naming ``origin``, unless all numbers are finite and shapes fit."""
        self.gram.check(origin)
        self.update.check(f"{origin} for {self.basis}")

    def __add__(self, other: DeltaSum) -> DeltaSum:
        return self.joined([other])

    def joined(self, others: Sequence[DeltaSum]) -> DeltaSum:
        """The sum of this and all others, in their order."""
        for other in others:
            check_addable(self.basis, self.update.widths, other.basis, other.update.widths)
        parts = [self, *others]
        return DeltaSum(joined_updates([part.update for part in parts]), self.gram.joined([o.gram for o in others]))


def delta_sums_of(shares: Sequence[PartyShare], solver: CovarianceSolver) -> list[DeltaSum]:
    """Each party's local update as a sum of one: what it would do as the only party, or what its editor made.

    Parties with few edits are solved together, by two passes over the key covariance's factor for up to K columns.
    """
    found: list[DeltaSum] = []
    waiting: list[tuple[PartyShare, FactoredStatistics]] = []
    for share in shares:
        form = "auto" if share.form == "dense" else share.form
        statistics = statistics_of(share.basis, share.keys_KE, share.residuals_VE, form, share.generator)
        if share.update is not None:  # then no share waits: an editor makes all of its parties' updates or none
            found.append(_sent(share, statistics, *share.update))
            continue
        if isinstance(statistics, FactoredStatistics) and solver.prefers_factors(statistics.num_columns):
            waiting.append((share, statistics))
            if sum(each.num_columns for _, each in waiting) >= solver.key_width:
                found += _solved_together(waiting, solver)
                waiting = []
            continue
        found += [*_solved_together(waiting, solver), _sent(share, statistics, solver.merge(statistics))]
        waiting = []
    return found + _solved_together(waiting, solver)


def _solved_together(
    parts: Sequence[tuple[PartyShare, FactoredStatistics]], solver: CovarianceSolver
) -> list[DeltaSum]:
    if not parts:
        return []
    factors = solver.merge_factored([statistics for _, statistics in parts])
    return [_sent(share, statistics, *pair) for (share, statistics), pair in zip(parts, factors, strict=True)]


def _sent(
    share: PartyShare, statistics: Statistics, left: torch.Tensor, right_KN: torch.Tensor | None = None
) -> DeltaSum:
    """A party's message in the form it asks for: Δ is ``left``, or left [V, N]·rightᵀ where there are factors."""
    if right_KN is None:
        update: Update = DenseUpdate(array_of(left))
    else:
        update = FactoredUpdate(array_of(left), array_of(right_KN))
        value_width, key_width = update.widths
        is_smaller = right_KN.shape[1] * (value_width + key_width) < value_width * key_width
        if share.form == "dense" or (share.form == "auto" and not is_smaller):
            update = DenseUpdate(update.delta_VK)
    return DeltaSum(update, statistics.gram.dense() if share.form == "dense" else statistics.gram)


def check_addable(
    left_basis: Basis, left_widths: tuple[int, ...], right_basis: Basis, right_widths: tuple[int, ...]
) -> None:
    """Raise StatisticsError unless two updates are of one basis and one shape."""
    check_same_basis(left_basis, right_basis)
    if left_widths != right_widths:
        raise StatisticsError(
            f"updates for {left_basis} of shapes {list(left_widths)} and {list(right_widths)}",
            "one shape [V, K] from every party",
            "let every party open the same model",
        )
