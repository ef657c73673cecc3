"""The top of a language model, run again and again over the suffixes of some sequences (any architecture).

The attention mask is given whole, so packed sequences stay apart.

Shapes: N sequences, R rows, T columns, S columns of suffixes, V hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer

from consortium.models.hooks import (
    AttentionMask,
    PassOn,
    attention_mask_of,
    blocks_replaced,
    first_output,
    hooked,
    run_whole,
)
from consortium.models.language import LanguageModel
from consortium.models.packing import Packing, pack


class _FrozenPrefix(CacheLayerMixin):
    """Keys and values of the prefixes at one layer; new ones are attended to but not kept."""

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys: torch.Tensor = keys
        self.values: torch.Tensor = values
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise AssertionError("a frozen prefix is complete from the start")

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)

    def get_seq_length(self) -> int:
        return int(self.keys.shape[-2])

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1


@dataclass(frozen=True)
class Top:
    """The blocks above ``layer``, ready to be run many times over the suffixes of some sequences.

    Attributes:
        packing: how the sequences are laid out.
        hidden_RSV: hidden states of the suffixes after ``layer``, as the model makes them.
        prefix: block number → keys and values of the prefixes, [R, heads, split, width] each.
        positions_RS: positions of the suffixes.
        attention_mask: which suffix column sees which column, as the model takes it.
    """

    model: LanguageModel
    layer: int
    packing: Packing
    hidden_RSV: torch.Tensor
    prefix: Mapping[int, tuple[torch.Tensor, torch.Tensor]]
    positions_RS: torch.Tensor
    attention_mask: AttentionMask

    def suffix_places(self, numbers: Sequence[int], tokens: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows and columns, within the suffixes, of some tokens of some sequences."""
        places = [self.packing.place(number, token) for number, token in zip(numbers, tokens, strict=True)]
        rows, columns = (torch.tensor(part, device=self.model.device) for part in zip(*places, strict=True))
        return rows, columns - self.packing.split

    def take(self, numbers: Sequence[int]) -> Top:
        """The same for some of the sequences, packed anew."""
        old = self.packing
        new = pack([old.sequences[n] for n in numbers], [old.splits[n] for n in numbers])
        # Which old place each new place is filled from; padding is filled from anywhere, since nothing sees it.
        row_RT = torch.zeros(new.num_rows, new.width, dtype=torch.long)
        column_RT = torch.zeros_like(row_RT)
        column_RT[:, new.split :] = old.split
        for place, number in enumerate(numbers):
            row_RT[new.row_N[place], new.columns(place)] = old.row_N[number]
            column_RT[new.row_N[place], new.columns(place)] = torch.tensor(old.columns(number))
        row_RT, column_RT = row_RT.to(self.model.device), column_RT.to(self.model.device)
        before = row_RT[:, : new.split], column_RT[:, : new.split]
        behind = row_RT[:, new.split :], column_RT[:, new.split :] - old.split

        def moved(kept: torch.Tensor) -> torch.Tensor:
            return kept.transpose(1, 2)[before].transpose(1, 2)

        prefix = {layer: (moved(keys), moved(values)) for layer, (keys, values) in self.prefix.items()}
        return _top(self.model, self.layer, new, self.hidden_RSV[behind], prefix)

    def run(self, hidden_RSV: torch.Tensor) -> torch.Tensor:
        """Final hidden states [R, S, V] (after the last norm) of suffixes with ``hidden_RSV`` after ``layer``."""
        model, as_tuple = self.model, self.model.layout.returns_tuple
        blocks = [PassOn(as_tuple)] * self.layer + [PassOn(as_tuple, hidden_RSV)]
        # Blocks that do not run still tell how long the prefix is.
        unused = hidden_RSV.new_zeros(len(hidden_RSV), 1, self.packing.split, 1)
        layers: list[Any] = [
            _FrozenPrefix(*self.prefix.get(number, (unused, unused))) for number in range(model.num_layers)
        ]
        with blocks_replaced(model, [*blocks, *model.blocks[self.layer + 1 :]]):
            output = model.base(
                inputs_embeds=hidden_RSV.detach(),
                attention_mask=self.attention_mask,
                position_ids=self.positions_RS,
                past_key_values=Cache(layers=layers),
                use_cache=True,
            )
        final: torch.Tensor = output.last_hidden_state
        return final


def _top(
    model: LanguageModel,
    layer: int,
    packing: Packing,
    hidden_RSV: torch.Tensor,
    prefix: Mapping[int, tuple[torch.Tensor, torch.Tensor]],
) -> Top:
    _, positions_RT, mask_RTT = packing.tensors()
    positions_RS = positions_RT[:, packing.split :].to(model.device)
    mask = attention_mask_of(model, mask_RTT[:, packing.split :], positions_RT)
    return Top(model, layer, packing, hidden_RSV, prefix, positions_RS, mask)


@torch.no_grad()
def top_above(model: LanguageModel, packing: Packing, layer: int) -> Top:
    """Run all sequences through the model once and keep what running the blocks above ``layer`` again needs."""
    seen: list[torch.Tensor] = []
    handle = model.blocks[layer].register_forward_hook(lambda _m, _a, out: seen.append(first_output(out)))
    with hooked([handle]):
        cache = run_whole(model, packing.tensors())
    prefix = {}
    for number in range(layer + 1, model.num_layers):
        kept = cache.layers[number]
        assert isinstance(kept, DynamicLayer)
        keys, values = kept.keys, kept.values
        assert keys is not None
        assert values is not None
        prefix[number] = (keys[:, :, : packing.split].clone(), values[:, :, : packing.split].clone())
    return _top(model, layer, packing, seen[0][:, packing.split :].clone(), prefix)


class End(Protocol):
    """A sequence and what of it is optimised: a row of :mod:`consortium.editing.targets`."""

    @property
    def ids(self) -> Sequence[int]:
        """All tokens."""
        ...

    @property
    def subject(self) -> int:
        """Where the suffix begins: the token whose state is changed."""
        ...

    @property
    def num_read(self) -> int:
        """States of this many last tokens are read; none of them stands before ``subject``."""
        ...
