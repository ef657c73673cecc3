"""The trunk of Llama and its kin, by hand: no autograd, no padding in products with weights, no frozen part run twice.

All tokens of all suffixes stand in one list, without padding; attention alone goes by sequence. In the last block
only tokens whose states are read ask and pass the MLP. Products with weights run in the arithmetic asked for.

Shapes: N sequences, T tokens of all suffixes, M places where states are read, V hidden width, G key heads, D width
of a head, L columns of keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from consortium.models.beginnings import KeysValues, run_beginnings
from consortium.models.calculus import RmsNorm, Rotation
from consortium.models.language import LanguageModel
from consortium.models.llama_block import Block, Place, Saved
from consortium.models.suffix_attention import SuffixAttention
from consortium.models.workspace import Workspace

if TYPE_CHECKING:
    from consortium.models.trunk import End

#: Architectures whose block is: norm, rotary attention with grouped heads, norm, gated MLP, both added to the stream.
FAMILY = ("llama", "mistral", "qwen2", "qwen3")


def is_llama_like(model: LanguageModel) -> bool:
    """Whether the implementation here computes this model."""
    config = model.text_config
    return model.model.config.model_type in FAMILY and config.hidden_act == "silu"


@dataclass(frozen=True)
class LlamaTrunk:
    """The blocks above a layer over some sequences' suffixes.

    Attributes:
        ends: the sequences.
        hidden_TV: hidden states of all suffix tokens after the layer, float32.
        blocks: the blocks above it.
        norm: the final norm.
        kept: keys and values of each block, [G, N, L, D]: prefixes, and behind them room for the suffixes'.
        turn_key, turn_query: rotations of all suffix tokens; that of queries scales them too.
        first_N: where each suffix begins among all tokens.
        read_M: where states are read.
        within, last: attention in all blocks but the last, and in the last one.
        workspace: memory of a run, which the next run writes over.
    """

    ends: tuple[End, ...]
    hidden_TV: torch.Tensor
    blocks: tuple[Block, ...]
    norm: RmsNorm
    kept: tuple[KeysValues, ...]
    turn_key: Rotation
    turn_query: Rotation
    first_N: torch.Tensor
    read_M: torch.Tensor
    within: SuffixAttention
    last: SuffixAttention
    workspace: Workspace

    @staticmethod
    def above(model: LanguageModel, ends: Sequence[End], layer: int, arithmetic: torch.dtype) -> LlamaTrunk:
        """Run everything that stays as it is."""
        beginnings = run_beginnings(model, [end.ids for end in ends], [end.subject for end in ends], layer)
        numbers = range(layer + 1, model.num_layers)
        blocks = tuple(Block.of(model.blocks[number], arithmetic) for number in numbers)
        final: Any = model.norm
        norm = RmsNorm(final.weight.detach().float(), final.variance_epsilon)
        kept = _with_room(ends, numbers, beginnings.prefix, model)
        position_T = torch.cat([torch.arange(end.subject, len(end.ids)) for end in ends]).to(model.device)
        hidden_TV = beginnings.hidden_TV.float()
        base: Any = model.base
        cos_1TD, sin_1TD = base.rotary_emb(hidden_TV, position_T[None])
        rotation = Rotation(cos_1TD[0][:, None], sin_1TD[0][:, None])
        return _laid_out(ends, hidden_TV, blocks, norm, kept, rotation, Workspace())

    @property
    def start_NV(self) -> torch.Tensor:
        """Hidden states of the suffixes' first tokens after the layer, float32."""
        return self.hidden_TV[self.first_N]

    @torch.no_grad()
    def run(self, delta_NV: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """Final hidden states [M, V] (after the last norm), and how a gradient comes back from them."""
        hidden = self.hidden_TV.index_add(0, self.first_N, delta_NV)
        saved: list[Saved] = []
        for number, block in enumerate(self.blocks):
            hidden, kept = block.forward(hidden, self._place(number))
            saved.append(kept)
        final_MV, inverse_M1 = self.norm(hidden)

        @torch.no_grad()
        def pull(grad_MV: torch.Tensor) -> torch.Tensor:
            grad = self.norm.backward(grad_MV, hidden, inverse_M1)
            for number in reversed(range(len(self.blocks))):
                grad = self.blocks[number].backward(grad, saved[number], self._place(number))
            return grad[self.first_N]

        return final_MV, pull

    def _place(self, number: int) -> Place:
        last = number == len(self.blocks) - 1
        attention, asking = (self.last, self.read_M) if last else (self.within, slice(None))
        turn_query = self.turn_query.at(self.read_M) if last else self.turn_query
        return Place(number, self.kept[number], turn_query, self.turn_key, attention, asking, self.workspace)

    def take(self, numbers: Sequence[int]) -> LlamaTrunk:
        """The same for some of the sequences."""
        ends = [self.ends[number] for number in numbers]
        first = self.first_N.tolist()
        tokens = [
            at for n in numbers for at in range(first[n], first[n] + len(self.ends[n].ids) - self.ends[n].subject)
        ]
        at_T = torch.tensor(tokens, device=self.hidden_TV.device)
        at_N = torch.tensor(numbers, device=self.hidden_TV.device)
        # The suffixes' places are written before they are read, so whatever stands in them now may stay.
        width = sum(_widths(ends))
        kept = tuple(
            (keys[:, at_N, :width].contiguous(), values[:, at_N, :width].contiguous()) for keys, values in self.kept
        )
        return _laid_out(
            ends, self.hidden_TV[at_T], self.blocks, self.norm, kept, self.turn_key.at(at_T), self.workspace
        )


def _laid_out(
    ends: Sequence[End],
    hidden_TV: torch.Tensor,
    blocks: tuple[Block, ...],
    norm: RmsNorm,
    kept: tuple[KeysValues, ...],
    rotation: Rotation,
    workspace: Workspace,
) -> LlamaTrunk:
    device = hidden_TV.device
    prefixes = [end.subject for end in ends]
    suffixes = [len(end.ids) - end.subject for end in ends]
    reads = [range(suffix - end.num_read, suffix) for end, suffix in zip(ends, suffixes, strict=True)]
    first = torch.tensor([0, *suffixes]).cumsum(0)[:-1]
    read = [begin + token for begin, wanted in zip(first.tolist(), reads, strict=True) for token in wanted]
    return LlamaTrunk(
        tuple(ends),
        hidden_TV,
        blocks,
        norm,
        kept,
        rotation,
        rotation.scaled(blocks[0].head_width ** -0.5),
        first.to(device),
        torch.tensor(read, device=device),
        SuffixAttention.of(prefixes, suffixes, [range(suffix) for suffix in suffixes], device),
        SuffixAttention.of(prefixes, suffixes, reads, device),
        workspace,
    )


def _widths(ends: Sequence[End]) -> tuple[int, int]:
    """Columns of prefixes and of suffixes."""
    return max(end.subject for end in ends), max(len(end.ids) - end.subject for end in ends)


def _with_room(
    ends: Sequence[End], numbers: range, prefix: Mapping[int, KeysValues], model: LanguageModel
) -> tuple[KeysValues, ...]:
    """Prefixes' keys and values with room for those of the suffixes behind them."""
    _, suffix = _widths(ends)

    def room(block: int) -> KeysValues:
        if block not in prefix:  # no sequence has a prefix
            attention: Any = model.blocks[block].self_attn
            groups = attention.k_proj.weight.shape[0] // attention.head_dim
            empty = torch.zeros(groups, len(ends), suffix, attention.head_dim, device=model.device)
            return empty, empty.clone()
        keys, values = (nn.functional.pad(part.float(), (0, 0, 0, suffix)) for part in prefix[block])
        return keys, values

    return tuple(room(block) for block in numbers)
