"""TIES: trim each local update, elect a sign for each weight, average the updates that agree; also after DARE's drop.

    trim    τ_i  = Δ_i where |Δ_i| is among the top `density` of its entries, else 0
    elect   γ    = +1 where Σ_i τ_i ≥ 0, else −1
    merge   Δ    = λ · mean of those τ_i whose sign is γ (0 where none is)

Trimming is :mod:`consortium.merging.sparsification`'s. All that elect and merge need of the parties are four sums for
each weight: of the positive entries, of the negative ones, and how many there are of each. They add, so memory does not
grow with the number of parties. A party without edits, like any trimmed entry, has no sign and does not count in the
mean.

Source: Yadav et al. 2023, TIES-Merging (arXiv 2306.01708), algorithm 1, with its defaults density 0.2
and λ = 1. What differs: each weight matrix is trimmed by itself, not the model as a whole, since layers
are merged one after the other; where the sum is exactly 0 the sign is + (as in the library peft; the
paper's code takes the sign of most other weights, which cannot be known before all are summed). DARE + TIES is
Yu et al. 2023 (arXiv 2311.03099), where the drop goes before TIES-Merging.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from consortium.common.arrays import Array, array_of, require_finite, tensor_of
from consortium.merging.deltas import CarriesGram, check_addable
from consortium.merging.method import Contribution, MergeMethod, PartyShare, of_kind
from consortium.merging.solver import CovarianceSolver
from consortium.merging.sparsification import sparse_updates_of
from consortium.merging.statistics import Statistics, summed
from consortium.scenario.methods import DareTiesSpec, TiesSpec


@dataclass(frozen=True, eq=False)
class SignedSums(CarriesGram):
    """Sums of trimmed local updates, positive and negative entries apart.

    Attributes:
        positive_VK: sum of the positive entries.
        negative_VK: sum of the negative entries.
        num_positive_VK: parties with a positive entry.
        num_negative_VK: parties with a negative entry.
        gram: Gram sums for the history: statistics with V = 0.
    """

    positive_VK: Array
    negative_VK: Array
    num_positive_VK: NDArray[np.int32]
    num_negative_VK: NDArray[np.int32]
    gram: Statistics

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        sums, counts = (self.positive_VK, self.negative_VK), (self.num_positive_VK, self.num_negative_VK)
        return sum(array.nbytes for array in sums) + sum(array.nbytes for array in counts) + self.gram.nbytes

    def check(self, origin: str = "a party") -> None:
        """Raise StatisticsError, naming ``origin``, unless all numbers are finite and shapes fit."""
        self.gram.check(origin)
        require_finite(self.positive_VK, f"positive_VK of {origin} for {self.basis}")
        require_finite(self.negative_VK, f"negative_VK of {origin} for {self.basis}")

    def __add__(self, other: SignedSums) -> SignedSums:
        return self.joined([other])

    def joined(self, others: Sequence[SignedSums]) -> SignedSums:
        """The sums of this and all others, in their order."""
        for other in others:
            check_addable(self.basis, self.positive_VK.shape, other.basis, other.positive_VK.shape)
        parts = [self, *others]
        return SignedSums(
            summed([part.positive_VK for part in parts]),
            summed([part.negative_VK for part in parts]),
            sum((other.num_positive_VK for other in others), self.num_positive_VK),
            sum((other.num_negative_VK for other in others), self.num_negative_VK),
            self.gram.joined([other.gram for other in others]),
        )


class Ties(MergeMethod):
    """Trim, elect sign, disjoint mean."""

    spec: TiesSpec | DareTiesSpec

    def contribute(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None) -> list[SignedSums]:
        """Each party's local update, made sparse and split by sign."""
        sparse = sparse_updates_of(shares, solver, self.spec)
        return [signed_sums_of(tensor_of(each.delta_VK), each.gram) for each in sparse]

    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """Δ [V, K] = λ · mean of the entries that have the elected sign."""
        sums = of_kind(total, SignedSums, self.spec.name)
        sums.check("the merge")
        return self.spec.lambda_ * elected_mean(sums).to(solver.device)


def signed_sums_of(trimmed_VK: torch.Tensor, gram: Statistics) -> SignedSums:
    """One party's trimmed update as sums of one."""
    return SignedSums(
        array_of(trimmed_VK.clamp(min=0.0)),
        array_of(trimmed_VK.clamp(max=0.0)),
        (trimmed_VK > 0).to("cpu", torch.int32).numpy(),
        (trimmed_VK < 0).to("cpu", torch.int32).numpy(),
        gram,
    )


def elected_mean(sums: SignedSums) -> torch.Tensor:
    """Mean of the entries that have the sign of the larger mass; 0 where there are none."""
    positive_VK, negative_VK = tensor_of(sums.positive_VK), tensor_of(sums.negative_VK)
    num_positive_VK = torch.tensor(sums.num_positive_VK, dtype=torch.float64)
    num_negative_VK = torch.tensor(sums.num_negative_VK, dtype=torch.float64)
    positive_wins = positive_VK + negative_VK >= 0
    mass_VK = torch.where(positive_wins, positive_VK, negative_VK)
    return mass_VK / torch.where(positive_wins, num_positive_VK, num_negative_VK).clamp(min=1.0)
