"""The trunk of Llama and its kin, by hand: no autograd, no padding in products with weights, no frozen part run twice.

Of each block are kept what its derivative needs and nothing else (the normed inputs, the gated product are made
again). In the last block only tokens whose states are read ask and pass the MLP. The residual stream, norms,
attention and gradients of the stream are float32; products with weights run in the arithmetic asked for.

Shapes: N sequences, T tokens of all suffixes, M places where states are read, A asking tokens of a block (T, or M in
the last), V hidden width, K width of the MLP, H heads, G key heads, D width of a head, L columns of keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from consortium.models.beginnings import KeysValues, run_beginnings
from consortium.models.calculus import Linear, RmsNorm, Rotation, gated, gated_backward
from consortium.models.language import LanguageModel
from consortium.models.suffix_attention import Attended, SuffixAttention
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
class _Saved:
    """What a block's derivative needs of its run."""

    input_TV: torch.Tensor
    inverse_T1: torch.Tensor
    raw: tuple[tuple[torch.Tensor, torch.Tensor] | None, tuple[torch.Tensor, torch.Tensor] | None]
    attended: Attended
    middle_AV: torch.Tensor
    inverse_A1: torch.Tensor
    gate_AK: torch.Tensor
    up_AK: torch.Tensor


@dataclass(frozen=True)
class _Place:
    """Where a block runs: its number, keys and values, positions, which tokens ask (as an index of T)."""

    number: int
    kept: KeysValues
    turn_query: Rotation
    turn_key: Rotation
    attention: SuffixAttention
    asking: Any
    workspace: Workspace

    def memory(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """Memory of this block in the workspace, of the shape of ``like``."""
        return self.workspace((name, self.number), *like.shape, like=like)


@dataclass(frozen=True)
class _Block:
    """A block's frozen weights."""

    norm: RmsNorm
    query: Linear
    key: Linear
    value: Linear
    query_norm: RmsNorm | None
    key_norm: RmsNorm | None
    output: Linear
    mlp_norm: RmsNorm
    gate: Linear
    up: Linear
    down: Linear
    head_width: int

    @staticmethod
    def of(block: nn.Module, dtype: torch.dtype) -> _Block:
        """The weights of a block, cast where the arithmetic is not the model's own."""
        attention: Any = block.self_attn
        mlp: Any = block.mlp

        def linear(module: nn.Linear) -> Linear:
            bias = module.bias
            return Linear(module.weight.detach().to(dtype), None if bias is None else bias.detach().to(dtype))

        def norm(module: Any) -> RmsNorm:
            return RmsNorm(module.weight.detach().float(), module.variance_epsilon)

        own = hasattr(attention, "q_norm")  # Qwen 3 norms queries and keys
        return _Block(
            norm=norm(block.input_layernorm),
            query=linear(attention.q_proj),
            key=linear(attention.k_proj),
            value=linear(attention.v_proj),
            query_norm=norm(attention.q_norm) if own else None,
            key_norm=norm(attention.k_norm) if own else None,
            output=linear(attention.o_proj),
            mlp_norm=norm(block.post_attention_layernorm),
            gate=linear(mlp.gate_proj),
            up=linear(mlp.up_proj),
            down=linear(mlp.down_proj),
            head_width=attention.head_dim,
        )

    def forward(self, input_TV: torch.Tensor, at: _Place) -> tuple[torch.Tensor, _Saved]:
        """Hidden states [A, V] after the block, and what :meth:`backward` needs; both in the workspace."""
        asking = at.asking
        normed_TV, inverse_T1 = self.norm(input_TV)
        normed_TV = normed_TV.to(self.key.weight_OV.dtype)
        query_AHD, raw_query = self._heads(self.query, self.query_norm, normed_TV[asking])
        key_TGD, raw_key = self._heads(self.key, self.key_norm, normed_TV)
        value_TGD = self.value(normed_TV).float().unflatten(1, (-1, self.head_width))
        read_AX, attended = at.attention.forward(
            at.turn_query(query_AHD), at.turn_key(key_TGD), value_TGD, *at.kept, at.workspace, at.number
        )
        middle_AV = at.memory("middle", input_TV[asking])
        torch.add(input_TV[asking], self.output(read_AX), out=middle_AV)
        normed_AV, inverse_A1 = self.mlp_norm(middle_AV)
        normed_AV = normed_AV.to(self.gate.weight_OV.dtype)
        gate_AK = self.gate.within(at.workspace, ("gate", at.number), normed_AV)
        up_AK = self.up.within(at.workspace, ("up", at.number), normed_AV)
        output_AV = at.memory("output", middle_AV)
        torch.add(middle_AV, self.down(gated(gate_AK, up_AK)), out=output_AV)
        saved = _Saved(input_TV, inverse_T1, (raw_query, raw_key), attended, middle_AV, inverse_A1, gate_AK, up_AK)
        return output_AV, saved

    def backward(self, grad_AV: torch.Tensor, saved: _Saved, at: _Place) -> torch.Tensor:
        """The gradient [T, V] of the block's input."""
        asking = at.asking
        grad_gate_AK, grad_up_AK = gated_backward(self.down.backward(grad_AV), saved.gate_AK, saved.up_AK)
        grad_normed_AV = self.up.backward(grad_up_AK, self.gate.backward(grad_gate_AK))
        grad_AV = grad_AV + self.mlp_norm.backward(grad_normed_AV, saved.middle_AV, saved.inverse_A1)
        grad_read_AHD = self.output.backward(grad_AV).float().unflatten(1, (-1, self.head_width))
        grad_query_AX, grad_key_TX, grad_value_TX = at.attention.backward(grad_read_AHD, saved.attended, at.workspace)
        raw_query, raw_key = saved.raw
        grad_query_AX = self._heads_backward(self.query_norm, at.turn_query, grad_query_AX, raw_query)
        grad_key_TX = self._heads_backward(self.key_norm, at.turn_key, grad_key_TX, raw_key)
        grad_normed_TV = self.value.backward(grad_value_TX, self.key.backward(grad_key_TX))
        grad_normed_TV[asking] += self.query.backward(grad_query_AX)
        grad_TV = self.norm.backward(grad_normed_TV, saved.input_TV, saved.inverse_T1)
        grad_TV[asking] += grad_AV
        return grad_TV

    def _heads(
        self, linear: Linear, norm: RmsNorm | None, normed_TV: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
        states_THD = linear(normed_TV).float().unflatten(1, (-1, self.head_width))
        if norm is None:
            return states_THD, None
        normed_THD, inverse_TH1 = norm(states_THD)
        return normed_THD, (states_THD, inverse_TH1)

    def _heads_backward(
        self,
        norm: RmsNorm | None,
        turn: Rotation,
        grad_TX: torch.Tensor,
        raw: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> torch.Tensor:
        grad_THD = turn.backward(grad_TX.unflatten(1, (-1, self.head_width)))
        if norm is not None and raw is not None:
            grad_THD = norm.backward(grad_THD, *raw)
        return grad_THD.flatten(1)


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
    blocks: tuple[_Block, ...]
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
        blocks = tuple(_Block.of(model.blocks[number], arithmetic) for number in numbers)
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
        saved: list[_Saved] = []
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

    def _place(self, number: int) -> _Place:
        last = number == len(self.blocks) - 1
        attention, asking = (self.last, self.read_M) if last else (self.within, slice(None))
        turn_query = self.turn_query.at(self.read_M) if last else self.turn_query
        return _Place(number, self.kept[number], turn_query, self.turn_key, attention, asking, self.workspace)

    def take(self, numbers: Sequence[int]) -> LlamaTrunk:
        """The same for some of the sequences."""
        ends = [self.ends[number] for number in numbers]
        first = self.first_N.tolist()
        tokens = [
            at for n in numbers for at in range(first[n], first[n] + len(self.ends[n].ids) - self.ends[n].subject)
        ]
        at_T = torch.tensor(tokens, device=self.hidden_TV.device)
        at_N = torch.tensor(numbers, device=self.hidden_TV.device)
        kept = tuple(
            (_narrowed(keys, at_N, self.ends, ends), _narrowed(values, at_N, self.ends, ends))
            for keys, values in self.kept
        )
        return _laid_out(
            ends, self.hidden_TV[at_T], self.blocks, self.norm, kept, self.turn_key.at(at_T), self.workspace
        )


def _laid_out(
    ends: Sequence[End],
    hidden_TV: torch.Tensor,
    blocks: tuple[_Block, ...],
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


def _narrowed(table_GNLD: torch.Tensor, at_N: torch.Tensor, old: Sequence[End], new: Sequence[End]) -> torch.Tensor:
    """Some sequences' lines, without the columns that none of them uses."""
    prefix, suffix = _widths(new)
    behind, _ = _widths(old)
    table_GNLD = table_GNLD[:, at_N]
    return torch.cat([table_GNLD[:, :, :prefix], table_GNLD[:, :, behind : behind + suffix]], dim=2)
