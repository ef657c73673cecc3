"""Changes removed through an RMS norm: exact where the norm can give them, else the nearest that it can."""

from __future__ import annotations

import pytest
import torch
from consortium.models.output_norm import change_before_norm

V = 12
EPS = 1e-12


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normed(outputs_EV: torch.Tensor, gain_V: torch.Tensor) -> torch.Tensor:
    return gain_V * outputs_EV * (outputs_EV.square().mean(-1, keepdim=True) + EPS).rsqrt()


@pytest.fixture
def gain_V() -> torch.Tensor:
    """Gains over five orders of magnitude, of either sign, as a real Gemma has them."""
    return drawn(V, seed=1).sign() * torch.logspace(-2, 3, V, dtype=torch.float64)


def test_on_a_circle_by_hand() -> None:
    """x = (1, 0), g = 1: y lies on a circle of radius √2; from (√2, 0) to (0, 5) the nearest point is (0, √2)."""
    outputs_EV = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    wanted_EV = torch.tensor([[-(2.0**0.5), 5.0]], dtype=torch.float64)
    change_EV = change_before_norm(outputs_EV, wanted_EV, torch.ones(2, dtype=torch.float64), EPS)
    torch.testing.assert_close(change_EV, torch.tensor([[-1.0, 1.0]], dtype=torch.float64))


def test_nothing_wanted_changes_nothing(gain_V: torch.Tensor) -> None:
    outputs_EV = drawn(4, V)
    change_EV = change_before_norm(outputs_EV, torch.zeros_like(outputs_EV), gain_V, EPS)
    torch.testing.assert_close(change_EV, torch.zeros_like(outputs_EV), atol=1e-9, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_what_the_norm_can_give_is_reached(gain_V: torch.Tensor, seed: int) -> None:
    outputs_EV, others_EV = drawn(6, V, seed=seed), 3 * drawn(6, V, seed=seed + 100)
    wanted_EV = normed(others_EV, gain_V) - normed(outputs_EV, gain_V)
    change_EV = change_before_norm(outputs_EV, wanted_EV, gain_V, EPS)
    torch.testing.assert_close(normed(outputs_EV + change_EV, gain_V), normed(others_EV, gain_V), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [0.01, 1.0, 100.0, 1e6])
def test_what_it_cannot_give_is_neared_as_far_as_it_goes(gain_V: torch.Tensor, size: float) -> None:
    """No other input of the norm, far off or close by, comes nearer; by differences over 2,000 draws."""
    outputs_EV, wanted_EV = drawn(3, V), size * drawn(3, V, seed=9)
    reached_EV = outputs_EV + change_before_norm(outputs_EV, wanted_EV, gain_V, EPS)
    target_EV = normed(outputs_EV, gain_V) + wanted_EV
    left_E = (normed(reached_EV, gain_V) - target_EV).norm(dim=1)
    assert (left_E < wanted_EV.norm(dim=1)).all()
    for step in (10.0, 0.1, 1e-3):
        others_NEV = reached_EV + step * drawn(2000, 3, V, seed=3)
        assert ((normed(others_NEV, gain_V) - target_EV).norm(dim=2) >= left_E * (1 - 1e-12)).all()


def test_components_without_gain_ask_for_nothing(gain_V: torch.Tensor) -> None:
    gain_V[3], gain_V[7] = 0.0, 1e-12
    outputs_EV, wanted_EV = drawn(5, V), drawn(5, V, seed=4)
    change_EV = change_before_norm(outputs_EV, wanted_EV, gain_V, EPS)
    wanted_EV[:, 3] = 1e9
    torch.testing.assert_close(change_before_norm(outputs_EV, wanted_EV, gain_V, EPS), change_EV, rtol=0, atol=0)
    assert change_EV.isfinite().all()


def test_the_length_of_what_is_normed_stays(gain_V: torch.Tensor) -> None:
    """So that changes stay of the size of what they change, however little gain a component has."""
    outputs_EV = 5 * drawn(5, V)
    change_EV = change_before_norm(outputs_EV, 100 * drawn(5, V, seed=2), gain_V, EPS)
    torch.testing.assert_close((outputs_EV + change_EV).norm(dim=1), outputs_EV.norm(dim=1))


def test_an_output_of_nothing_stays_nothing(gain_V: torch.Tensor) -> None:
    """The norm takes zero to zero, whatever is wanted, and gives no direction to go in."""
    zeros_EV = torch.zeros(2, V, dtype=torch.float64)
    assert (change_before_norm(zeros_EV, drawn(2, V), gain_V, EPS) == 0).all()


def test_no_edits_ask_for_nothing(gain_V: torch.Tensor) -> None:
    assert change_before_norm(drawn(0, V), drawn(0, V), gain_V, EPS).shape == (0, V)
