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

#: One mask for all blocks, or one for each type of block.
AttentionMask = torch.Tensor | dict[str, torch.Tensor]


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


def attention_mask_of(model: LanguageModel, mask_RQT: torch.Tensor, position_RT: torch.Tensor) -> AttentionMask:
    """The mask as the model's decoder takes it; it replaces the decoder's own, so it holds the model's windows too.

    One mask for all blocks, or one for each type of block where types differ and some sequence is longer than the
    window. A window counts positions: in a tree those of a token's ancestors, not columns.

    Args:
        model: the model.
        mask_RQT: which column sees which, windows aside.
        position_RT: positions of all columns; the Q columns that ask are the last ones.
    """
    windows = {window for window in model.windows if window is not None and int(position_RT.max()) >= window}
    if not windows:
        return _as_taken(model, mask_RQT)
    assert len(windows) == 1, "transformers knows one window for all blocks that have one"
    distance_RQT = position_RT[:, -mask_RQT.shape[1] :, None] - position_RT[:, None, :]
    # As transformers has it (masking_utils.sliding_window_overlay): with a window of w, w - 1 tokens back and itself.
    in_window = _as_taken(model, mask_RQT & (distance_RQT < windows.pop()))
    if model.layout.windows == "all":
        return in_window
    return {"full_attention": _as_taken(model, mask_RQT), "sliding_attention": in_window}


def _as_taken(model: LanguageModel, mask_RQT: torch.Tensor) -> torch.Tensor:
    """Boolean for sdpa, something to add to the scores for eager."""
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
        attention_mask=attention_mask_of(model, mask_RTT, positions_RT),
        position_ids=positions_RT.to(model.device),
        past_key_values=cache,
        use_cache=True,
    )
    return cache
