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
#: Rows that are compared together, to stay in a cache.
_BLOCK_ROWS = 128


def asymmetry(matrix_KK: torch.Tensor) -> float:
    """Largest difference between an entry and its mirror image, relative to the largest entry."""
    largest = float(matrix_KK.abs().max()) if matrix_KK.numel() else 0.0
    return float((matrix_KK - matrix_KK.T).abs().max()) / largest if largest else 0.0


def gram_fault(matrix_KK: torch.Tensor, num_keys: int) -> str | None:
    """What keeps a matrix from being, to rounding, a sum of k·kᵀ over at most ``num_keys`` keys; None where it is one.

    Of few keys one pass says all, since what is left of a matrix that is not symmetric is not nothing either.
    """
    is_few = _FEW * num_keys <= matrix_KK.shape[0]
    if is_few and _is_nothing_left(matrix_KK, num_keys):
        return None
    apart = asymmetry(matrix_KK)
    if apart > TOLERANCE:
        return f"asymmetric: differs from its transpose by {apart:.3g} of its largest entry"
    if is_few or not _has_factor(matrix_KK):
        return f"indefinite: is no sum of k·kᵀ over {num_keys} edits"
    return None


def _has_factor(matrix_KK: torch.Tensor) -> bool:
    shifted_KK = matrix_KK.clone()
    largest = float(matrix_KK.diagonal().max())
    # Zero is a Gram matrix, too; what is added to it need only be positive.
    shifted_KK.diagonal().add_(TOLERANCE * largest if largest > 0 else torch.finfo(matrix_KK.dtype).tiny)
    return int(torch.linalg.cholesky_ex(shifted_KK).info) == 0


def _is_nothing_left(matrix_KK: torch.Tensor, num_keys: int) -> bool:
    """Whether so many steps of Cholesky leave nothing; of a Gram matrix the largest entry is on the diagonal."""
    negligible = TOLERANCE * max(0.0, float(matrix_KK.diagonal().max()))
    factor_KN = _pivoted(matrix_KK, num_keys, negligible)
    for start in range(0, matrix_KK.shape[0], _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        left_BK = torch.addmm(matrix_KK[rows], factor_KN[rows], factor_KN.T, alpha=-1)
        if float(left_BK.abs().max()) > negligible:
            return False
    return True


def _pivoted(matrix_KK: torch.Tensor, num_steps: int, negligible: float) -> torch.Tensor:
    """L [K, N] of at most so many steps of Cholesky with the largest pivot first, until what is left is negligible."""
    factor_NK = matrix_KK.new_zeros(num_steps, matrix_KK.shape[0])
    left_K = matrix_KK.diagonal().clone()
    for step in range(num_steps):
        pivot = int(left_K.argmax())
        if float(left_K[pivot]) <= negligible:
            break
        row_K = matrix_KK[pivot] - factor_NK[:step, pivot] @ factor_NK[:step]
        factor_NK[step] = row_K / row_K[pivot].sqrt()
        left_K -= factor_NK[step].square()
    return factor_NK.T
