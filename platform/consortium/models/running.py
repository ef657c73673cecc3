"""What running parts of a language model is made of: stand-ins for blocks, hooks, masks, a run that keeps its cache.

The model's own forward does all the work (embeddings, rotations, norms), so an architecture needs no code here:
blocks that shall not run are replaced, for the time of a call, by stand-ins that pass on what they are given.

Shapes: R rows, Q columns that ask, T columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicCache

from consortium.models.language import LanguageModel


class PassOn(nn.Module):
    """Stands in for a block: returns the hidden state it is given, or one set beforehand."""

    def __init__(self, returns_tuple: bool, hidden: torch.Tensor | None = None) -> None:
        super().__init__()
        self.returns_tuple = returns_tuple
        self.hidden = hidden

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        """What a block would return, for the hidden state it is given or the one set beforehand."""
        hidden = hidden_states if self.hidden is None else self.hidden
        return (hidden,) if self.returns_tuple else hidden


@contextmanager
def blocks_replaced(model: LanguageModel, blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Let the model run these blocks in place of its own."""
    path, _, name = model.layout.blocks.rpartition(".")
    parent = model.model.get_submodule(path)
    original = getattr(parent, name)
    setattr(parent, name, nn.ModuleList(blocks))
    try:
        yield
    finally:
        setattr(parent, name, original)


@contextmanager
def hooked(handles: Sequence[Any]) -> Iterator[None]:
    """Take hooks away when the block ends."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_output(output: Any) -> torch.Tensor:
    """The hidden state that a block returns, alone or first in a tuple."""
    hidden = output[0] if isinstance(output, tuple) else output
    assert isinstance(hidden, torch.Tensor)
    return hidden


def attention_mask_of(model: LanguageModel, mask_RQT: torch.Tensor) -> torch.Tensor:
    """The mask as the model's attention takes it: boolean for sdpa, something to add to the scores for eager."""
    mask = mask_RQT[:, None].to(model.device)
    if model.layout.attention == "sdpa":
        return mask
    added = torch.zeros(mask.shape, dtype=model.dtype, device=model.device)
    return added.masked_fill_(~mask, torch.finfo(model.dtype).min)


RowTensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Ids [R, T], positions [R, T] and mask [R, T, T] of sequences in rows."""


@torch.no_grad()
def run_whole(model: LanguageModel, rows: RowTensors) -> DynamicCache:
    """Run the whole decoder; the keys and values of all its blocks."""
    cache = DynamicCache()
    ids_RT, positions_RT, mask_RTT = rows
    model.base(
        input_ids=ids_RT.to(model.device),
        attention_mask=attention_mask_of(model, mask_RTT),
        position_ids=positions_RT.to(model.device),
        past_key_values=cache,
        use_cache=True,
    )
    return cache
