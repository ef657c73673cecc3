"""What a merge method is: parties contribute, contributions add, the coordinator merges the sum.

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import torch

from consortium.arrays import Array
from consortium.errors import StatisticsError
from consortium.merging.solver import PriorSolver
from consortium.statistics import Basis, Form, check_edits


@dataclass(frozen=True, eq=False)
class PartyShare:
    """One party's edits at one layer. It never leaves the party.

    Attributes:
        basis: what the keys are taken against.
        keys_KE: one key a column, float64; E may be 0.
        residuals_VE: one residual a column, float64.
        form: form of the statistics to be sent.
        generator: CPU generator of this party for hiding keys (see :func:`consortium.statistics.statistics_of`).
    """

    basis: Basis
    keys_KE: torch.Tensor
    residuals_VE: torch.Tensor
    form: Form
    generator: torch.Generator

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
    def gram_KK(self) -> Array:
        """Σ key·keyᵀ, which goes into the history after the merge."""
        ...

    def check(self, origin: str = "a party") -> None:
        """Raise StatisticsError, naming ``origin``, unless all numbers are finite and shapes fit."""
        ...

    def __add__(self, other: Any) -> Contribution:
        """The contribution of both; StatisticsError when bases or shapes differ."""
        ...


class MergeMethod(Protocol):
    """One way of making one update from many parties' edits; a frozen dataclass of its parameters."""

    name: ClassVar[str]
    """Name in a scenario."""
    title: ClassVar[str]
    """Name in a report."""
    reference: ClassVar[str]
    """Paper and equation."""
    needs_solver: ClassVar[bool]
    """Parties need the prior to contribute."""

    def contribute(self, share: PartyShare, solver: PriorSolver | None) -> Contribution:
        """What a party sends, computed at the party."""
        ...

    def merge(self, total: Contribution, solver: PriorSolver) -> torch.Tensor:
        """The update Δ [V, K], float64, computed at the coordinator from the sum over all parties."""
        ...


@dataclass(frozen=True)
class Bounds:
    """What a method's parameter may be, and what it does; stands in the annotation of its field.

    Attributes:
        description: what the parameter does.
        low: least value.
        high: greatest value; None for no bound.
        low_included: whether ``low`` itself is allowed.
    """

    description: str
    low: float = 0.0
    high: float | None = None
    low_included: bool = False

    def allow(self, value: float) -> bool:
        """Whether the value lies within."""
        above = value >= self.low if self.low_included else value > self.low
        return above and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        above = f"{'>=' if self.low_included else '>'} {self.low:g}"
        return above if self.high is None else f"{above} and <= {self.high:g}"


def sum_in_order(contributions: Iterable[Contribution]) -> Contribution:
    """The sum of contributions, added one after the other as they come; StatisticsError for none."""
    total: Contribution | None = None
    for contribution in contributions:
        total = contribution if total is None else total + contribution
    if total is None:
        raise StatisticsError("no contributions to add", "at least one party", "check which parties take part")
    return total


Kind = TypeVar("Kind")


def of_kind(contribution: object, kind: type[Kind], method: str) -> Kind:
    """The contribution, if it is of the kind that a method works on; else StatisticsError."""
    if not isinstance(contribution, kind):
        raise StatisticsError(
            f"merge method {method} met a contribution of type {type(contribution).__name__}",
            f"{kind.__name__}, as {method} makes at the parties",
            "merge with the method that made the contributions",
        )
    return contribution


def solver_of(solver: PriorSolver | None) -> PriorSolver:
    """The solver, which a method with ``needs_solver`` must have been given."""
    assert solver is not None, "a method with needs_solver was called without a solver"
    return solver
