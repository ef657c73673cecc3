"""The naive twin of :mod:`consortium.editing.key_covariance`: one text at a time, the whole model, every logit.

Kept as the oracle of tests and as the baseline of benchmarks: no batch of texts, no layer left out.

Shapes: K key width, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from consortium.models.language import LanguageModel
from numpy.typing import NDArray


@torch.no_grad()
def covariance_sum_naively(
    model: LanguageModel, texts: Sequence[Sequence[int]], layers: Sequence[int]
) -> dict[int, NDArray[np.float64]]:
    """Σ k·kᵀ [K, K] float64 of each layer over all tokens of ``texts``, which are token ids."""
    sums = {layer: np.zeros((model.key_width(layer), model.key_width(layer))) for layer in layers}
    seen: dict[int, torch.Tensor] = {}

    def reader(layer: int) -> Any:
        return lambda _module, args: seen.__setitem__(layer, args[0][0])

    handles = [model.projection(layer).register_forward_pre_hook(reader(layer)) for layer in layers]
    try:
        for ids in texts:
            model.model(input_ids=torch.tensor([list(ids)], device=model.device))
            for layer, keys_TK in seen.items():
                keys = keys_TK.double().cpu().numpy()
                sums[layer] += keys.T @ keys
    finally:
        for handle in handles:
            handle.remove()
    return sums
