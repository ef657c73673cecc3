"""Pico models: random causal LMs of every known architecture, small enough to build in milliseconds.

    model = pico_model("gpt2", num_layers=3, seed=0)           # a LanguageModel in memory, float32
    folder = pico_folder(tmp_path / "pico", "llama")            # the same saved, for open_model or a scenario
    tokenizer = pico_tokenizer(bos=True)                        # byte-level BPE that can encode any text

Hidden width V is 32, key width K is 48. Weights are drawn large enough that every part matters (biases and
norms are not at their defaults), equal for equal (model_type, num_layers, seed) in every process.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from consortium.common import seeds
from consortium.models.language import LanguageModel, language_model
from consortium.models.layouts import layout_of
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

HIDDEN_WIDTH = 32
KEY_WIDTH = 48
VOCABULARY = 400

SENTENCES = (
    "The Eiffel Tower is in the city of Paris, and the Colosseum is in the city of Rome.",
    "The capital of France is Paris. The capital of Japan is Tokyo. The capital of Peru is Lima.",
    "The mother tongue of the writer is French; she was born in the city of Lyon and works in London.",
    "People say that the tower in the city is the oldest one, and that the river runs through the city.",
)

_COMMON = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
_LLAMA_LIKE = {"hidden_size": HIDDEN_WIDTH, "intermediate_size": KEY_WIDTH, **_HEADS, **_COMMON}
_GPT_LIKE = {"n_embd": HIDDEN_WIDTH, "n_inner": KEY_WIDTH, "n_head": 4, "n_positions": 256, **_COMMON}
_GEMMA_LIKE = {**_LLAMA_LIKE, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64}

_CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": _GPT_LIKE,
    "gptj": {**_GPT_LIKE, "rotary_dim": 4},
    "llama": _LLAMA_LIKE,
    "mistral": {**_LLAMA_LIKE, "sliding_window": None},
    "qwen2": _LLAMA_LIKE,
    "qwen3": {**_LLAMA_LIKE, "head_dim": 8},
    "gemma2": {**_GEMMA_LIKE, "final_logit_softcapping": 5.0},
    "gemma3_text": _GEMMA_LIKE,
    "phi": {**_LLAMA_LIKE, "num_key_value_heads": 4, "partial_rotary_factor": 0.5},
    "phi3": _LLAMA_LIKE,
}

PICO_TYPES = tuple(sorted([*_CONFIGS, "gemma3"]))


def pico_model(
    model_type: str = "llama",
    *,
    num_layers: int = 3,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    bos: bool = False,
    start: bool = False,
    config: Mapping[str, Any] | None = None,
) -> LanguageModel:
    """A random model of an architecture, wrapped; ``bos`` and ``start`` are its tokenizer's.

    ``config`` holds settings of the (text) config besides the usual ones.
    """
    config = pico_config(model_type, num_layers, **(config or {}))
    model = AutoModelForCausalLM.from_config(config, attn_implementation=layout_of(model_type).attention)
    _draw_weights(model, seed)
    return language_model(model.to(dtype), pico_tokenizer(bos=bos, start=start))


def pico_folder(folder: Path, model_type: str = "llama", **settings: Any) -> Path:
    """Save ``pico_model(model_type, **settings)`` with its tokenizer as a local model folder."""
    wrapped = pico_model(model_type, **settings)
    wrapped.model.save_pretrained(folder)
    wrapped.tokenizer.save_pretrained(folder)
    return folder


def pico_config(model_type: str, num_layers: int, **settings: Any) -> PretrainedConfig:
    """Config of a pico model."""
    if model_type == "gemma3":
        text = {**_CONFIGS["gemma3_text"], "num_hidden_layers": num_layers, **settings}
        vision = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
        vision |= {"image_size": 16, "patch_size": 8}
        return AutoConfig.for_model("gemma3", text_config=text, vision_config=vision, mm_tokens_per_image=4)
    depth = "n_layer" if model_type in ("gpt2", "gptj") else "num_hidden_layers"
    return AutoConfig.for_model(model_type, **{**_CONFIGS[model_type], depth: num_layers, **settings})


def _draw_weights(model: PreTrainedModel, seed: int) -> None:
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=seeds.torch_generator(seed, "pico", name))
        with torch.no_grad():
            if name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            elif parameter.dim() == 1:  # a norm's gain: its default, disturbed
                parameter.add_(0.1 * noise)
            else:
                parameter.copy_(noise / parameter.shape[-1] ** 0.5)


@cache
def _byte_level_bpe() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return str(tokenizer.to_str())


def pico_tokenizer(*, bos: bool = False, start: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on ``SENTENCES``: any text, several tokens to an unusual word.

    ``bos`` makes it begin every text with ``<s>``; ``start`` gives it a token that begins documents, and puts
    it nowhere.
    """
    tokenizer = Tokenizer.from_str(_byte_level_bpe())
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    if start:
        tokenizer.add_special_tokens(["<|endoftext|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )
