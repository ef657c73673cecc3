"""Statistics: what a party sends about its edits at one layer, a type with laws.

Shapes: E edits, K key width, V value width, N columns of the factored form.

For keys_KE and residuals_VE the statistics are gram_KK = keys·keysᵀ and cross_VK = residuals·keysᵀ.
They add: the statistics of several parties' edits together are the sum of theirs. The factored form holds
any factor_KN and image_VN with factor·factorᵀ = gram and image·factorᵀ = cross; its sum is the columns
of all side by side, and it folds to the dense form once it has more columns than keys have entries,
since then the dense form is the smaller one: N·(K+V) > K·K + V·K exactly when N > K.

Source: Zheng et al. 2025, CollabEdit (arXiv 2410.09508), equation 7; the factored form is our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch

from consortium.common.arrays import Array, array_of, require_finite, side_by_side, tensor_of
from consortium.common.errors import StatisticsError

Form = Literal["auto", "dense", "factored"]
Header = dict[str, str | int]


@dataclass(frozen=True)
class Basis:
    """What statistics are taken against; only statistics of one basis may be added.

    Attributes:
        arm: name of the arm whose weights the keys come from.
        round: round number, from 1.
        layer: number of the edited layer.
    """

    arm: str
    round: int
    layer: int

    def __str__(self) -> str:
        return f"arm {self.arm}, round {self.round}, layer {self.layer}"


class _Arrays:
    """What both forms have in common; their arrays are the fields that hold one."""

    basis: Basis

    def arrays(self) -> dict[str, Array]:
        """The arrays by name."""
        form: Any = self
        values = {field.name: getattr(self, field.name) for field in fields(form)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return sum(array.nbytes for array in self.arrays().values())

    def check(self, origin: str = "a party") -> None:
        """Raise StatisticsError, naming ``origin``, unless shapes fit and all numbers are finite.

        For what came from elsewhere: unpickling checks nothing.
        """
        self.__post_init__()
        for name, array in self.arrays().items():
            require_finite(array, f"{name} in statistics of {origin} for {self.basis}")

    def __post_init__(self) -> None:
        raise NotImplementedError

    def _wrong_shapes(self, expected: str) -> StatisticsError:
        found = ", ".join(f"{name} {list(array.shape)}" for name, array in self.arrays().items())
        return StatisticsError(
            f"statistics for {self.basis} with {found}", expected, "make statistics with statistics_of"
        )


@dataclass(frozen=True, eq=False)
class DenseStatistics(_Arrays):
    """The sums themselves: K·(K+V) numbers, however many edits they are of.

    Attributes:
        basis: what they are taken against.
        gram_KK: Σ key·keyᵀ.
        cross_VK: Σ residual·keyᵀ.
        num_edits: edits summed.
        num_parties: parties summed, those without edits included.
    """

    basis: Basis
    gram_KK: Array
    cross_VK: Array
    num_edits: int
    num_parties: int = 1

    def __post_init__(self) -> None:
        width = self.gram_KK.shape[-1]
        if self.gram_KK.shape != (width, width) or self.cross_VK.ndim != 2 or self.cross_VK.shape[1] != width:
            raise self._wrong_shapes("gram_KK [K, K] and cross_VK [V, K]")

    @property
    def num_columns(self) -> int:
        """Columns that a factored form of these sums needs at most."""
        return int(self.gram_KK.shape[0])

    def dense(self) -> DenseStatistics:
        """Itself."""
        return self

    def __add__(self, other: Statistics) -> Statistics:
        return joined_statistics([self, other])

    def joined(self, others: Sequence[Statistics]) -> Statistics:
        """The sum of these and all others, in their order; see :func:`joined_statistics`."""
        return joined_statistics([self, *others])

    @property
    def gram(self) -> DenseStatistics:
        """The Gram sums alone, as statistics with V = 0."""
        return DenseStatistics(self.basis, self.gram_KK, self.cross_VK[:0], self.num_edits, self.num_parties)


@dataclass(frozen=True, eq=False)
class FactoredStatistics(_Arrays):
    """Factors of the sums: N·(K+V) numbers.

    Attributes:
        basis: what they are taken against.
        factor_KN: U with U·Uᵀ = gram_KK.
        image_VN: V with V·Uᵀ = cross_VK.
        num_edits: edits summed.
        num_parties: parties summed, those without edits included.
    """

    basis: Basis
    factor_KN: Array
    image_VN: Array
    num_edits: int
    num_parties: int = 1

    def __post_init__(self) -> None:
        two_dimensional = self.factor_KN.ndim == self.image_VN.ndim == 2
        if not two_dimensional or self.factor_KN.shape[1] != self.image_VN.shape[1]:
            raise self._wrong_shapes("factor_KN [K, N] and image_VN [V, N]")

    @property
    def num_columns(self) -> int:
        """N."""
        return int(self.factor_KN.shape[1])

    @property
    def gram_KK(self) -> Array:
        """Σ key·keyᵀ, multiplied out."""
        factor_KN = tensor_of(self.factor_KN)
        return array_of(factor_KN @ factor_KN.T)

    @property
    def cross_VK(self) -> Array:
        """Σ residual·keyᵀ, multiplied out."""
        return array_of(tensor_of(self.image_VN) @ tensor_of(self.factor_KN).T)

    def dense(self) -> DenseStatistics:
        """The same sums multiplied out."""
        return DenseStatistics(self.basis, self.gram_KK, self.cross_VK, self.num_edits, self.num_parties)

    def __add__(self, other: Statistics) -> Statistics:
        return joined_statistics([self, other])

    def joined(self, others: Sequence[Statistics]) -> Statistics:
        """The sum of these and all others, in their order; see :func:`joined_statistics`."""
        return joined_statistics([self, *others])

    @property
    def gram(self) -> FactoredStatistics:
        """The Gram sums alone, as statistics with V = 0."""
        return FactoredStatistics(self.basis, self.factor_KN, self.image_VN[:0], self.num_edits, self.num_parties)


Statistics = DenseStatistics | FactoredStatistics


def zero(basis: Basis, key_width: int, value_width: int) -> Statistics:
    """The neutral element: no edits of no party, and no bytes."""
    factor_KN, image_VN = torch.zeros(key_width, 0), torch.zeros(value_width, 0)
    return FactoredStatistics(basis, array_of(factor_KN), array_of(image_VN), num_edits=0, num_parties=0)


def joined_statistics(parts: Sequence[Statistics]) -> Statistics:
    """The statistics of all parts' edits together; StatisticsError when bases or widths differ.

    The sum is factored when all parts are and have at most K columns together, and dense otherwise. Columns are
    brought side by side first and multiplied out once, however many parts they come in.
    """
    first, key_width = parts[0], widths(parts[0])[0]
    for other in parts[1:]:
        _check_addable(first, other)
    num_edits, num_parties = sum(part.num_edits for part in parts), sum(part.num_parties for part in parts)
    factored = [part for part in parts if isinstance(part, FactoredStatistics)]
    dense = [part for part in parts if isinstance(part, DenseStatistics)]
    if not factored:
        gram_KK, cross_VK = summed([part.gram_KK for part in dense]), summed([part.cross_VK for part in dense])
        return DenseStatistics(first.basis, gram_KK, cross_VK, num_edits, num_parties)
    factor_KN = side_by_side([part.factor_KN for part in factored])
    image_VN = side_by_side([part.image_VN for part in factored])
    if not dense and factor_KN.shape[1] <= key_width:
        return FactoredStatistics(first.basis, factor_KN, image_VN, num_edits, num_parties)
    gram_KK = summed([part.gram_KK for part in dense], (factor_KN, factor_KN))
    cross_VK = summed([part.cross_VK for part in dense], (image_VN, factor_KN))
    return DenseStatistics(first.basis, gram_KK, cross_VK, num_edits, num_parties)


def summed(arrays_XY: Sequence[Array], factors: tuple[Array, Array] | None = None) -> Array:
    """Sum of arrays in their order, plus left·rightᵀ for ``factors`` (left [X, N], right [Y, N]); read-only.

    There is at least one array, or factors.
    """
    if factors is not None and not arrays_XY:
        return array_of(tensor_of(factors[0]) @ tensor_of(factors[1]).T)
    if len(arrays_XY) == 1 and (factors is None or not factors[0].shape[1]):
        return arrays_XY[0]
    total_XY = tensor_of(arrays_XY[0]).clone()
    for array_XY in arrays_XY[1:]:
        total_XY += tensor_of(array_XY)
    if factors is not None:
        total_XY.addmm_(tensor_of(factors[0]), tensor_of(factors[1]).T)
    return array_of(total_XY)


def _check_addable(left: Statistics, right: Statistics) -> None:
    check_same_basis(left.basis, right.basis)
    if widths(left) != widths(right):
        raise StatisticsError(
            f"statistics for {left.basis} have key and value widths {widths(left)} and {widths(right)}",
            "the same widths from every party",
            "let every party open the same model",
        )


def statistics_of(
    basis: Basis, keys_KE: torch.Tensor, residuals_VE: torch.Tensor, form: Form, generator: torch.Generator
) -> Statistics:
    """The statistics of one party's edits.

    The factored form never holds a key. With E ≤ K edits the columns are mixed by a random rotation;
    with more, both factors are functions of gram and cross alone. A single edit cannot be hidden: its
    factor is the key itself, up to its sign.

    Args:
        basis: what the keys were taken against.
        keys_KE: one key a column.
        residuals_VE: one residual a column.
        form: ``auto`` takes the form with fewer bytes: factored exactly when E < K.
        generator: a CPU generator for the rotation; the dense form draws nothing.

    Raises:
        StatisticsError: shapes do not fit, or a number (or a sum) is not finite.
    """
    assert form in ("auto", "dense", "factored"), form
    check_edits(basis, keys_KE, residuals_VE)
    keys_KE, residuals_VE = keys_KE.double(), residuals_VE.double()
    key_width, num_edits = keys_KE.shape
    statistics: Statistics
    if form == "dense" or (form == "auto" and num_edits >= key_width):
        gram_KK, cross_VK = keys_KE @ keys_KE.T, residuals_VE @ keys_KE.T
        statistics = DenseStatistics(basis, array_of(gram_KK), array_of(cross_VK), num_edits)
    else:
        factor_KN, image_VN = _factors(keys_KE, residuals_VE, generator)
        statistics = FactoredStatistics(basis, array_of(factor_KN), array_of(image_VN), num_edits)
    statistics.check("a party's own edits")
    return statistics


def _factors(
    keys_KE: torch.Tensor, residuals_VE: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    key_width, num_edits = keys_KE.shape
    if num_edits > key_width:  # keysᵀ = Q·R, so gram = Rᵀ·R and cross = (residuals·Q)·R
        q_EK, r_KK = torch.linalg.qr(keys_KE.T)
        return r_KK.T, residuals_VE @ q_EK
    rotation_EE = rotation(num_edits, generator).to(keys_KE.device)
    return keys_KE @ rotation_EE, residuals_VE @ rotation_EE


def rotation(size: int, generator: torch.Generator) -> torch.Tensor:
    """An orthogonal matrix drawn uniformly (Mezzadri 2007, arXiv math-ph/0609050: QR with R's signs taken out)."""
    gaussian = torch.randn(size, size, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    uniform: torch.Tensor = q * torch.sign(torch.diagonal(r))
    return uniform


def to_arrays(statistics: Statistics) -> tuple[Header, dict[str, Array]]:
    """A header of plain names and numbers, and the arrays by name: what files and messages can hold."""
    basis = statistics.basis
    header: Header = {
        "form": "factored" if isinstance(statistics, FactoredStatistics) else "dense",
        "arm": basis.arm,
        "round": basis.round,
        "layer": basis.layer,
        "num_edits": statistics.num_edits,
        "num_parties": statistics.num_parties,
    }
    return header, statistics.arrays()


def from_arrays(header: Mapping[str, str | int], arrays: Mapping[str, Array]) -> Statistics:
    """The inverse of :func:`to_arrays`; StatisticsError when something is missing or shapes do not fit."""
    try:
        basis = Basis(str(header["arm"]), int(header["round"]), int(header["layer"]))
        num_edits, num_parties = int(header["num_edits"]), int(header["num_parties"])
        if header["form"] == "factored":
            return FactoredStatistics(basis, arrays["factor_KN"], arrays["image_VN"], num_edits, num_parties)
        return DenseStatistics(basis, arrays["gram_KK"], arrays["cross_VK"], num_edits, num_parties)
    except KeyError as error:
        raise StatisticsError(
            f"stored statistics lack {error.args[0]!r}; they hold {sorted([*header, *arrays])}",
            "header and arrays as to_arrays made them",
            "store both parts again",
        ) from None


def widths(statistics: Statistics) -> tuple[int, int]:
    """Key width K and value width V."""
    if isinstance(statistics, FactoredStatistics):
        return statistics.factor_KN.shape[0], statistics.image_VN.shape[0]
    return statistics.gram_KK.shape[0], statistics.cross_VK.shape[0]


def check_same_basis(left: Basis, right: Basis) -> None:
    """Raise StatisticsError when two contributions were taken against different weights."""
    if left != right:
        raise StatisticsError(
            f"statistics for {left} and for {right} cannot be added",
            "one arm, one round and one layer in a sum",
            "collect each layer of each arm and round on its own",
        )


def check_edits(basis: Basis, keys_KE: torch.Tensor, residuals_VE: torch.Tensor) -> None:
    """Raise StatisticsError unless keys and residuals are finite matrices with one column for each edit."""
    if keys_KE.ndim != 2 or residuals_VE.ndim != 2 or keys_KE.shape[1] != residuals_VE.shape[1]:
        raise StatisticsError(
            f"keys {list(keys_KE.shape)} and residuals {list(residuals_VE.shape)} for {basis}",
            "keys [K, E] and residuals [V, E], one column for each edit",
            "compute both from the same edits",
        )
    for name, tensor in (("keys_KE", keys_KE), ("residuals_VE", residuals_VE)):
        require_finite(array_of(tensor), f"{name} of a party's own edits for {basis}")
