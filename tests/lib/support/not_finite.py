"""Models that overflow on some prompts: a token whose embedding is not finite stands in for the one that does it.

model = with_bad_token(pico_model("llama"))       # every text with a Q in it gives NaN, and no other text does
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from consortium.models.language import LanguageModel
from support.pico import pico_model
from torch import nn

BAD = "Q"
"""The text that the token stands for."""


def with_bad_token(model: LanguageModel, value: float = math.nan, bad: str = BAD) -> LanguageModel:
    """The model itself, its embedding of a token overwritten; a head that shares the embeddings keeps them as is."""
    embeddings, head = model.model.get_input_embeddings(), model.head
    assert isinstance(head, nn.Linear)
    if head.weight is embeddings.weight:
        model.model.config.tie_word_embeddings = False
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    token = model.tokenizer(bad, add_special_tokens=False)["input_ids"][-1]
    with torch.no_grad():
        embeddings.weight[token] = value
    return model


def bad_token_folder(folder: Path, model_type: str = "llama", **settings: object) -> Path:
    """Such a model with its tokenizer as a local model folder."""
    wrapped = with_bad_token(pico_model(model_type, **settings))  # type: ignore[arg-type]
    wrapped.model.save_pretrained(folder)
    wrapped.tokenizer.save_pretrained(folder)
    return folder
