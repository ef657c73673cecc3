"""A causal language model in memory: its parts by name, its editable weights, its logits.

Shapes: E edits, K key width (input of the MLP's last projection), V value width (its output, which is the
width of the hidden states), T tokens, N vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from consortium.common.errors import ModelError
from consortium.models.context import Reading, reading_of
from consortium.models.layouts import ModelLayout, layout_of
from consortium.models.output_norm import change_before_norm

#: Transformers' name of blocks whose tokens attend within a window.
_SLIDING = "sliding_attention"


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model of transformers, in evaluation mode and without gradients of its weights.

    Attributes:
        model: the whole model.
        tokenizer: its tokenizer, a fast one (character offsets are needed).
        layout: where its parts are.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    layout: ModelLayout

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._projection_weight(0).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self._projection_weight(0).dtype

    @property
    def text_config(self) -> Any:
        """The config of the decoder (of a model that also sees pictures, its text part)."""
        return self.model.config.get_text_config()

    @property
    def base(self) -> nn.Module:
        """The decoder without its head; its ``last_hidden_state`` is after the final norm."""
        return self.model.get_submodule(self.layout.base)

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder's blocks in order."""
        blocks = self.model.get_submodule(self.layout.blocks)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    @property
    def norm(self) -> nn.Module:
        """The final norm."""
        return self.model.get_submodule(self.layout.norm)

    @property
    def head(self) -> nn.Module:
        """The output embedding."""
        return self.model.get_submodule(self.layout.head)

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @cached_property
    def reading(self) -> Reading:
        """How long a text it reads."""
        return reading_of(self.model.config)

    @property
    def hidden_width(self) -> int:
        """Width of the hidden states."""
        return int(self.text_config.hidden_size)

    def projection(self, layer: int) -> nn.Module:
        """The MLP's last projection of a block: its input is a key, its output a value."""
        return self.blocks[layer].get_submodule(self.layout.projection)

    def key_width(self, layer: int) -> int:
        """K of a layer."""
        return self.weight_VK(layer).shape[1]

    def value_width(self, layer: int) -> int:
        """V of a layer."""
        return self.weight_VK(layer).shape[0]

    def weight_VK(self, layer: int) -> torch.Tensor:
        """The layer's live editable weight as [V, K], whichever way it is stored; stale after ``set_weights``."""
        weight = self._projection_weight(layer)
        return weight.T if self.layout.transposed else weight

    def set_weights(self, weights: Mapping[int, NDArray[np.float32] | torch.Tensor]) -> None:
        """Put new weights [V, K] into layers, cast to the model's dtype.

        The parameters get storage of their own: the loaded ones may be pages of a file that other processes
        map too, and the given arrays may be read-only or change later.

        Raises:
            ModelError: a weight has another shape than the layer.
        """
        for layer, new_VK in weights.items():
            expected = tuple(self.weight_VK(layer).shape)
            if tuple(new_VK.shape) != expected:
                raise ModelError(
                    f"a weight of shape {tuple(new_VK.shape)} for layer {layer}",
                    f"shape {expected} (value width, key width)",
                    "use weights that were made for this model",
                )
            source_VK = new_VK.detach() if isinstance(new_VK, torch.Tensor) else torch.tensor(new_VK)
            stored = source_VK.T if self.layout.transposed else source_VK
            own = torch.empty(stored.shape, dtype=self.dtype, device=self.device).copy_(stored)
            self.projection(layer).weight = nn.Parameter(own, requires_grad=False)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [..., N] of hidden states [..., V] that have passed the final norm, in the model's dtype."""
        logits: torch.Tensor = self.head(hidden)
        cap = self.logit_cap
        return logits if cap is None else torch.tanh(logits / cap) * cap

    @property
    def logit_cap(self) -> float | None:
        """Logits c become cap · tanh(c / cap); None where the model leaves them as they are."""
        cap: float | None = getattr(self.text_config, "final_logit_softcapping", None)
        return cap if self.layout.caps_logits else None

    @property
    def windows(self) -> tuple[int | None, ...]:
        """For each block, how many tokens a token attends to at most, itself included; None for all before it."""
        config, layout = self.text_config, self.layout
        window: int | None = getattr(config, "sliding_window", None)
        if layout.windows == "by_type":
            return tuple(window if kind == _SLIDING else None for kind in config.layer_types[: self.num_layers])
        return (window if layout.windows == "all" else None,) * self.num_layers

    def output_change(self, layer: int, outputs_EV: torch.Tensor, wanted_EV: torch.Tensor) -> torch.Tensor:
        """The change [E, V] of the projection's output that gives a change wanted of the residual stream; float64.

        The same change, where outputs are added as they are. Where they pass an RMS norm first (Gemma), the one that
        comes nearest: a large change is reached in part only, and is best shared over several layers.

        Args:
            layer: the layer.
            outputs_EV: the projection's outputs as they are now.
            wanted_EV: the change wanted after the block's addition; float64 on the CPU.
        """
        if self.layout.output_norm is None:
            return wanted_EV
        norm = self.blocks[layer].get_submodule(self.layout.output_norm)
        # A norm of ones is its gain g, however the architecture stores it (Gemma keeps g - 1).
        gain_V = norm(torch.ones(outputs_EV.shape[-1], dtype=self.dtype, device=self.device)).double().cpu()
        return change_before_norm(outputs_EV.double().cpu(), wanted_EV, gain_V, self.text_config.rms_norm_eps)

    def weights_hash(self) -> str:
        """SHA-256 over the names and bytes of all parameters: equal hashes mean an unchanged model."""
        digest = hashlib.sha256()
        for name, parameter in sorted(self.model.named_parameters()):
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _projection_weight(self, layer: int) -> torch.Tensor:
        weight = self.projection(layer).weight
        assert isinstance(weight, torch.Tensor)
        return weight.detach()


def check_is_causal(config: Any) -> None:
    """Refuse a config by which tokens attend to later ones, as in models that were made to embed texts.

    Raises:
        ModelError: it says so.
    """
    text_config = config.get_text_config()
    for key, causal in (("is_causal", True), ("use_bidirectional_attention", False)):
        value = getattr(text_config, key, None)
        if value is not None and value != causal:
            raise ModelError(
                f"the model's config.json says {key}: {value}, so its tokens attend to later ones",
                "a causal language model, whose tokens attend to earlier ones alone",
                "choose a model that continues texts",
            )


def language_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> LanguageModel:
    """Wrap a loaded model: evaluation mode, no gradients of its weights, layout by its config's model_type.

    Raises:
        ModelError: the architecture is not known or not causal, or the tokenizer gives no character offsets.
    """
    layout = layout_of(model.config.model_type)
    check_is_causal(model.config)
    if not tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer {type(tokenizer).__name__} gives no character offsets",
            "a fast tokenizer, kept in tokenizer.json",
            "convert it with transformers (AutoTokenizer) and save it beside the model",
        )
    model.train(False)
    model.requires_grad_(False)
    return LanguageModel(model, tokenizer, layout)
