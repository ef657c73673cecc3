"""A block of Llama and its kin, forward and backward by hand.

Norm, rotary attention with grouped heads, norm, gated MLP; both are added to the residual stream, which is float32
as are norms, attention and the stream's gradient. Kept for the derivative is what it needs and nothing else: normed
inputs and the gated product are made again. In float32 nearly all that is as large as the stream stands in a
buffer pool, by the block's number where the derivative needs it, and else in memory that all blocks share.

Shapes: T tokens of all suffixes, A of them ask, V hidden width, K width of the MLP, X = H·D or G·D, H heads, G key
heads, D width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from consortium.models.llama.buffers import BufferPool
from consortium.models.llama.layers import Linear, RmsNorm, Rotation, gated, gated_backward
from consortium.models.llama.suffix_attention import Attended, Portion, attend, attend_backward
from consortium.models.prefix_cache import KeysValues


@dataclass(frozen=True)
class Saved:
    """What a block's derivative needs of its run."""

    input_TV: torch.Tensor
    inverse_T1: torch.Tensor
    raw: tuple[tuple[torch.Tensor, torch.Tensor] | None, tuple[torch.Tensor, torch.Tensor] | None]
    attended: tuple[Attended, ...]
    middle_AV: torch.Tensor
    inverse_A1: torch.Tensor
    gate_AK: torch.Tensor
    up_AK: torch.Tensor


@dataclass(frozen=True)
class TokenPlace:
    """Where a block runs: its number, keys and values, positions, which tokens ask (as an index of T; None: all)."""

    number: int
    kept: tuple[KeysValues, ...]
    turn_query: Rotation
    turn_key: Rotation
    portions: tuple[Portion, ...]
    asking: torch.Tensor | None
    buffer_pool: BufferPool

    def memory(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """Memory of this block in the buffer pool, of the shape of ``like``."""
        return self.buffer_pool((name, self.number), *like.shape, like=like)

    def scratch(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """Memory of all blocks in the buffer pool, of the shape of ``like``."""
        return self.buffer_pool(name, *like.shape, like=like)

    def of_asking(self, rows_TV: torch.Tensor) -> torch.Tensor:
        """The rows [A, V] of tokens that ask."""
        return rows_TV if self.asking is None else rows_TV[self.asking]

    def add_asking(self, onto_TV: torch.Tensor, added_AV: torch.Tensor) -> torch.Tensor:
        """``onto_TV``, to whose rows of tokens that ask something was added, in place."""
        return onto_TV.add_(added_AV) if self.asking is None else onto_TV.index_add_(0, self.asking, added_AV)


@dataclass(frozen=True)
class LlamaBlock:
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
    def of(block: nn.Module, dtype: torch.dtype) -> LlamaBlock:
        """The weights of a block, cast where the arithmetic is not the model's own."""
        attention: Any = block.self_attn
        mlp: Any = block.mlp

        def linear(module: nn.Linear) -> Linear:
            bias = module.bias
            return Linear(module.weight.detach().to(dtype), None if bias is None else bias.detach().to(dtype))

        def norm(module: Any) -> RmsNorm:
            return RmsNorm(module.weight.detach().float(), module.variance_epsilon)

        own = hasattr(attention, "q_norm")  # Qwen 3 norms queries and keys
        return LlamaBlock(
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

    def forward(self, input_TV: torch.Tensor, at: TokenPlace) -> tuple[torch.Tensor, Saved]:
        """Hidden states [A, V] after the block, and what :meth:`backward` needs; until the block's next call."""
        buffer_pool = at.buffer_pool
        normed_TV, inverse_T1 = self.norm(input_TV, at.scratch("normed", input_TV))
        normed_TV = normed_TV.to(self.key.weight_OV.dtype)
        query_AHD, raw_query = self._heads(self.query, self.query_norm, at.of_asking(normed_TV), at, "query")
        key_TGD, raw_key = self._heads(self.key, self.key_norm, normed_TV, at, "key")
        value_TX = self.value.within(buffer_pool, "value", normed_TV)
        read_AX, attended = attend(
            at.portions,
            at.turn_query(query_AHD, at.scratch("turned query", query_AHD)),
            at.turn_key(key_TGD, at.scratch("turned key", key_TGD)),
            value_TX.float().unflatten(1, (-1, self.head_width)),
            at.kept,
            buffer_pool,
            at.number,
        )
        input_AV = at.of_asking(input_TV)
        middle_AV = at.memory("middle", input_AV)
        torch.add(input_AV, self.output.within(buffer_pool, "added", read_AX), out=middle_AV)
        normed_AV, inverse_A1 = self.mlp_norm(middle_AV, at.scratch("normed", middle_AV))
        normed_AV = normed_AV.to(self.gate.weight_OV.dtype)
        gate_AK = self.gate.within(buffer_pool, ("gate", at.number), normed_AV)
        up_AK = self.up.within(buffer_pool, ("up", at.number), normed_AV)
        gated_AK = gated(gate_AK, up_AK, at.scratch("gated", gate_AK))
        output_AV = at.memory("output", middle_AV)
        torch.add(middle_AV, self.down.within(buffer_pool, "added", gated_AK), out=output_AV)
        saved = Saved(input_TV, inverse_T1, (raw_query, raw_key), attended, middle_AV, inverse_A1, gate_AK, up_AK)
        return output_AV, saved

    def backward(self, grad_AV: torch.Tensor, saved: Saved, at: TokenPlace) -> torch.Tensor:
        """The gradient [T, V] of the block's input, until the next call of any block."""
        buffer_pool = at.buffer_pool
        grad_AK = self.down.backward(grad_AV, buffer_pool, "grad gated")
        grad_gate_AK, grad_up_AK = gated_backward(grad_AK, saved.gate_AK, saved.up_AK, at.scratch("gated", grad_AK))
        grad_normed_AV = self.gate.backward(grad_gate_AK, buffer_pool, "grad normed")
        grad_normed_AV = self.up.add_backward(grad_up_AK, grad_normed_AV)
        out_AV = at.scratch("grad middle", grad_AV)
        grad_AV = self.mlp_norm.backward(grad_normed_AV, saved.middle_AV, saved.inverse_A1, out_AV).add_(grad_AV)
        grad_read_AX = self.output.backward(grad_AV, buffer_pool, "grad read").float()
        grad_read_AHD = grad_read_AX.unflatten(1, (-1, self.head_width))
        grads = attend_backward(at.portions, grad_read_AHD, saved.attended, buffer_pool)
        raw_query, raw_key = saved.raw
        grad_query_AX = self._heads_backward(self.query_norm, at.turn_query, grads[0], raw_query, at, "turned query")
        grad_key_TX = self._heads_backward(self.key_norm, at.turn_key, grads[1], raw_key, at, "turned key")
        grad_normed_TV = self.key.backward(grad_key_TX, buffer_pool, "grad normed")
        grad_normed_TV = self.value.add_backward(grads[2], grad_normed_TV)
        at.add_asking(grad_normed_TV, self.query.backward(grad_query_AX, buffer_pool, "added"))
        out_TV = at.scratch("grad input", saved.input_TV)
        grad_TV = self.norm.backward(grad_normed_TV, saved.input_TV, saved.inverse_T1, out_TV)
        return at.add_asking(grad_TV, grad_AV)

    def _heads(
        self, linear: Linear, norm: RmsNorm | None, normed_TV: torch.Tensor, at: TokenPlace, name: str
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
        if norm is None:
            return linear.within(at.buffer_pool, name, normed_TV).float().unflatten(1, (-1, self.head_width)), None
        states_THD = linear.within(at.buffer_pool, (name, at.number), normed_TV).float()
        states_THD = states_THD.unflatten(1, (-1, self.head_width))
        normed_THD, inverse_TH1 = norm(states_THD)
        return normed_THD, (states_THD, inverse_TH1)

    def _heads_backward(
        self,
        norm: RmsNorm | None,
        turn: Rotation,
        grad_TX: torch.Tensor,
        raw: tuple[torch.Tensor, torch.Tensor] | None,
        at: TokenPlace,
        name: str,
    ) -> torch.Tensor:
        grad_THD = grad_TX.unflatten(1, (-1, self.head_width))
        grad_THD = turn.backward(grad_THD, at.scratch(name, grad_THD))
        if norm is not None and raw is not None:
            grad_THD = norm.backward(grad_THD, *raw)
        return grad_THD.flatten(1)
