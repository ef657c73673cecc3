"""The one linear system of every merge: Δ·(C + H + gram) = cross.

Shapes: K key width, V value width, N columns of a factored form, M columns of the history.

Everything is solved in float64 by Cholesky factors. With C + base = L·Lᵀ and the history's columns U,

    A = C + H = C + base + U·Uᵀ        A⁻¹ = L⁻ᵀ·(I − Q·Qᵀ)·L⁻¹        Q·Qᵀ = W·(I + Wᵀ·W)⁻¹·Wᵀ,  W = L⁻¹·U

so L is made once for all arms, parties and rounds that share C + base, and a round adds its columns to Q. The
difference loses as many digits as U outweighs C + base, so heavy columns go into a factor of their own. No
pseudo-inverse: a matrix that is not positive definite is refused.

Source: Meng et al. 2023, MEMIT (arXiv 2210.07229), equation 14; H is the dynamic covariance of
Zheng et al. 2025, CollabEdit (arXiv 2410.09508), section 4.3. The update of A⁻¹: Woodbury 1950.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch

from consortium.common.arrays import Array, tensor_of
from consortium.common.errors import StatisticsError
from consortium.merging.statistics import FactoredStatistics, Statistics, widths

_MAX_ASYMMETRY = 1e-6
#: Largest trace of Wᵀ·W, which bounds how much U outweighs C + base, so that about 1e6·2e-16 is lost at most. A key
#: like the key covariance's adds K/λ to it: M of them at most K²/4λ, 400 for K = 1536 and 45,000 for K = 16384 at λ =
#: 1500.
_MOST_WEIGHT = 1e6
#: Rows that are looked at together when a matrix is compared with its transpose.
_BLOCK_ROWS = 256


class CovarianceSolver:
    """Solves against A = C + H of one layer.

    Args:
        covariance_KK: C = λ·E[kkᵀ], float64, or what gives it when it is needed, to keep it in one place only.
        base_KK: the dense part of H; None for zero. Columns come by :meth:`extended`.
        place: what the matrices belong to, for messages (``layer 5``).
        device: where to compute.

    Raises:
        StatisticsError: C is not square, finite, symmetric and positive definite, or the base of another width.
    """

    def __init__(
        self,
        covariance_KK: Array | Callable[[], Array],
        base_KK: Array | None = None,
        place: str = "a layer",
        device: torch.device | str = "cpu",
    ) -> None:
        self.place = place
        self.device = torch.device(device)
        self._base = _Base(
            covariance_KK if callable(covariance_KK) else lambda: covariance_KK, base_KK, place, self.device
        )
        self._start()

    def _start(self) -> None:
        """No columns beside the factor."""
        self.columns: tuple[Array, ...] = ()
        self._mixed_KM = torch.zeros(self.key_width, 0, dtype=torch.float64, device=self.device)
        self._weight = 0.0

    @property
    def key_width(self) -> int:
        """K."""
        return self._base.key_width

    @property
    def factor_KK(self) -> torch.Tensor:
        """L, lower triangular, with L·Lᵀ = A without ``columns``."""
        return self._base.factor_KK

    def made(self) -> list[torch.Tensor]:
        """What it made and keeps, some of it together with other solvers."""
        return [*self._base.made(), self._mixed_KM]

    def extended(self, columns_KN: Array) -> CovarianceSolver:
        """The solver for A + columns·columnsᵀ, which shares this one's factor unless its columns become too heavy."""
        check_key_width(columns_KN.shape[0], self.key_width, self.place)
        whitened_KN = self._whitened(tensor_of(columns_KN, self.device))
        weight = self._weight + float(whitened_KN.square().sum())
        if weight > _MOST_WEIGHT:
            return self._refactored((*self.columns, columns_KN))
        damped_KN = self._damped(whitened_KN)
        factor_NN = self._inner_factor(whitened_KN, damped_KN)
        mixed_KN = torch.linalg.solve_triangular(factor_NN.T, damped_KN, upper=True, left=False)
        other = copy.copy(self)
        other.columns = (*self.columns, columns_KN)
        other._mixed_KM = torch.cat([self._mixed_KM, mixed_KN], dim=1)
        other._weight = weight
        return other

    def _refactored(self, columns: tuple[Array, ...]) -> CovarianceSolver:
        other = copy.copy(self)
        other._base = self._base.with_columns(columns)
        other._start()
        return other

    def solve(self, rhs_KN: torch.Tensor) -> torch.Tensor:
        """A⁻¹·rhs [K, N]."""
        return self._unwhitened(self._damped(self._whitened(rhs_KN)))

    def _whitened(self, columns_KN: torch.Tensor) -> torch.Tensor:
        """W = L⁻¹·columns."""
        whitened_KN: torch.Tensor = torch.linalg.solve_triangular(self.factor_KK, columns_KN, upper=False)
        return whitened_KN

    def _unwhitened(self, columns_KN: torch.Tensor) -> torch.Tensor:
        """L⁻ᵀ·columns."""
        solved_KN: torch.Tensor = torch.linalg.solve_triangular(self.factor_KK.T, columns_KN, upper=True)
        return solved_KN

    def _damped(self, whitened_KN: torch.Tensor) -> torch.Tensor:
        """(I − Q·Qᵀ)·W."""
        if not self._mixed_KM.shape[1]:
            return whitened_KN
        return torch.addmm(whitened_KN, self._mixed_KM, self._mixed_KM.T @ whitened_KN, alpha=-1)

    def _inner_factor(self, whitened_KN: torch.Tensor, damped_KN: torch.Tensor) -> torch.Tensor:
        """Cholesky factor of I + Uᵀ·A⁻¹·U, for U = L·whitened."""
        inner_NN = whitened_KN.T @ damped_KN
        inner_NN.diagonal().add_(1.0)
        return _cholesky(inner_NN, f"I + Uᵀ·A⁻¹·U of {self.place}")

    def merge(self, statistics: Statistics) -> torch.Tensor:
        """Δ [V, K] = cross·(A + gram)⁻¹, float64; zero when there are no edits.

        Raises:
            StatisticsError: other key width, numbers that are not finite, or A + gram singular in float64.
        """
        statistics.check("the merge")
        check_key_width(widths(statistics)[0], self.key_width, self.place)
        if isinstance(statistics, FactoredStatistics) and self.prefers_factors(statistics.num_columns):
            weights_VN, solved_KN = self.merge_factored([statistics])[0]
            return weights_VN @ solved_KN.T
        dense = statistics.dense()
        total_KK = self.system_KK()
        total_KK += tensor_of(dense.gram_KK, self.device)
        return solved_from_right(tensor_of(dense.cross_VK, self.device), total_KK, f"C + H + gram of {self.place}")

    def system_KK(self) -> torch.Tensor:
        """A = C + H, to be written to."""
        return _with_columns(self._base.total_KK(), self.columns)

    def prefers_factors(self, num_columns: int) -> bool:
        """Whether so many columns cost less in an N×N system of their own than in a K×K one: up to K / 2.

        By counts alone: 2·K²·N + 2·K·N² against K³/3 + 2·K²·(N + V), most V being well below K.
        """
        return 2 * num_columns <= self.key_width

    def merge_factored(self, parts: Sequence[FactoredStatistics]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each part by itself, the factors (weights_VN, solved_KN) of its Δ = weights·solvedᵀ.

        The push-through identity V·Uᵀ·(A + U·Uᵀ)⁻¹ = V·(I + Uᵀ·A⁻¹·U)⁻¹·Uᵀ·A⁻¹ leaves one N×N system for each
        part. The columns of all parts meet L together, in two passes over it.
        """
        for part in parts:
            check_key_width(widths(part)[0], self.key_width, self.place)
        whitened_KN = self._whitened(torch.cat([tensor_of(part.factor_KN, self.device) for part in parts], dim=1))
        damped_KN = self._damped(whitened_KN)
        solved_KN = self._unwhitened(damped_KN)
        sizes = [part.num_columns for part in parts]
        columns = zip(*(each_KN.split(sizes, dim=1) for each_KN in (whitened_KN, damped_KN, solved_KN)), strict=True)
        found = []
        for part, (own_whitened_KN, own_damped_KN, own_solved_KN) in zip(parts, columns, strict=True):
            factor_NN = self._inner_factor(own_whitened_KN, own_damped_KN)
            image_VN = tensor_of(part.image_VN, self.device)
            found.append((torch.cholesky_solve(image_VN.T, factor_NN).T, own_solved_KN))
        return found


class _Base:
    """C + base of a layer, with what columns were too heavy to stay beside it, and the factor once it was needed."""

    def __init__(
        self, read_covariance: Callable[[], Array], base_KK: Array | None, place: str, device: torch.device
    ) -> None:
        self._base_KK = base_KK
        self._columns: tuple[Array, ...] = ()
        self._read_covariance, self._device, self._name = read_covariance, device, f"C + H of {place}"
        self._factor_KK: torch.Tensor | None = None
        covariance_KK = read_covariance()
        _check_square(covariance_KK, covariance_KK, f"C of {place}")
        self.key_width = int(covariance_KK.shape[0])
        if base_KK is not None:
            _check_square(base_KK, covariance_KK, f"H of {place}")
            return
        total_KK = tensor_of(covariance_KK, device).double()
        _check_symmetric(total_KK, self._name)
        self._factor_KK = _covariance_factor(
            total_KK, self._name
        )  # a key covariance that is of no use is refused at once

    def with_columns(self, columns: tuple[Array, ...]) -> _Base:
        """The sum of this and all columns·columnsᵀ, not factored yet."""
        other = copy.copy(self)
        other._columns, other._factor_KK = (*self._columns, *columns), None
        return other

    def made(self) -> list[torch.Tensor]:
        """The factor, if it was needed already."""
        return [] if self._factor_KK is None else [self._factor_KK]

    @property
    def factor_KK(self) -> torch.Tensor:
        """L, which exists unless C + base is singular to working precision."""
        if self._factor_KK is None:
            self._factor_KK = _covariance_factor(self.total_KK(), self._name)
        return self._factor_KK

    def total_KK(self) -> torch.Tensor:
        """The sum, to be written to."""
        covariance_KK = tensor_of(self._read_covariance(), self._device).double()
        total_KK = (
            covariance_KK.clone() if self._base_KK is None else covariance_KK + tensor_of(self._base_KK, self._device)
        )
        return _with_columns(total_KK, self._columns)


def _with_columns(total_KK: torch.Tensor, columns: Sequence[Array]) -> torch.Tensor:
    """``total_KK`` itself, to which columns·columnsᵀ were added."""
    for columns_KN in (tensor_of(each, total_KK.device) for each in columns):
        total_KK.addmm_(columns_KN, columns_KN.T)
    return total_KK


def solved_from_right(rhs_VK: torch.Tensor, system_KK: torch.Tensor, name: str) -> torch.Tensor:
    """rhs·system⁻¹ [V, K], float64; StatisticsError, naming the system, when it is not positive definite."""
    solved_KV = torch.cholesky_solve(rhs_VK.T, _cholesky(system_KK, name))
    return solved_KV.T.contiguous()


def check_key_width(found: int, expected: int, place: str) -> None:
    """Raise StatisticsError when statistics and key covariance are of different widths."""
    if found != expected:
        raise StatisticsError(
            f"statistics with key width {found} meet a key covariance of key width {expected} at {place}",
            "statistics and key covariance of the same layer of the same model",
            "measure the key covariance and collect the edits on one model",
        )


def _check_square(matrix_KK: Array, covariance_KK: Array, name: str) -> None:
    if matrix_KK.ndim != 2 or matrix_KK.shape != covariance_KK.shape[::-1]:
        raise StatisticsError(
            f"{name} is {list(matrix_KK.shape)}, the key covariance is {list(covariance_KK.shape)}",
            "square matrices [K, K] of one key width",
            "measure the key covariance and the history on one model",
        )


def _check_symmetric(matrix_KK: torch.Tensor, name: str) -> None:
    """A sum of k·kᵀ is symmetric up to rounding; looked at in blocks of rows, without a transposed copy."""
    asymmetry = size = 0.0
    for start in range(0, matrix_KK.shape[0], _BLOCK_ROWS):
        end = start + _BLOCK_ROWS
        rows_BK = matrix_KK[start:end, start:]
        asymmetry = max(asymmetry, float((rows_BK - matrix_KK[start:, start:end].T).abs().max()))
        size = max(size, float(rows_BK.abs().max()))
    if asymmetry > _MAX_ASYMMETRY * size:
        raise StatisticsError(
            f"{name} is not symmetric: entries differ by {asymmetry:.3g} where the largest is {size:.3g}",
            "a sum of k·kᵀ, which is symmetric",
            "measure the key covariance again",
        )


def _covariance_factor(total_KK: torch.Tensor, name: str) -> torch.Tensor:
    """Cholesky factor of C + H, which must not be singular to working precision."""
    factor_KK = _cholesky(total_KK, name)
    # A pivot over its diagonal entry is the share of a coordinate that the earlier ones do not explain.
    unexplained = float((factor_KK.diagonal() ** 2 / total_KK.diagonal()).min())
    if unexplained < total_KK.shape[0] * torch.finfo(torch.float64).eps:
        raise _singular(name, f"a coordinate depends on the others to {unexplained:.1e}")
    return factor_KK


def _cholesky(matrix: torch.Tensor, name: str) -> torch.Tensor:
    # A finite sum proves finite numbers in one pass; one that is not may have overflowed, so look again.
    if not bool(torch.isfinite(matrix.sum())) and not bool(torch.isfinite(matrix).all()):
        raise StatisticsError(
            f"{name} holds NaN or infinite numbers",
            "finite numbers only",
            "measure the key covariance again in float32",
        )
    factor: torch.Tensor
    factor, info = torch.linalg.cholesky_ex(matrix)
    if int(info):
        raise _singular(name, f"Cholesky stopped at row {int(info)} of {matrix.shape[0]}")
    return factor


def _singular(name: str, detail: str) -> StatisticsError:
    return StatisticsError(
        f"{name} is not positive definite ({detail})",
        "a positive definite matrix, which a key covariance of more than K different keys is",
        "measure the key covariance on more text (editor.covariance.tokens) or raise editor.covariance_weight",
    )
