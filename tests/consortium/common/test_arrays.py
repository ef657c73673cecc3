import warnings

import numpy as np
import pytest
import torch
from consortium.common.arrays import array_of, require_finite, side_by_side, tensor_of
from consortium.common.errors import StatisticsError


def misaligned(values):
    """A read-only copy that starts 8 bytes after a 64-byte boundary, as a message buffer may."""
    buffer = np.zeros(values.nbytes + 128, dtype=np.uint8)
    start = -buffer.ctypes.data % 64 + 8
    array = buffer[start : start + values.nbytes].view(np.float64).reshape(values.shape)
    array[...] = values
    array.setflags(write=False)
    return array


def test_arrays_are_read_only_float64_and_contiguous():
    array = array_of(torch.arange(6, dtype=torch.float32).reshape(2, 3).T)
    assert array.dtype == np.float64
    assert array.flags.c_contiguous
    assert not array.flags.writeable
    assert array.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_read_only_array_is_viewed_without_copy_or_warning():
    array = array_of(torch.randn(4, 4, dtype=torch.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tensor_of(array).data_ptr() == array.ctypes.data


def test_a_misaligned_array_gives_an_aligned_tensor():
    array = misaligned(np.arange(12.0).reshape(3, 4))
    tensor = tensor_of(array)
    assert tensor.data_ptr() % 64 == 0
    assert tensor.tolist() == array.tolist()


def test_joined_columns_are_aligned_and_right():
    left, right = misaligned(np.array([[1.0, 2.0]])), np.array([[10.0, 20.0]])
    made = side_by_side([left, right])
    assert made.tolist() == [[1, 2, 10, 20]]
    assert made.ctypes.data % 64 == 0
    assert not made.flags.writeable


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_named_and_counted(bad):
    with pytest.raises(StatisticsError, match=r"delta: 1 of 3 numbers are NaN or infinite"):
        require_finite(np.array([1.0, bad, 2.0]), "delta")
