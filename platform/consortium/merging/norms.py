"""Norms of a message, in multiples of the unedited model's usual ones (:mod:`consortium.merging.reference_norms`).

    keys         √(tr gram / n) / a                the length of its keys, root mean square over n edits
    residuals    ‖cross‖F / √(n·tr gram) / b       at most the length of its residuals, root mean square
    update       ‖Δ‖F / (√n·w)

For cross = R·Kᵀ, ‖cross‖F ≤ ‖R‖F·‖K‖F, so no honest party's residuals are longer than the second says; for a single
edit, and for keys at right angles, they are just as long. RegMean's and Fisher's parties send Δ·G̃ in the place of an
update, G̃ having a trace of at most tr(C + H) + tr gram, so that many times more is usual.

Shapes: K key width, V value width, N columns.
"""

from __future__ import annotations

import math

import numpy as np

from consortium.common.arrays import Array, length, tensor_of
from consortium.merging.deltas import DeltaSum, FactoredUpdate
from consortium.merging.method import Contribution, MergeMethod
from consortium.merging.methods.global_edit import OwnedEdits
from consortium.merging.methods.regmean import RegMean
from consortium.merging.methods.ties import SignedSums
from consortium.merging.reference_norms import ReferenceNorms
from consortium.merging.statistics import DenseStatistics, FactoredStatistics, Statistics

RelativeNorms = dict[str, float]


def relative_norms_of(
    message: Contribution, reference_norms: ReferenceNorms, system_trace: float | None = None
) -> RelativeNorms:
    """The sizes of what a message holds by name; none of what cannot be measured.

    Args:
        message: of one party, with finite numbers and the shapes of the layer.
        reference_norms: the layer's.
        system_trace: tr(C + H), where the party sends Δ·G̃; None where it sends Δ, or none.
    """
    num_edits = max(1, message.num_edits)
    if isinstance(message, OwnedEdits):
        keys, residuals = length(*message.keys), length(*message.residuals)
        measured = {"keys": (keys, reference_norms.key_length), "residuals": (residuals, reference_norms.output_length)}
        return _relative({name: (size / math.sqrt(num_edits), unit) for name, (size, unit) in measured.items()})
    keys = _root_of_trace(message.gram)
    measured = {"keys": (keys / math.sqrt(num_edits), reference_norms.key_length)}
    if isinstance(message, DenseStatistics | FactoredStatistics):
        residuals = _cross_length(message) / keys if keys else 0.0
        measured["residuals"] = residuals / math.sqrt(num_edits), reference_norms.output_length
    elif isinstance(message, DeltaSum | SignedSums):
        unit = reference_norms.weight_norm * math.sqrt(num_edits)
        measured["update"] = _update_length(message), unit if system_trace is None else unit * (system_trace + keys**2)
    return _relative(measured)


def sends_weighted_updates(method: MergeMethod) -> bool:
    """Whether a method's parties send Δ·G̃ in the place of an update."""
    return isinstance(method, RegMean)


def _relative(measured: dict[str, tuple[float, float]]) -> RelativeNorms:
    return {name: size / unit for name, (size, unit) in measured.items() if unit}


def _root_of_trace(gram: Statistics) -> float:
    """√tr of the Gram sums; the trace of a matrix which is none may be negative and counts as zero."""
    if isinstance(gram, FactoredStatistics):
        return length(gram.factor_KN)
    return math.sqrt(max(0.0, float(np.trace(gram.gram_KK))))


def _cross_length(statistics: Statistics) -> float:
    if isinstance(statistics, FactoredStatistics):
        return _product_length(statistics.image_VN, statistics.factor_KN)
    return length(statistics.cross_VK)


def _update_length(message: DeltaSum | SignedSums) -> float:
    if isinstance(message, SignedSums):
        return length(message.positive_VK, message.negative_VK)
    if isinstance(message.update, FactoredUpdate):
        return _product_length(message.update.weights_VN, message.update.solved_KN)
    return length(message.update.delta_VK)


def _product_length(left_VN: Array, right_KN: Array) -> float:
    """‖left·rightᵀ‖F from N×N matrices: ‖left·rightᵀ‖² = Σ (leftᵀ·left)∘(rightᵀ·right)."""
    left, right = tensor_of(left_VN), tensor_of(right_KN)
    return math.sqrt(max(0.0, float(((left.T @ left) * (right.T @ right)).sum())))
