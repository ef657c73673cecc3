"""What messages are measured against: how long keys, outputs and weights of the unedited model are.

    a = √(tr C / λ)                 the length of a key in ordinary text, C = λ·E[kkᵀ]
    w = ‖W₀‖F                       the size of the unedited weight
    b = a·w / √K                    the length of what W₀ puts out for a key of length a, on average over directions

All follow from the scenario: the model, and the key covariance that is measured on it.

Shapes: K key width, V value width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consortium.common.arrays import Array, length


@dataclass(frozen=True)
class ReferenceNorms:
    """The measures of one layer.

    Attributes:
        shape: [V, K] of its weight.
        key_length: a.
        weight_norm: w; 0 for an empty memory, against which no residual or update can be measured.
    """

    shape: tuple[int, int]
    key_length: float
    weight_norm: float

    @property
    def output_length(self) -> float:
        """b."""
        return self.key_length * self.weight_norm / math.sqrt(self.shape[1])


def all_reference_norms(
    base_weights: Mapping[int, NDArray[np.float32]], sums: Mapping[int, Array], num_tokens: int
) -> dict[int, ReferenceNorms]:
    """Layer → its measures.

    Args:
        base_weights: layer → the unedited weight [V, K].
        sums: layer → Σ k·kᵀ [K, K] over the key covariance's text.
        num_tokens: its length.
    """
    return {
        layer: ReferenceNorms(
            (weight_VK.shape[0], weight_VK.shape[1]),
            math.sqrt(float(np.trace(sums[layer])) / num_tokens),
            length(weight_VK),
        )
        for layer, weight_VK in base_weights.items()
    }
