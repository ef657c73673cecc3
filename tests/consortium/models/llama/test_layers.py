"""Derivatives by hand against those of autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.models.llama.buffers import BufferPool
from consortium.models.llama.layers import Linear, RmsNorm, Rotation, gated, gated_backward

T, H, D = 5, 3, 8


def drawn(*shape: int, purpose: str = "input") -> torch.Tensor:
    return torch.randn(shape, generator=torch_generator(0, "calculus", purpose, *shape))


def by_autograd(
    function: Callable[..., torch.Tensor], grad: torch.Tensor, *inputs: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    leaves = [one.clone().requires_grad_() for one in inputs]
    return torch.autograd.grad(function(*leaves), leaves, grad)


def test_linear() -> None:
    linear = Linear(drawn(4, D, purpose="weight"), drawn(4, purpose="bias"))
    input_TV, grad_TO, onto_TV = drawn(T, D), drawn(T, 4), drawn(T, D, purpose="onto")
    torch.testing.assert_close(linear(input_TV), input_TV @ linear.weight_OV.T + linear.bias_O)
    (expected_TV,) = by_autograd(linear, grad_TO, input_TV)
    torch.testing.assert_close(linear.backward(grad_TO, BufferPool(), "grad"), expected_TV)
    torch.testing.assert_close(linear.add_backward(grad_TO, onto_TV.clone()), onto_TV + expected_TV)


def test_linear_in_bfloat16_takes_and_gives_what_it_is_asked_to() -> None:
    weight_OV = drawn(4, D, purpose="weight")
    linear = Linear(weight_OV.bfloat16())
    assert linear(drawn(T, D)).dtype == linear.backward(drawn(T, 4), BufferPool(), "grad").dtype == torch.bfloat16
    torch.testing.assert_close(linear(drawn(T, D)).float(), drawn(T, D) @ weight_OV.T, atol=0.1, rtol=0.02)


@pytest.mark.parametrize("shape", [(T, D), (T, H, D)])
def test_norm(shape: tuple[int, ...]) -> None:
    norm = RmsNorm(drawn(D, purpose="gain"), 0.1)
    input_TV, grad_TV = drawn(*shape), drawn(*shape, purpose="grad")

    def plain(x: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + norm.epsilon).sqrt() * norm.gain_V

    normed_TV, inverse_T1 = norm(input_TV)
    torch.testing.assert_close(normed_TV, plain(input_TV))
    (expected_TV,) = by_autograd(plain, grad_TV, input_TV)
    torch.testing.assert_close(norm.backward(grad_TV, input_TV, inverse_T1), expected_TV)


def test_rotation() -> None:
    angle_T1D = drawn(T, 1, D // 2, purpose="angle").repeat(1, 1, 2)
    rotation = Rotation(angle_T1D.cos(), angle_T1D.sin())
    input_THD, grad_THD = drawn(T, H, D), drawn(T, H, D, purpose="grad")

    def plain(x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, -1)
        return x * angle_T1D.cos() + torch.cat([-b, a], -1) * angle_T1D.sin()

    torch.testing.assert_close(rotation(input_THD), plain(input_THD))
    (expected_THD,) = by_autograd(plain, grad_THD, input_THD)
    torch.testing.assert_close(rotation.backward(grad_THD), expected_THD)
    torch.testing.assert_close(rotation.at(torch.tensor([3, 1]))(input_THD[[3, 1]]), plain(input_THD)[[3, 1]])


def test_gate() -> None:
    gate_TO, up_TO, grad_TO = drawn(T, D), drawn(T, D, purpose="up"), drawn(T, D, purpose="grad")
    memory_TO = torch.empty(T, D)
    torch.testing.assert_close(gated(gate_TO, up_TO, memory_TO), gate_TO * gate_TO.sigmoid() * up_TO)
    found = gated_backward(grad_TO.clone(), gate_TO, up_TO, memory_TO)
    torch.testing.assert_close(found, by_autograd(lambda a, b: a * a.sigmoid() * b, grad_TO, gate_TO, up_TO))
