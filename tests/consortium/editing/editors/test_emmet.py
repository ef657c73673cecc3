"""EMMET against the paper's formula, its limit, and how small α may be. Shapes: E edits, K key width, V value width."""

import numpy as np
import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.editing.editors.registry import create_editor
from consortium.merging.history import GramHistory
from consortium.merging.method import PartyShare, sum_in_order
from consortium.merging.statistics import Basis
from consortium.scenario.editor import EmmetSpec, MemitSpec
from support import methods as registry

K, V, E, TOKENS, WEIGHT = 12, 5, 7, 100, 20.0
BASIS = Basis("arm", 1, 5)
LEAST = 1e-6


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed, "test"), dtype=torch.float64)


def covariance_sum():
    text_KT = gaussian(K, TOKENS, seed=2)
    return (text_KT @ text_KT.T).numpy()


def covariance_matrix():
    return torch.tensor(covariance_sum()) * WEIGHT / TOKENS


def edited(alpha, keys_KE, residuals_VE, method="collabedit", history=None, form="auto"):
    chosen = create_editor(EmmetSpec(method="emmet", covariance_weight=WEIGHT, alpha=alpha))
    solver = chosen.solvers({5: covariance_sum()}, TOKENS).get(5, history and history.version, lambda: history)
    pairs = zip(keys_KE.split([3, 4], dim=1), residuals_VE.split([3, 4], dim=1), strict=True)
    shares = [PartyShare(BASIS, *pair, form, torch_generator(0, "r", n)) for n, pair in enumerate(pairs)]
    made = registry.create(method, {})
    return made.merge(sum_in_order(made.contribute(shares, solver)), solver)


@pytest.mark.parametrize("alpha", [10.0, 0.1, 1e-3])
def test_the_update_is_the_papers(alpha):
    """Δ = R·(Kᵀ·C⁻¹·K + α·I)⁻¹·Kᵀ·C⁻¹, an E×E system where ours has a K×K one."""
    keys_KE, residuals_VE = gaussian(K, E, seed=3), gaussian(V, E, seed=4)
    inverse_KK = torch.linalg.inv(covariance_matrix())
    inner_EE = keys_KE.T @ inverse_KK @ keys_KE + alpha * torch.eye(E, dtype=torch.float64)
    expected_VK = residuals_VE @ torch.linalg.inv(inner_EE) @ keys_KE.T @ inverse_KK
    torch.testing.assert_close(edited(alpha, keys_KE, residuals_VE), expected_VK, rtol=1e-9, atol=1e-12)


def test_a_history_stands_beside_the_covariance():
    """With C + H for C, in which H enters as grown by α times what MEMIT's would be."""
    keys_KE, residuals_VE, earlier_KE = gaussian(K, E, seed=3), gaussian(V, E, seed=4), gaussian(K, 3, seed=5)
    alpha = 0.1
    scale = create_editor(EmmetSpec(method="emmet", alpha=alpha)).history_scale
    history = GramHistory("arm", 1, (scale * earlier_KE @ earlier_KE.T).numpy())
    inverse_KK = torch.linalg.inv(covariance_matrix() + earlier_KE @ earlier_KE.T)
    inner_EE = keys_KE.T @ inverse_KK @ keys_KE + alpha * torch.eye(E, dtype=torch.float64)
    expected_VK = residuals_VE @ torch.linalg.inv(inner_EE) @ keys_KE.T @ inverse_KK
    found_VK = edited(alpha, keys_KE, residuals_VE, history=history)
    torch.testing.assert_close(found_VK, expected_VK, rtol=1e-9, atol=1e-12)


def test_towards_zero_edits_hold_and_ordinary_keys_move_least():
    """Δ·K → R, and tr(Δ·C·Δᵀ) is least among all such Δ: adding what moves no edit makes it larger."""
    keys_KE, residuals_VE = gaussian(K, E, seed=3), gaussian(V, E, seed=4)
    delta_VK = edited(LEAST, keys_KE, residuals_VE)
    torch.testing.assert_close(delta_VK @ keys_KE, residuals_VE, rtol=0, atol=1e-4)
    assert not torch.allclose(edited(10.0, keys_KE, residuals_VE) @ keys_KE, residuals_VE, atol=0.1)
    elsewhere_KK = torch.eye(K, dtype=torch.float64) - keys_KE @ torch.linalg.pinv(keys_KE)
    moved = [
        torch.trace(each @ covariance_matrix() @ each.T)
        for each in (delta_VK, *(delta_VK + 1e-2 * gaussian(V, K, seed=n) @ elsewhere_KK for n in range(6, 10)))
    ]
    assert min(moved[1:]) > moved[0]


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_the_least_alpha_still_merges_exactly(form):
    """Nearly equal keys, whose constraints nearly contradict each other, are the hardest case for float64."""
    keys_KE = gaussian(K, 1, seed=3) + 0.01 * gaussian(K, E, seed=6)
    residuals_VE = gaussian(V, E, seed=4)
    merged_VK = edited(LEAST, keys_KE, residuals_VE, form=form)
    owned_VK = edited(LEAST, keys_KE, residuals_VE, method="global")
    assert float((merged_VK - owned_VK).norm() / owned_VK.norm()) < 1e-6


def test_equal_keys_that_want_different_things_get_the_mean():
    """No Δ maps one key to two values; the softened constraints meet in between instead of failing."""
    keys_KE = gaussian(K, 1, seed=3).repeat(1, E)
    residuals_VE = gaussian(V, E, seed=4)
    delta_VK = edited(LEAST, keys_KE, residuals_VE)
    torch.testing.assert_close(delta_VK @ keys_KE[:, 0], residuals_VE.mean(dim=1), rtol=0, atol=1e-4)


def test_one_is_memit():
    memit = create_editor(MemitSpec(covariance_weight=WEIGHT)).solvers({5: covariance_sum()}, TOKENS).get(5)
    emmet = create_editor(EmmetSpec(method="emmet", covariance_weight=WEIGHT, alpha=1.0))
    factor_KK = emmet.solvers({5: covariance_sum()}, TOKENS).get(5).factor_KK
    np.testing.assert_array_equal(factor_KK, memit.factor_KK)
    assert emmet.history_scale == 1.0
