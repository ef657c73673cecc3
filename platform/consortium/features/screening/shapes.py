"""Which arrays a party's message holds, and which shapes they must have at a layer.

Shapes: E edits, K key width, V value width, N columns of a factored form.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from consortium.common.counting import count
from consortium.merging.deltas import DeltaSum, DenseUpdate
from consortium.merging.method import Contribution
from consortium.merging.methods.global_edit import OwnedEdits
from consortium.merging.methods.ties import SignedSums
from consortium.merging.statistics import DenseStatistics, FactoredStatistics, Statistics

#: Name, array, and the shape it must have.
_Expected = tuple[str, NDArray[Any], tuple[int, int]]


def misfit(message: Contribution, shape: tuple[int, int]) -> str | None:
    """What does not fit the layer or the number of edits, in words; None where all does.

    Args:
        message: one party's.
        shape: [V, K] of the layer's weight.
    """
    for name, array, expected in _expected(message, *shape):
        if array.shape != expected:
            return f"{name} {list(array.shape)} in place of {list(expected)}"
    gram = message.gram if not isinstance(message, OwnedEdits) else None
    if isinstance(gram, FactoredStatistics) and gram.num_columns > message.num_edits:
        return f"{count(gram.num_columns, 'column')} for {count(message.num_edits, 'edit')}"
    return None


def _expected(message: Contribution, value_width: int, key_width: int) -> Iterator[_Expected]:
    shape_VK = value_width, key_width
    if isinstance(message, DenseStatistics | FactoredStatistics):
        yield from _of_statistics(message, value_width, key_width)
    elif isinstance(message, OwnedEdits):
        for keys_KE, residuals_VE in zip(message.keys, message.residuals, strict=False):
            yield "keys_KE", keys_KE, (key_width, message.num_edits)
            yield "residuals_VE", residuals_VE, (value_width, message.num_edits)
    elif isinstance(message, DeltaSum):
        yield from _of_statistics(message.gram, 0, key_width)
        if isinstance(message.update, DenseUpdate):
            yield "delta_VK", message.update.delta_VK, shape_VK
        else:
            weights_VN, solved_KN = message.update.weights_VN, message.update.solved_KN
            yield "weights_VN", weights_VN, (value_width, weights_VN.shape[-1])
            yield "solved_KN", solved_KN, (key_width, weights_VN.shape[-1])
    elif isinstance(message, SignedSums):
        yield from _of_statistics(message.gram, 0, key_width)
        for name in ("positive_VK", "negative_VK", "num_positive_VK", "num_negative_VK"):
            yield name, getattr(message, name), shape_VK


def _of_statistics(statistics: Statistics, value_width: int, key_width: int) -> Iterator[_Expected]:
    if isinstance(statistics, DenseStatistics):
        yield "gram_KK", statistics.gram_KK, (key_width, key_width)
        yield "cross_VK", statistics.cross_VK, (value_width, key_width)
    else:
        num_columns = statistics.factor_KN.shape[-1]
        yield "factor_KN", statistics.factor_KN, (key_width, num_columns)
        yield "image_VN", statistics.image_VN, (value_width, num_columns)
