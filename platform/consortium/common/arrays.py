"""Between numpy, in which messages are stored, and torch, in which they are computed.

Ray hands numpy arrays to readers without a copy, and read-only; torch tensors it copies. So messages
hold C-contiguous, read-only numpy arrays, and the mathematics looks at them through torch.

Linear algebra libraries may take another path, and round otherwise, for memory that is aligned
otherwise. All arrays made here lie in memory that torch allocated (64 bytes aligned), and
:func:`tensor_of` moves those that do not: results then do not depend on where an array came from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from consortium.common.counting import count
from consortium.common.errors import StatisticsError

Array = NDArray[np.float64]

_ALIGNMENT_BYTES = 64


def array_of(tensor: torch.Tensor) -> Array:
    """The tensor as a read-only float64 array on the CPU; it shares memory with a tensor that already is one."""
    array: Array = tensor.detach().to("cpu", torch.float64).contiguous().numpy()
    array.setflags(write=False)
    return array


def tensor_of(array: Array, device: torch.device | str = "cpu") -> torch.Tensor:
    """The array as a tensor that must not be written to; copied only if misaligned or for another device."""
    tensor: torch.Tensor = torch.from_dlpack(np.ascontiguousarray(array))  # type: ignore[attr-defined]
    if tensor.data_ptr() % _ALIGNMENT_BYTES:
        tensor = tensor.clone()
    return tensor.to(device)


def length(*arrays: NDArray[Any]) -> float:
    """√Σx² over all numbers of some arrays, in float64.

    By torch, whose threads the scenario fixes: numpy's products take as many as the machine has, and round accordingly.
    """
    tensors = (torch.from_numpy(np.array(array, np.float64)) for array in arrays)
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors))


def finite_columns(*matrices: torch.Tensor) -> list[bool]:
    """Which columns are finite in all of some matrices."""
    finite: list[bool] = torch.stack([matrix.isfinite().all(0) for matrix in matrices]).all(0).tolist()
    return finite


def side_by_side(arrays_XN: Sequence[Array]) -> Array:
    """The columns of all arrays in their order, read-only; all have the same number of rows."""
    joined = _empty((arrays_XN[0].shape[0], sum(array.shape[1] for array in arrays_XN)))
    np.concatenate(arrays_XN, axis=1, out=joined)
    joined.setflags(write=False)
    return joined


def require_finite(array: Array, name: str) -> None:
    """Raise StatisticsError, naming the array, when it holds NaN or infinite numbers."""
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum()):  # one pass; a sum of finite numbers may overflow, so only "finite" is believed
            return
    num_bad = array.size - int(np.isfinite(array).sum())
    if num_bad:
        raise StatisticsError(
            f"{name}: {num_bad} of {count(array.size, 'number')} are NaN or infinite",
            "finite numbers only",
            "look at the targets of these edits: a smaller learning_rate or clamp, or dtype float32, keeps them finite",
        )


def _empty(shape: tuple[int, ...]) -> Array:
    array: Array = torch.empty(shape, dtype=torch.float64).numpy()
    return array
