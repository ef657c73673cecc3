"""The one linear system of every merge: Δ·(C + H + gram) = cross.

Shapes: K key width, V value width, N columns of a factored form.

Everything is solved in float64 by Cholesky factors; A = C + H is factored once and reused for all
parties and merges of a layer. No pseudo-inverse: a matrix that is not positive definite is refused.

Source: Meng et al. 2023, MEMIT (arXiv 2210.07229), equation 14; H is the dynamic covariance of
Zheng et al. 2025, CollabEdit (arXiv 2410.09508), section 4.3.
"""

from __future__ import annotations

import torch

from consortium.arrays import Array, tensor_of
from consortium.errors import StatisticsError
from consortium.statistics import FactoredStatistics, Statistics, widths

_MAX_ASYMMETRY = 1e-6


class PriorSolver:
    """Solves against A = C + H of one layer.

    Args:
        prior_KK: C = λ·E[kkᵀ], float64.
        history_KK: H, the weighted Gram sums of earlier rounds; None for zero.
        place: what the matrices belong to, for messages (``layer 5``).
        device: where to compute.

    Raises:
        StatisticsError: A is not square, finite, symmetric and positive definite.
    """

    def __init__(
        self,
        prior_KK: Array,
        history_KK: Array | None = None,
        place: str = "a layer",
        device: torch.device | str = "cpu",
    ) -> None:
        self.place = place
        self.device = torch.device(device)
        _check_square(prior_KK, prior_KK, f"C of {place}")
        total_KK = tensor_of(prior_KK, device).double()
        if history_KK is not None:
            _check_square(history_KK, prior_KK, f"H of {place}")
            total_KK = total_KK + tensor_of(history_KK, device).double()
        self._total_KK = total_KK
        self._factor_KK = _prior_factor(total_KK, f"C + H of {place}")

    @property
    def key_width(self) -> int:
        """K."""
        return self._total_KK.shape[0]

    @property
    def factor_KK(self) -> torch.Tensor:
        """L, lower triangular, with L·Lᵀ = A."""
        return self._factor_KK

    def solve(self, rhs_KN: torch.Tensor) -> torch.Tensor:
        """A⁻¹·rhs [K, N]."""
        return torch.cholesky_solve(rhs_KN, self._factor_KK)

    def merge(self, statistics: Statistics) -> torch.Tensor:
        """Δ [V, K] = cross·(A + gram)⁻¹, float64; zero when there are no edits.

        Raises:
            StatisticsError: other key width, numbers that are not finite, or A + gram singular in float64.
        """
        statistics.check("the merge")
        check_key_width(widths(statistics)[0], self.key_width, self.place)
        if isinstance(statistics, FactoredStatistics) and statistics.num_columns < self.key_width:
            return self._merge_factored(statistics)
        dense = statistics.dense()
        total_KK = self._total_KK + tensor_of(dense.gram_KK, self.device)
        factor_KK = _cholesky(total_KK, f"C + H + gram of {self.place}")
        delta_KV = torch.cholesky_solve(tensor_of(dense.cross_VK, self.device).T, factor_KK)
        return delta_KV.T.contiguous()

    def _merge_factored(self, statistics: FactoredStatistics) -> torch.Tensor:
        """V·Uᵀ·(A + U·Uᵀ)⁻¹ = V·(I + Uᵀ·A⁻¹·U)⁻¹·Uᵀ·A⁻¹ (push-through identity): one N×N system, exactly."""
        factor_KN, image_VN = tensor_of(statistics.factor_KN, self.device), tensor_of(statistics.image_VN, self.device)
        whitened_KN = torch.linalg.solve_triangular(self._factor_KK, factor_KN, upper=False)
        inner_NN = whitened_KN.T @ whitened_KN
        inner_NN.diagonal().add_(1.0)
        weights_NV = torch.cholesky_solve(image_VN.T, _cholesky(inner_NN, f"I + Uᵀ·A⁻¹·U of {self.place}"))
        solved_KN: torch.Tensor = torch.linalg.solve_triangular(self._factor_KK.T, whitened_KN, upper=True)
        return weights_NV.T @ solved_KN.T


def check_key_width(found: int, expected: int, place: str) -> None:
    """Raise StatisticsError when statistics and prior are of different widths."""
    if found != expected:
        raise StatisticsError(
            f"statistics with key width {found} meet a prior of key width {expected} at {place}",
            "statistics and prior of the same layer of the same model",
            "measure the prior and collect the edits on one model",
        )


def _check_square(matrix_KK: Array, prior_KK: Array, name: str) -> None:
    if matrix_KK.ndim != 2 or matrix_KK.shape != prior_KK.shape[::-1]:
        raise StatisticsError(
            f"{name} is {list(matrix_KK.shape)}, the prior is {list(prior_KK.shape)}",
            "square matrices [K, K] of one key width",
            "measure the prior and the history on one model",
        )


def _prior_factor(total_KK: torch.Tensor, name: str) -> torch.Tensor:
    """Cholesky factor of C + H, which must be symmetric and not singular to working precision."""
    asymmetry, size = float((total_KK - total_KK.T).abs().max()), float(total_KK.abs().max())
    if asymmetry > _MAX_ASYMMETRY * size:
        raise StatisticsError(
            f"{name} is not symmetric: entries differ by {asymmetry:.3g} where the largest is {size:.3g}",
            "a sum of k·kᵀ, which is symmetric",
            "measure the prior again",
        )
    factor_KK = _cholesky(total_KK, name)
    # A pivot over its diagonal entry is the share of a coordinate that the earlier ones do not explain.
    unexplained = float((factor_KK.diagonal() ** 2 / total_KK.diagonal()).min())
    if unexplained < total_KK.shape[0] * torch.finfo(torch.float64).eps:
        raise _singular(name, f"a coordinate depends on the others to {unexplained:.1e}")
    return factor_KK


def _cholesky(matrix: torch.Tensor, name: str) -> torch.Tensor:
    if not bool(torch.isfinite(matrix).all()):
        raise StatisticsError(
            f"{name} holds NaN or infinite numbers", "finite numbers only", "measure the prior again in float32"
        )
    factor: torch.Tensor
    factor, info = torch.linalg.cholesky_ex(matrix)
    if int(info):
        raise _singular(name, f"Cholesky stopped at row {int(info)} of {matrix.shape[0]}")
    return factor


def _singular(name: str, detail: str) -> StatisticsError:
    return StatisticsError(
        f"{name} is not positive definite ({detail})",
        "a positive definite matrix, which a prior of more than K different keys is",
        "measure the prior on more text (editor.prior.tokens) or raise editor.prior_weight",
    )
