"""Floating-point operations, counted as torch runs them.

torch's own counter knows matrix products, convolutions and the attention kernels of GPUs. Added here are products
added in place, the attention kernel of CPUs, and dense linear algebra, by the textbook leading terms (Golub and
Van Loan, Matrix Computations, 4th edition). What torch does not run (numpy's additions) and what it does not show
(replayed GPU graphs, compiled kernels) is not counted.

Shapes: B batch, H heads, Q queries, S keys, D width of a head, N size of a system, M right-hand sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

Value = TypeVar("Value")
Shape = Sequence[int]
aten = torch.ops.aten


def counted(work: Callable[[], Value]) -> tuple[Value, int]:
    """What ``work`` returns, and the floating-point operations that it took."""
    with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        value = work()
    return value, counter.get_total_flops()


def _added_product(_sum: Shape, left: Shape, right: Shape, *_: Any, **__: Any) -> int:
    return 2 * prod(left) * right[-1]


def _matrix_times_vector(matrix_MN: Shape, _vector_N: Shape, *_: Any, **__: Any) -> int:
    return 2 * prod(matrix_MN)


def _attention(query_BHQD: Shape, key_BHSD: Shape, value_BHSD: Shape, *_: Any, **__: Any) -> int:
    batch, heads, queries, width = query_BHQD
    return 2 * batch * heads * queries * key_BHSD[-2] * (width + value_BHSD[-1])


def _attention_backward(_grad: Shape, query_BHQD: Shape, key_BHSD: Shape, value_BHSD: Shape, *_: Any, **__: Any) -> int:
    """The scores again, and two products for each of the forward's two."""
    batch, heads, queries, width = query_BHQD
    return 2 * batch * heads * queries * key_BHSD[-2] * (3 * width + 2 * value_BHSD[-1])


def _cholesky(matrix_NN: Shape, *_: Any, **__: Any) -> int:
    return prod(matrix_NN[:-2]) * matrix_NN[-1] ** 3 // 3


def _cholesky_solve(rhs_NM: Shape, *_: Any, **__: Any) -> int:
    return prod(rhs_NM[:-2]) * 2 * rhs_NM[-2] ** 2 * rhs_NM[-1]


def _cholesky_inverse(factor_NN: Shape, *_: Any, **__: Any) -> int:
    return prod(factor_NN[:-2]) * 2 * factor_NN[-1] ** 3 // 3


def _triangular_solve(_triangle_NN: Shape, rhs: Shape, *_: Any, left: bool = True, **__: Any) -> int:
    size, others = (rhs[-2], rhs[-1]) if left else (rhs[-1], rhs[-2])
    return prod(rhs[:-2]) * size**2 * others


def _inverse(matrix_NN: Shape, *_: Any, **__: Any) -> int:
    return prod(matrix_NN[:-2]) * 2 * matrix_NN[-1] ** 3


def _solve(matrix_NN: Shape, rhs_NM: Shape, *_: Any, **__: Any) -> int:
    size = matrix_NN[-1]
    return prod(matrix_NN[:-2]) * (2 * size**3 // 3 + 2 * size**2 * prod(rhs_NM) // max(1, prod(matrix_NN[:-1])))


def _qr(matrix_MN: Shape, *_: Any, **__: Any) -> int:
    """Householder, with the first factor formed: twice 2·n²·(m - n/3) for the longer side m and the shorter n."""
    long, short = max(matrix_MN[-2:]), min(matrix_MN[-2:])
    return prod(matrix_MN[:-2]) * (4 * short**2 * (3 * long - short) // 3)


_FORMULAS: dict[Any, Any] = {
    aten.addmm_: _added_product,
    aten.baddbmm_: _added_product,
    aten.mv: _matrix_times_vector,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten.linalg_cholesky_ex: _cholesky,
    aten.cholesky_solve: _cholesky_solve,
    aten.cholesky_inverse: _cholesky_inverse,
    aten.linalg_solve_triangular: _triangular_solve,
    aten.linalg_inv_ex: _inverse,
    aten._linalg_solve_ex: _solve,
    aten.linalg_qr: _qr,
}
