"""What a merge method is: parties contribute, contributions add, the coordinator merges the sum.

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

from consortium.common.errors import StatisticsError
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis, Form, Statistics, check_edits
from consortium.scenario.methods import MethodSpec

#: Contributions that wait to be joined at most; those of parties without edits weigh nothing.
_MOST_WAITING = 1024


@dataclass(frozen=True, eq=False)
class PartyShare:
    """One party's edits at one layer. It never leaves the party.

    Attributes:
        basis: what the keys are taken against.
        keys_KE: one key a column, float64; E may be 0.
        residuals_VE: one residual a column, float64.
        form: form of the statistics to be sent.
        generator: CPU generator of this party for hiding keys (:func:`consortium.merging.statistics.statistics_of`).
        drops: CPU generator of this party for methods that drop entries at random; None where none does.
        update: the party's own update of the layer where its editor makes it, as factors (weights_VN, solved_KN) of
            Δ = weights·solvedᵀ, or as Δ [V, K] alone; None where it is the solution for its sums.
        party: the party's number, for methods that keep groups of parties apart.
    """

    basis: Basis
    keys_KE: torch.Tensor
    residuals_VE: torch.Tensor
    form: Form
    generator: torch.Generator
    drops: torch.Generator | None = None
    update: tuple[torch.Tensor, ...] | None = None
    party: int = 0

    def __post_init__(self) -> None:
        check_edits(self.basis, self.keys_KE, self.residuals_VE)


class Contribution(Protocol):
    """What parties send for one layer, and what their sums are: picklable, numpy arrays inside."""

    @property
    def basis(self) -> Basis:
        """What it is taken against."""
        ...

    @property
    def num_edits(self) -> int:
        """Edits summed."""
        ...

    @property
    def num_parties(self) -> int:
        """Parties summed, those without edits included."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers sent."""
        ...

    @property
    def gram(self) -> Statistics:
        """Σ key·keyᵀ, which goes into the history after the merge, as statistics with V = 0."""
        ...

    def check(self, origin: str = "a party") -> None:
        """Raise StatisticsError, naming ``origin``, unless all numbers are finite and shapes fit."""
        ...

    def joined(self, others: Sequence[Any]) -> Contribution:
        """The sum of this and all others, in their order; StatisticsError when bases or shapes differ."""
        ...


@dataclass(frozen=True)
class MergeMethod(ABC):
    """One way of making one update from many parties' edits.

    Attributes:
        spec: its parameters, and what it is called (:mod:`consortium.scenario.methods`).
    """

    spec: MethodSpec

    @abstractmethod
    def contribute(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None) -> Sequence[Contribution]:
        """What each party sends, from its own share alone; parties that are computed together save work.

        ``solver`` is None for methods that do not need one.
        """

    @abstractmethod
    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """The update Δ [V, K], float64, computed at the coordinator from the sum over all parties."""


class RunningSum:
    """A sum of contributions in the order in which they are added.

    They are joined when those that wait weigh as much as the sum so far: the sum is not copied for every small
    one, and no more than twice its bytes are held. When to join follows from counts alone, so the same
    contributions in the same order give the same bits.
    """

    def __init__(self) -> None:
        self._total: Contribution | None = None
        self._waiting: list[Contribution] = []
        self._waiting_bytes = 0

    def add(self, contribution: Contribution) -> None:
        """Add one more; StatisticsError, now or later, when it is of another basis or shape."""
        if self._total is None:
            self._total = contribution
            return
        self._waiting.append(contribution)
        self._waiting_bytes += contribution.nbytes
        if self._waiting_bytes >= self._total.nbytes or len(self._waiting) >= _MOST_WAITING:
            self._join()

    def total(self) -> Contribution:
        """The sum; StatisticsError when nothing was added."""
        if self._total is None:
            raise StatisticsError("no contributions to add", "at least one party", "check which parties take part")
        if self._waiting:
            self._join()
        return self._total

    def _join(self) -> None:
        assert self._total is not None
        self._total = self._total.joined(self._waiting)
        self._waiting, self._waiting_bytes = [], 0


def sum_in_order(contributions: Iterable[Contribution]) -> Contribution:
    """The sum of contributions in the order in which they come; StatisticsError for none."""
    running = RunningSum()
    for contribution in contributions:
        running.add(contribution)
    return running.total()


ContributionKind = TypeVar("ContributionKind")


def of_kind(contribution: object, kind: type[ContributionKind], method: str) -> ContributionKind:
    """The contribution, if it is of the kind that a method works on; else StatisticsError."""
    if not isinstance(contribution, kind):
        raise StatisticsError(
            f"merge method {method} met a contribution of type {type(contribution).__name__}",
            f"{kind.__name__}, as {method} makes at the parties",
            "merge with the method that made the contributions",
        )
    return contribution


def solver_of(solver: CovarianceSolver | None) -> CovarianceSolver:
    """The solver, which a method with ``needs_solver`` must have been given."""
    assert solver is not None, "a method with needs_solver was called without a solver"
    return solver
