"""One layer's merge, and how far merged weights are from others.

Shapes: K key width, V value width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consortium.common.errors import NotFiniteError
from consortium.merging.arm_state import ArmState
from consortium.merging.history import GramHistory, grown
from consortium.merging.key_overlap import KeyOverlap
from consortium.merging.method import Contribution, MergeMethod
from consortium.merging.solver import CovarianceSolver


@dataclass(frozen=True)
class Merged:
    """What merging one layer gives: the new weight [V, K] float32 and history; None for a history of zero."""

    weight_VK: NDArray[np.float32]
    history: GramHistory | None


def merge_layer(
    method: MergeMethod,
    total: Contribution,
    solver: CovarianceSolver,
    weight_VK: NDArray[np.float32],
    history: GramHistory | None,
    history_weight: float,
    largest: float = math.inf,
) -> Merged:
    """W + Δ and H + h·Σ gram of one layer; Δ in float64, rounded once.

    Raises:
        NotFiniteError: the new weight is not finite, or has a number above ``largest``, what the model's type can hold.
    """
    delta_VK = method.merge(total, solver)
    with np.errstate(over="ignore"):  # told below, in words
        new_VK = (weight_VK.astype(np.float64) + np.asarray(delta_VK)).astype(np.float32)
    if not np.isfinite(new_VK).all():
        raise NotFiniteError(
            f"the merged weight of layer {total.basis.layer} in round {total.basis.round}, arm {total.basis.arm}, "
            "is not finite",
            "finite statistics and a key covariance that outweighs rounding",
            "raise editor.covariance_weight or editor.covariance.tokens, or lower editor.target.clamp",
        )
    if np.abs(new_VK).max(initial=0.0) > largest:
        raise NotFiniteError(
            f"the merged weight of layer {total.basis.layer} in round {total.basis.round}, arm {total.basis.arm}, "
            f"is not finite in the model's type: it has a number of {np.abs(new_VK).max():.3g}",
            f"numbers up to {largest:.5g}",
            "set model.dtype to bfloat16 or float32, raise editor.covariance_weight, or lower editor.target.clamp",
        )
    return Merged(new_VK, grown(history, total.gram, history_weight) if history_weight else history)


@dataclass(frozen=True)
class Distances:
    """How far an arm's weights are from the global arm's and from the unedited ones, over all edited layers.

    Beside it stands what the round's sums say of requests that meet; None where they say nothing.
    """

    weights_distance: float | None
    update_distance: float | None
    update_norm: float
    key_overlap: KeyOverlap | None = None


def distances(arm: ArmState, base: Mapping[int, NDArray[np.float32]], reference: ArmState | None) -> Distances:
    """Relative Frobenius distances: ‖W - W_global‖ / ‖W_global‖, ‖ΔW - ΔW_global‖ / ‖ΔW_global‖, ‖ΔW‖ / ‖W₀‖."""
    update_norm = _ratio(arm.weights, base, base)
    if reference is None:
        return Distances(None, None, update_norm)
    moved = {layer: _wide(weight) - _wide(base[layer]) for layer, weight in reference.weights.items()}
    weights_distance = _ratio(arm.weights, reference.weights, reference.weights)
    return Distances(weights_distance, _ratio(arm.weights, reference.weights, moved), update_norm)


def _wide(weight: NDArray[np.floating]) -> NDArray[np.float64]:
    return weight.astype(np.float64)


def _ratio(
    left: Mapping[int, NDArray[np.float32]],
    right: Mapping[int, NDArray[np.float32]],
    scale: Mapping[int, NDArray[np.floating]],
) -> float:
    above = sum(float(np.sum((_wide(left[layer]) - _wide(right[layer])) ** 2)) for layer in left)
    below = sum(float(np.sum(_wide(scale[layer]) ** 2)) for layer in left)
    return float(np.sqrt(above / below)) if below else 0.0
