"""The backbone of Llama and its kin, by hand: no autograd, no padding in products with weights, no frozen part run
twice.

All tokens of all suffixes stand in one list, without padding; attention alone goes by sequence, and has the less
padding the more sequences of like suffixes stand together. In the last block only tokens whose states are read ask and
pass the MLP. Products with weights run in the arithmetic asked for.

Shapes: N sequences, T tokens of all suffixes, M places where states are read, V hidden width, G key heads, D width
of a head, L columns of keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from consortium.models.language import LanguageModel
from consortium.models.layouts import LLAMA_FAMILY
from consortium.models.llama.block import LlamaBlock, Saved, TokenPlace
from consortium.models.llama.buffers import BufferPool
from consortium.models.llama.layers import RmsNorm, Rotation
from consortium.models.llama.suffix_attention import Portion, SuffixAttention, like_lengths
from consortium.models.prefix_cache import KeysValues, run_prefixes

if TYPE_CHECKING:
    from consortium.models.upper_layers import End

#: Architectures of this kind.
FAMILY = LLAMA_FAMILY


def is_llama_like(model: LanguageModel) -> bool:
    """Whether the implementation here computes this model."""
    config = model.text_config
    return model.model.config.model_type in FAMILY and config.hidden_act == "silu"


@dataclass(frozen=True)
class RowLayout:
    """Where the tokens of some sequences' suffixes stand.

    Attributes:
        ends: the sequences.
        groups: consecutive sequences of like suffixes, which share a table of attention, by numbers that stay when
            others vanish.
        first_N: where each suffix begins among all tokens.
        read_M: where states are read.
        windows: how many tokens each block lets a token see; None for all.
        within: window → attention in blocks of that window, but for the last block.
        last: attention in the last block.
    """

    ends: tuple[End, ...]
    groups: dict[int, slice]
    first_N: torch.Tensor
    read_M: torch.Tensor
    windows: tuple[int | None, ...]
    within: dict[int | None, tuple[Portion, ...]]
    last: tuple[Portion, ...]

    @staticmethod
    def of(
        ends: Sequence[End], groups: dict[int, slice], windows: Sequence[int | None], device: torch.device
    ) -> RowLayout:
        """Suffix after suffix; a window that no sequence is longer than is none."""
        longest = max(len(end.ids) for end in ends)
        windows = tuple(None if window is None or longest <= window else window for window in windows)
        suffixes = [len(end.ids) - end.subject for end in ends]
        reads = [range(suffix - end.num_read, suffix) for end, suffix in zip(ends, suffixes, strict=True)]
        first = [0, *accumulate(suffixes)]
        read = [begin + token for begin, wanted in zip(first[:-1], reads, strict=True) for token in wanted]
        return RowLayout(
            tuple(ends),
            groups,
            torch.tensor(first[:-1], device=device),
            torch.tensor(read, device=device),
            windows,
            {window: _portions(ends, groups, list(map(range, suffixes)), window, device) for window in {*windows[:-1]}},
            _portions(ends, groups, reads, windows[-1], device),
        )

    def tokens(self, numbers: Sequence[int]) -> torch.Tensor:
        """Where the tokens of some of the sequences stand."""
        first = self.first_N.tolist()
        ranges = [range(first[n], first[n] + len(self.ends[n].ids) - self.ends[n].subject) for n in numbers]
        return torch.tensor([at for one in ranges for at in one], device=self.first_N.device)


@dataclass(frozen=True)
class LlamaBackbone:
    """The blocks above a layer over some sequences' suffixes.

    Attributes:
        layout: the sequences and their tokens.
        hidden_TV: hidden states of all suffix tokens after the layer, float32.
        blocks: the blocks above it.
        norm: the final norm.
        kept: keys and values of each block and of each group in it, [G, N, L, D]: prefixes, and behind them room for
            the suffixes'.
        turn_key: rotation of all suffix tokens.
        buffer_pool: memory of a run, which the next run writes over.
    """

    layout: RowLayout
    hidden_TV: torch.Tensor
    blocks: tuple[LlamaBlock, ...]
    norm: RmsNorm
    kept: tuple[tuple[KeysValues, ...], ...]
    turn_key: Rotation
    buffer_pool: BufferPool

    @staticmethod
    def above(model: LanguageModel, ends: Sequence[End], layer: int, arithmetic: torch.dtype) -> LlamaBackbone:
        """Run everything that stays as it is."""
        prefix_cache = run_prefixes(model, [end.ids for end in ends], [end.subject for end in ends], layer)
        numbers = range(layer + 1, model.num_layers)
        groups = dict(enumerate(like_lengths([len(end.ids) - end.subject for end in ends])))
        final: Any = model.norm
        position_T = torch.cat([torch.arange(end.subject, len(end.ids)) for end in ends]).to(model.device)
        hidden_TV = prefix_cache.hidden_TV.float()
        base: Any = model.base
        cos_1TD, sin_1TD = base.rotary_emb(hidden_TV, position_T[None])
        return LlamaBackbone(
            RowLayout.of(ends, groups, model.windows[layer + 1 :], model.device),
            hidden_TV,
            tuple(LlamaBlock.of(model.blocks[number], arithmetic) for number in numbers),
            RmsNorm(final.weight.detach().float(), final.variance_epsilon),
            tuple(
                _with_room(ends, groups.values(), _prefixes(prefix_cache.prefix, number, len(ends), model))
                for number in numbers
            ),
            Rotation(cos_1TD[0][:, None], sin_1TD[0][:, None]),
            BufferPool(),
        )

    @cached_property
    def turn_query(self) -> Rotation:
        """Rotation of all suffix tokens, which scales queries too."""
        return self.turn_key.scaled(self.blocks[0].head_width ** -0.5)

    @property
    def start_NV(self) -> torch.Tensor:
        """Hidden states of the suffixes' first tokens after the layer, float32."""
        return self.hidden_TV[self.layout.first_N]

    @torch.no_grad()
    def run(self, delta_NV: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """Final hidden states [M, V] (after the last norm), and how a gradient comes back from them.

        It comes back before the next run alone, also of a backbone that was taken from this one: that writes over what
        is
        needed.
        """
        first_N = self.layout.first_N
        hidden = self.hidden_TV.index_add(0, first_N, delta_NV)
        saved: list[Saved] = []
        for number, block in enumerate(self.blocks):
            hidden, kept = block.forward(hidden, self._place(number))
            saved.append(kept)
        final_MV, inverse_M1 = self.norm(hidden)

        @torch.no_grad()
        def regularizer(grad_MV: torch.Tensor) -> torch.Tensor:
            grad = self.norm.backward(grad_MV, hidden, inverse_M1)
            for number in reversed(range(len(self.blocks))):
                grad = self.blocks[number].backward(grad, saved[number], self._place(number))
            return grad[first_N]

        return final_MV, regularizer

    def _place(self, number: int) -> TokenPlace:
        layout, kept, turn_key, buffer_pool = self.layout, self.kept[number], self.turn_key, self.buffer_pool
        if number < len(self.blocks) - 1:
            within = layout.within[layout.windows[number]]
            return TokenPlace(number, kept, self.turn_query, turn_key, within, None, buffer_pool)
        turn_query = self.turn_query.at(layout.read_M)
        return TokenPlace(number, kept, turn_query, turn_key, layout.last, layout.read_M, buffer_pool)

    def take(self, numbers: Sequence[int]) -> LlamaBackbone:
        """The same for some of the sequences, in their order here: ``numbers`` ascend."""
        assert all(number < following for number, following in pairwise(numbers)), f"numbers must ascend: {numbers}"
        layout = self.layout
        taken = {
            name: [number for number in numbers if group.start <= number < group.stop]
            for name, group in layout.groups.items()
        }
        taken = {name: some for name, some in taken.items() if some}
        bounds = accumulate(map(len, taken.values()), initial=0)
        groups = dict(zip(taken, (slice(*pair) for pair in pairwise(bounds)), strict=True))
        ends = [layout.ends[number] for number in numbers]
        at_T = layout.tokens(numbers)
        return LlamaBackbone(
            RowLayout.of(ends, groups, layout.windows, at_T.device),
            self.hidden_TV[at_T],
            self.blocks,
            self.norm,
            tuple(self._narrow(tables, taken) for tables in self.kept),
            self.turn_key.at(at_T),
            self.buffer_pool,
        )

    def _narrow(self, tables: Sequence[KeysValues], taken: dict[int, list[int]]) -> tuple[KeysValues, ...]:
        """A block's tables for some sequences of some groups; those of whole groups as they are."""
        narrowed = []
        for (keys, values), (name, group) in zip(tables, self.layout.groups.items(), strict=True):
            numbers = taken.get(name, [])
            if len(numbers) == group.stop - group.start:
                narrowed.append((keys, values))
            elif numbers:
                at_N = torch.tensor(numbers, device=keys.device) - group.start
                # What stands behind prefixes may stay: suffixes are written before they are read, padding is hidden.
                width = sum(_widths([self.layout.ends[number] for number in numbers]))
                narrowed.append((keys[:, at_N, :width].contiguous(), values[:, at_N, :width].contiguous()))
        return tuple(narrowed)


def _portions(
    ends: Sequence[End],
    groups: dict[int, slice],
    asking: Sequence[range],
    window: int | None,
    device: torch.device,
) -> tuple[Portion, ...]:
    prefixes = [end.subject for end in ends]
    suffixes = [len(end.ids) - end.subject for end in ends]
    token, ask = ([0, *accumulate(lengths)] for lengths in (suffixes, map(len, asking)))
    return tuple(
        Portion(
            number,
            SuffixAttention.of(prefixes[group], suffixes[group], asking[group], device, window),
            slice(token[group.start], token[group.stop]),
            slice(ask[group.start], ask[group.stop]),
        )
        for number, group in groups.items()
    )


def _prefixes(prefix: Mapping[int, KeysValues], block: int, num_sequences: int, model: LanguageModel) -> KeysValues:
    """A block's keys and values of prefixes, [G, N, P, D] float32."""
    if block not in prefix:  # no sequence has a prefix
        attention: Any = model.blocks[block].self_attn
        num_key_heads = attention.k_proj.weight.shape[0] // attention.head_dim
        empty = torch.zeros(num_key_heads, num_sequences, 0, attention.head_dim, device=model.device)
        return empty, empty
    keys, values = (part.float() for part in prefix[block])
    return keys, values


def _widths(ends: Sequence[End]) -> tuple[int, int]:
    """Columns of prefixes and of suffixes."""
    return max(end.subject for end in ends), max(len(end.ids) - end.subject for end in ends)


def _with_room(ends: Sequence[End], groups: Iterable[slice], prefixes: KeysValues) -> tuple[KeysValues, ...]:
    """Each group's keys and values of prefixes, with room for those of the suffixes behind them."""

    def table(part_GNPD: torch.Tensor, group: slice) -> torch.Tensor:
        prefix, suffix = _widths(ends[group])
        return nn.functional.pad(part_GNPD[:, group, :prefix], (0, 0, 0, suffix)).contiguous()

    return tuple((table(prefixes[0], group), table(prefixes[1], group)) for group in groups)
