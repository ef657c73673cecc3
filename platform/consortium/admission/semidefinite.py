"""Whether a matrix can be a Gram matrix: symmetric, positive semidefinite, and of no more columns than it claims.

Of a few edits the whole question is answered by as many pivots: if gram = Σ k·kᵀ over N keys, then N steps of Cholesky
with pivots leave nothing. That is K·N² operations and N passes over a column, where a factor of the K×K matrix would
be K³/3. With many edits the matrix is factored, a little of its trace added to the diagonal for rounding.

Source: Higham 1990, Analysis of the Cholesky decomposition of a semi-definite matrix, section 10.3 of Accuracy and
Stability of Numerical Algorithms; that the number of pivots is the number of edits is our own.

Shapes: K key width, N keys.
"""

from __future__ import annotations

import torch

#: What may be left, or be missing to symmetry, relative to the largest entry: many times what rounding leaves.
TOLERANCE = 1e-8
#: Beyond this share of K the matrix is factored as a whole.
_FEW = 4


def asymmetry(matrix_KK: torch.Tensor) -> float:
    """Largest difference between an entry and its mirror image, relative to the largest entry."""
    largest = float(matrix_KK.abs().max()) if matrix_KK.numel() else 0.0
    return float((matrix_KK - matrix_KK.T).abs().max()) / largest if largest else 0.0


def is_gram(matrix_KK: torch.Tensor, num_keys: int) -> bool:
    """Whether a symmetric matrix is, to rounding, a sum of k·kᵀ over at most ``num_keys`` keys."""
    largest = float(matrix_KK.abs().max()) if matrix_KK.numel() else 0.0
    if not largest:
        return True
    if _FEW * num_keys > matrix_KK.shape[0]:
        shifted_KK = matrix_KK.clone()
        shifted_KK.diagonal().add_(TOLERANCE * largest)
        return int(torch.linalg.cholesky_ex(shifted_KK).info) == 0
    left_KK = matrix_KK - _pivoted(matrix_KK, num_keys, TOLERANCE * largest)
    return float(left_KK.abs().max()) <= TOLERANCE * largest


def _pivoted(matrix_KK: torch.Tensor, num_steps: int, negligible: float) -> torch.Tensor:
    """L·Lᵀ after so many steps of Cholesky with the largest pivot first; fewer where what is left is negligible."""
    factor_KN = matrix_KK.new_zeros(matrix_KK.shape[0], num_steps)
    left_K = matrix_KK.diagonal().clone()
    for step in range(num_steps):
        pivot = int(left_K.argmax())
        if float(left_K[pivot]) <= negligible:
            break
        column_K = matrix_KK[:, pivot] - factor_KN[:, :step] @ factor_KN[pivot, :step]
        factor_KN[:, step] = column_K / column_K[pivot].sqrt()
        left_K -= factor_KN[:, step].square()
    return factor_KN @ factor_KN.T
