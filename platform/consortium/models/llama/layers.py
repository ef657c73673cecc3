"""The operations of a decoder's block and their derivatives, written out: nothing is kept that is not needed.

Products run in the type of the weights they are given; everything else here is float32. Derivatives are taken by
hand, so that no autograd graph is built or walked, and frozen weights never get one. Each is tested against autograd.
Where a function takes ``out``, its result stands in that memory (:mod:`consortium.models.llama.buffers`).

Shapes: T tokens, V width of what is normed, O width of an output, H heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch

from consortium.models.llama.buffers import BufferPool


@dataclass(frozen=True)
class Linear:
    """A frozen linear map; ``weight_OV`` in the type in which products run."""

    weight_OV: torch.Tensor
    bias_O: torch.Tensor | None = None

    def __call__(self, input_TV: torch.Tensor, out_TO: torch.Tensor | None = None) -> torch.Tensor:
        """Outputs [T, O] in the weight's type."""
        input_TV, weight_VO = input_TV.to(self.weight_OV.dtype), self.weight_OV.T
        if self.bias_O is None:
            return torch.mm(input_TV, weight_VO, out=out_TO)
        return torch.addmm(self.bias_O, input_TV, weight_VO, out=out_TO)

    def within(self, buffer_pool: BufferPool, name: Hashable, input_TV: torch.Tensor) -> torch.Tensor:
        """Outputs [T, O] in a buffer pool."""
        return self(input_TV, buffer_pool(name, len(input_TV), len(self.weight_OV), like=self.weight_OV))

    def backward(self, grad_TO: torch.Tensor, buffer_pool: BufferPool, name: Hashable) -> torch.Tensor:
        """The gradient [T, V] of the input, in the weight's type, in a buffer pool."""
        grad_TO = grad_TO.to(self.weight_OV.dtype)
        out_TV = buffer_pool(name, len(grad_TO), self.weight_OV.shape[1], like=self.weight_OV)
        return torch.mm(grad_TO, self.weight_OV, out=out_TV)

    def add_backward(self, grad_TO: torch.Tensor, onto_TV: torch.Tensor) -> torch.Tensor:
        """``onto_TV``, to which the gradient of the input was added, in place."""
        return onto_TV.addmm_(grad_TO.to(self.weight_OV.dtype), self.weight_OV)


@dataclass(frozen=True)
class RmsNorm:
    """y = x / rms(x) · gain, over the last dimension (arXiv 1910.07467)."""

    gain_V: torch.Tensor
    epsilon: float

    def __call__(self, input_TV: torch.Tensor, out: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """The normed input, and 1 / rms [T, 1] for :meth:`backward`."""
        length_T1 = torch.linalg.vector_norm(input_TV, dim=-1, keepdim=True)
        inverse_T1 = (length_T1.square_() / input_TV.shape[-1] + self.epsilon).rsqrt_()
        return torch.mul(input_TV, inverse_T1, out=out).mul_(self.gain_V), inverse_T1

    def backward(
        self,
        grad_TV: torch.Tensor,
        input_TV: torch.Tensor,
        inverse_T1: torch.Tensor,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """dx = (g·dy - x̂ · mean(g·dy·x̂)) / rms, with x̂ = x / rms."""
        gained_TV = torch.mul(grad_TV.float(), self.gain_V, out=out)
        along_T1 = torch.linalg.vecdot(gained_TV, input_TV)[..., None]
        along_T1 *= inverse_T1.pow(3) / input_TV.shape[-1]
        return gained_TV.mul_(inverse_T1).addcmul_(input_TV, along_T1, value=-1)


@dataclass(frozen=True)
class Rotation:
    """Rotary positions (arXiv 2104.09864) of some tokens; ``cos_T1D`` and ``sin_T1D`` hold every angle twice."""

    cos_T1D: torch.Tensor
    sin_T1D: torch.Tensor

    def __call__(self, input_THD: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """(a, b) → (a·cos - b·sin, b·cos + a·sin), a and b the two halves of D."""
        return self._turn(input_THD, -1, out)

    def backward(self, grad_THD: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """A rotation's derivative turns back."""
        return self._turn(grad_THD, 1, out)

    def at(self, rows: torch.Tensor) -> Rotation:
        """Of some of the tokens."""
        return Rotation(self.cos_T1D[rows], self.sin_T1D[rows])

    def scaled(self, factor: float) -> Rotation:
        """Followed by a multiplication, which its derivative has too."""
        return Rotation(self.cos_T1D * factor, self.sin_T1D * factor)

    def _turn(self, input_THD: torch.Tensor, sign: int, out: torch.Tensor | None) -> torch.Tensor:
        half = input_THD.shape[-1] // 2
        turned_THD = torch.mul(input_THD, self.cos_T1D, out=out)
        turned_THD[..., :half].addcmul_(input_THD[..., half:], self.sin_T1D[..., :half], value=sign)
        turned_THD[..., half:].addcmul_(input_THD[..., :half], self.sin_T1D[..., half:], value=-sign)
        return turned_THD


def gated(gate_TO: torch.Tensor, up_TO: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """silu(gate) · up (SwiGLU, arXiv 2002.05202)."""
    torch.ops.aten.silu.out(gate_TO, out=out)
    return out.mul_(up_TO)


def gated_backward(
    grad_TO: torch.Tensor, gate_TO: torch.Tensor, up_TO: torch.Tensor, out: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of gate, which stands in the memory of ``grad_TO``, and of up, which stands in ``out``."""
    torch.ops.aten.silu.out(gate_TO, out=out)
    out.mul_(grad_TO)
    torch.ops.aten.silu_backward.grad_input(grad_TO.mul_(up_TO), gate_TO, grad_input=grad_TO)
    return grad_TO, out
