"""Models of known sizes with random weights, built on their device without any download: right for timing only."""

from __future__ import annotations

from typing import Any

import torch
from consortium.common.errors import InputError
from consortium.common.seeds import derive
from consortium.models.bundled import bundled_folder
from consortium.models.language import LanguageModel, language_model
from consortium.models.layouts import layout_of
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

_LLAMA: dict[str, Any] = {"model_type": "llama", "max_position_embeddings": 8192, "rope_theta": 500000.0}

#: Sizes as the models' published configs say them; the bundled tokenizer's vocabulary fits into each.
SHAPES: dict[str, dict[str, Any]] = {
    "llama-1b": {
        **_LLAMA,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "llama-8b": {
        **_LLAMA,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "gptj-6b": {
        "model_type": "gptj",
        "n_embd": 4096,
        "n_layer": 28,
        "n_head": 16,
        "rotary_dim": 64,
        "n_positions": 2048,
        "vocab_size": 50400,
        "tie_word_embeddings": False,
    },
    "llama-tiny": {
        **_LLAMA,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 49152,
    },
}

_Config: Any = AutoConfig
_CausalLM: Any = AutoModelForCausalLM


def random_model(shape: str, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    """A model of a shape; each output of a matrix is of the size of its inputs, as in trained models.

    Raises:
        InputError: no such shape.
    """
    if shape not in SHAPES:
        raise InputError(f"--random-shape {shape}", f"one of {', '.join(SHAPES)}", "write one of these names")
    settings = dict(SHAPES[shape])
    model_type = settings.pop("model_type")
    # Transformers draws its first weights from torch's global generator; they are drawn again below.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.device(device):
        config = _Config.for_model(model_type, **settings)
        model = _CausalLM.from_config(config, dtype=dtype, attn_implementation=layout_of(model_type).attention)
    generator = torch.Generator(device).manual_seed(derive(0, "random-shape", shape))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
    return language_model(model, AutoTokenizer.from_pretrained(bundled_folder("float32")))
