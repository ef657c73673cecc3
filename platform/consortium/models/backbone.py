"""A model's backbone above a layer, as the optimisation of targets sees it: change suffixes' first tokens, read states.

    backbone = backbone_above(model, ends, layer, arithmetic)
    final_MV, pull = backbone.run(delta_NV)      # delta_NV is added to the hidden states of the suffixes' first tokens
    grad_NV = pull(grad_MV)                   # the gradient of delta_NV, given the gradient of final_MV; before any
                                              # other run, which may write over what it needs

Two implementations: any architecture by its own code and autograd (:class:`AnyBackbone`), and the family of Llama by
hand (:mod:`consortium.models.llama.upper_layers`), several times faster. Tests demand that they agree.

Shapes: N sequences, M places where states are read (sequence after sequence), V hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from consortium.models.language import LanguageModel
from consortium.models.llama.upper_layers import LlamaBackbone, is_llama_like
from consortium.models.packing import pack
from consortium.models.upper_layers import End, Top, top_above

Regularizer = Callable[[torch.Tensor], torch.Tensor]


class Backbone(Protocol):
    """The blocks above a layer over some sequences' suffixes."""

    @property
    def start_NV(self) -> torch.Tensor:
        """Hidden states of the suffixes' first tokens after the layer, float32."""
        ...

    def run(self, delta_NV: torch.Tensor) -> tuple[torch.Tensor, Regularizer]:
        """Final hidden states [M, V] (after the last norm), and how a gradient comes back from them."""
        ...

    def take(self, numbers: Sequence[int]) -> Backbone:
        """The same for some of the sequences, in their order here: ``numbers`` ascend."""
        ...


def backbone_above(
    model: LanguageModel, ends: Sequence[End], layer: int, arithmetic: torch.dtype | None = None
) -> Backbone:
    """Run everything that stays as it is, and return the backbone above ``layer``.

    Args:
        model: the model under its present weights.
        ends: the sequences.
        layer: number of a block.
        arithmetic: type in which products with weights run; None for the model's own, the only one of architectures
            without an implementation by hand.
    """
    if is_llama_like(model) and layer < model.num_layers - 1:
        return LlamaBackbone.above(model, ends, layer, arithmetic or model.dtype)
    assert arithmetic is None, "open_backend refuses another arithmetic for this architecture"
    top = top_above(model, pack([end.ids for end in ends], [end.subject for end in ends]), layer)
    return AnyBackbone(tuple(ends), top)


@dataclass(frozen=True)
class AnyBackbone:
    """Any architecture, run by its own code."""

    ends: tuple[End, ...]
    top: Top

    @property
    def start_NV(self) -> torch.Tensor:
        """Hidden states of the suffixes' first tokens after the layer, float32."""
        return self.top.hidden_RSV[self._first()].float()

    def _first(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.top.suffix_places(range(len(self.ends)), [end.subject for end in self.ends])

    @torch.enable_grad()
    def run(self, delta_NV: torch.Tensor) -> tuple[torch.Tensor, Regularizer]:
        """Final hidden states [M, V] (after the last norm), and how a gradient comes back from them."""
        delta_NV = delta_NV.detach().requires_grad_()
        moved = delta_NV.to(self.top.hidden_RSV.dtype)
        final_RSV = self.top.run(self.top.hidden_RSV.index_put(self._first(), moved, accumulate=True))
        read = [(n, len(end.ids) - back) for n, end in enumerate(self.ends) for back in range(end.num_read, 0, -1)]
        numbers, tokens = zip(*read, strict=True)
        final_MV = final_RSV[self.top.suffix_places(numbers, tokens)]

        def regularizer(grad_MV: torch.Tensor) -> torch.Tensor:
            (grad_NV,) = torch.autograd.grad(final_MV, delta_NV, grad_MV.to(final_MV.dtype))
            return grad_NV

        return final_MV.detach(), regularizer

    def take(self, numbers: Sequence[int]) -> AnyBackbone:
        """The same for some of the sequences."""
        return AnyBackbone(tuple(self.ends[number] for number in numbers), self.top.take(numbers))
