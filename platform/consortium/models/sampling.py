"""Sampling text from a language model with a generator of one's own (transformers' generate draws globally).

Shapes: B texts, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from consortium.models.language import LanguageModel

#: Ordinary ways to begin a text; sampled texts start with one of them.
OPENERS = (
    "The", "In", "A", "This", "It", "When", "For", "As", "On", "At", "He", "She", "They", "We", "There", "One",
    "After", "During", "While", "Many", "Most", "Some", "If", "But", "According to", "The first", "In the",
    "Because", "Although", "Since", "New", "From", "By", "With", "How", "What", "Who", "Today", "People", "Research",
)  # fmt: skip


class _Room(CacheLayerMixin):
    """Keys and values of one block in storage for ``num_tokens`` columns made at once (growing copies all of it)."""

    is_sliding = False

    def __init__(self, num_tokens: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_tokens = num_tokens
        self.num_taken = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        def room(states: torch.Tensor) -> torch.Tensor:
            return states.new_empty(*states.shape[:2], self.num_tokens, states.shape[3])

        self.keys, self.values = room(key_states), room(value_states)
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        before = self.num_taken
        self.num_taken += key_states.shape[2]
        self.keys[:, :, before : self.num_taken] = key_states
        self.values[:, :, before : self.num_taken] = value_states
        return self.keys[:, :, : self.num_taken], self.values[:, :, : self.num_taken]

    def get_seq_length(self) -> int:
        return self.num_taken

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.num_taken + query_length, 0

    def get_max_length(self) -> int:
        return -1


@contextmanager
def _computing_in(model: LanguageModel, dtype: torch.dtype) -> Iterator[None]:
    """Lend the model weights of another type; its own come back as they were, in their own storage."""
    own = [(parameter, parameter.data) for parameter in model.model.parameters()]
    try:
        for parameter, data in own:
            parameter.data = data.to(dtype)
        yield
    finally:
        for parameter, data in own:
            parameter.data = data


@torch.no_grad()
def sample_tokens(
    model: LanguageModel,
    start_ids: list[list[int]],
    num_tokens: int,
    generator: torch.Generator,
    top_k: int = 50,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Continue each start until it is ``num_tokens`` long; [B, num_tokens] ids on the CPU.

    Draws from the ``top_k`` likeliest tokens at temperature 1. Draws are made on the CPU in float64, so
    that one generator gives the same text wherever the logits agree. With ``dtype`` the model computes in that
    type instead of its own; the model itself stays as it is.
    """
    longest = max(len(ids) for ids in start_ids)
    assert num_tokens >= longest
    ids_BT = torch.zeros(len(start_ids), num_tokens, dtype=torch.long)
    known_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    for row, ids in enumerate(start_ids):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        known_BT[row, : len(ids)] = True
    with _computing_in(model, dtype or model.dtype):
        fill_in(model, ids_BT, known_BT, 1, lambda logits_BN: draw(logits_BN, top_k, generator))
    return ids_BT


@torch.no_grad()
def fill_in(
    model: LanguageModel,
    ids_BT: torch.Tensor,
    known_BT: torch.Tensor,
    num_ahead: int,
    choose: Callable[[torch.Tensor], torch.Tensor],
    until_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """Write the tokens that are not known, column after column, into ``ids_BT`` itself.

    Returns [B], on the CPU: whether the logits of all tokens that were written to a row were finite.

    Args:
        model: the model.
        ids_BT: ids on the CPU; those that are not known do not matter.
        known_BT: which are known; the first ``num_ahead`` columns are in every row.
        num_ahead: columns that run together at first, at least one.
        choose: the next token of each row [B], on the CPU, from logits [B, N].
        until_B: length of each row's text; what is written behind it does not matter. None for all columns.
    """
    num_tokens = ids_BT.shape[1]
    is_sound_B = torch.ones(len(ids_BT), dtype=torch.bool)
    cache = Cache(layers=[_Room(num_tokens) for _ in range(model.num_layers)])
    begin = 0
    for end in range(num_ahead, num_tokens):
        step = ids_BT[:, begin:end].to(model.device)
        hidden = model.base(input_ids=step, past_key_values=cache, use_cache=True).last_hidden_state[:, -1]
        logits_BN = model.logits(hidden)
        # The largest logit is not finite where any is NaN or plus infinity; minus infinity is a token never said.
        is_read_B = ~known_BT[:, end] if until_B is None else ~known_BT[:, end] & (end < until_B)
        is_sound_B &= ~is_read_B | logits_BN.amax(-1).isfinite().cpu()
        ids_BT[:, end] = torch.where(known_BT[:, end], ids_BT[:, end], choose(logits_BN))
        begin = end
    return is_sound_B


def draw(logits_BN: torch.Tensor, top_k: int, generator: torch.Generator) -> torch.Tensor:
    """One of the ``top_k`` likeliest tokens for each row [B], on the CPU; any where the logits are not finite."""
    values, candidates = logits_BN.float().topk(top_k, dim=-1)
    chances = values.double().cpu().softmax(-1)
    chances = torch.where(chances.isfinite().all(-1, keepdim=True), chances, 1 / top_k)
    return candidates.cpu().gather(1, torch.multinomial(chances, 1, generator=generator))[:, 0]
