"""Where the editable weights of each known architecture are: one table, looked up by the config's model_type.

Paths are attribute names joined by dots, as in ``named_modules``. Every architecture here is decoder-only and
adds the output of its MLP to the residual stream, so a block's output is linear in its projection's weight
unless :attr:`Layout.output_norm` says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from consortium.common.errors import ModelError


@dataclass(frozen=True)
class ModelLayout:
    """Names of the parts of one architecture.

    Attributes:
        base: the decoder without its head; calling it gives hidden states after the final norm.
        blocks: the list of decoder blocks.
        projection: within a block, the MLP's last projection, whose weight is edited.
        norm: the final norm.
        head: the output embedding.
        transposed: the projection stores its weight as [K, V] (GPT-2's Conv1D) instead of [V, K].
        output_norm: within a block, a norm that the MLP's output passes before it is added to the residual
            stream; None where the output is added as it is. With such a norm a residual of the hidden state
            is not one of the projection's output: see ``LanguageModel.output_change``.
        parallel: attention and MLP read the same normed input, so a block's keys do not see its own attention.
        returns_tuple: a block returns a tuple that begins with the hidden states, instead of those alone.
        attention: the attention implementation of transformers that computes this architecture correctly.
        windows: which blocks attend within the config's ``sliding_window`` alone: ``none`` (the architecture knows no
            such thing, whatever a config says), ``all`` blocks, or those that the config's ``layer_types`` name.
        caps_logits: the model applies the config's ``final_logit_softcapping``; others ignore it.
    """

    base: str
    blocks: str
    projection: str
    norm: str
    head: str = "lm_head"
    transposed: bool = False
    output_norm: str | None = None
    parallel: bool = False
    returns_tuple: bool = False
    attention: Literal["sdpa", "eager"] = "sdpa"
    windows: Literal["none", "all", "by_type"] = "none"
    caps_logits: bool = False


_LLAMA = ModelLayout(base="model", blocks="model.layers", projection="mlp.down_proj", norm="model.norm")
_WINDOWED = replace(_LLAMA, windows="all")
_WINDOWED_BY_TYPE = replace(_LLAMA, windows="by_type")

LAYOUTS: dict[str, ModelLayout] = {
    "gpt2": ModelLayout(
        base="transformer",
        blocks="transformer.h",
        projection="mlp.c_proj",
        norm="transformer.ln_f",
        transposed=True,
    ),
    # GPT-J has no sdpa implementation in transformers.
    "gptj": ModelLayout(
        base="transformer",
        blocks="transformer.h",
        projection="mlp.fc_out",
        norm="transformer.ln_f",
        parallel=True,
        returns_tuple=True,
        attention="eager",
    ),
    "llama": _LLAMA,
    "mistral": _WINDOWED,
    "qwen2": _WINDOWED_BY_TYPE,
    "qwen3": _WINDOWED_BY_TYPE,
    # Gemma 2 caps its attention scores, which sdpa cannot do.
    "gemma2": ModelLayout(
        base="model",
        blocks="model.layers",
        projection="mlp.down_proj",
        norm="model.norm",
        output_norm="post_feedforward_layernorm",
        attention="eager",
        windows="by_type",
        caps_logits=True,
    ),
    "gemma3_text": ModelLayout(
        base="model",
        blocks="model.layers",
        projection="mlp.down_proj",
        norm="model.norm",
        output_norm="post_feedforward_layernorm",
        windows="by_type",
        caps_logits=True,
    ),
    # The model that also sees pictures; only its language model is run.
    "gemma3": ModelLayout(
        base="model.language_model",
        blocks="model.language_model.layers",
        projection="mlp.down_proj",
        norm="model.language_model.norm",
        output_norm="post_feedforward_layernorm",
        windows="by_type",
    ),
    "phi": ModelLayout(
        base="model",
        blocks="model.layers",
        projection="mlp.fc2",
        norm="model.final_layernorm",
        parallel=True,
    ),
    "phi3": _WINDOWED,
}


#: Architectures whose block is: norm, rotary attention with grouped heads, norm, gated MLP, both added to the stream.
LLAMA_FAMILY = ("llama", "mistral", "qwen2", "qwen3")


def layout_of(model_type: str) -> ModelLayout:
    """The layout of an architecture, by its exact model_type.

    Raises:
        ModelError: the architecture is not in the table.
    """
    if model_type not in LAYOUTS:
        raise ModelError(
            f"the model's architecture is {model_type!r}",
            f"one of {', '.join(sorted(LAYOUTS))}",
            "choose a model of a known architecture, or add its layout to consortium/models/layouts.py",
        )
    return LAYOUTS[model_type]
