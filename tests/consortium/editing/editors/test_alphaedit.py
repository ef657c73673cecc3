"""AlphaEdit against the paper's formula, and what it leaves alone. Shapes: E edits, K key width, V value width."""

import numpy as np
import pytest
import torch
from consortium.common.errors import StatisticsError
from consortium.common.seeds import torch_generator
from consortium.editing.editors.alphaedit import preserved_directions
from consortium.editing.editors.registry import create_editor
from consortium.merging.history import GramHistory
from consortium.merging.method import PartyShare, sum_in_order
from consortium.merging.statistics import Basis
from consortium.scenario.editor import AlphaEditSpec
from support import methods as registry

K, V, E, TOKENS = 12, 5, 7, 100
BASIS = Basis("arm", 1, 5)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed, "test"), dtype=torch.float64)


def covariance_sum():
    """Text whose keys crowd along four of twelve directions."""
    scale_K = torch.tensor([3.0] * 4 + [0.1] * 8, dtype=torch.float64)
    text_KT = torch.linalg.qr(gaussian(K, K, seed=1)).Q @ (scale_K[:, None] * gaussian(K, TOKENS, seed=2))
    return text_KT, (text_KT @ text_KT.T).numpy()


def editor(**settings):
    return create_editor(AlphaEditSpec(method="alphaedit", **settings))


def edited(chosen, method, keys_KE, residuals_VE, history=None):
    """A merge over two parties, as a worker and a coordinator do it."""
    _, gram_KK = covariance_sum()
    solver = chosen.solvers({5: gram_KK}, TOKENS).get(5, history and history.version, lambda: history)
    mapped_KE = chosen.key_map({5: gram_KK}, TOKENS)(5, keys_KE)
    pairs = zip(mapped_KE.split([3, 4], dim=1), residuals_VE.split([3, 4], dim=1), strict=True)
    shares = [PartyShare(BASIS, *pair, "auto", torch_generator(0, "r", n)) for n, pair in enumerate(pairs)]
    made = registry.create(method, {})
    return made.merge(sum_in_order(made.contribute(shares, solver)), solver)


def projection(num_free):
    """P as the paper's code makes it: by singular vectors, U₂·U₂ᵀ of the smallest ones."""
    _, gram_KK = covariance_sum()
    u_KK, _, _ = torch.linalg.svd(torch.tensor(gram_KK) / TOKENS)
    return u_KK[:, K - num_free :] @ u_KK[:, K - num_free :].T


@pytest.mark.parametrize("method", ["collabedit", "global"])
@pytest.mark.parametrize("settings", [{"share": 0.7, "l2": 10.0}, {"threshold": 0.1, "l2": 0.5}])
def test_the_update_is_the_papers(method, settings):
    """Δ = R·K₁ᵀ·P·(K_p·K_pᵀ·P + K₁·K₁ᵀ·P + L₂·I)⁻¹; H holds projected keys, the paper's K_p those before it."""
    keys_KE, residuals_VE, earlier_KE = gaussian(K, E, seed=3), gaussian(V, E, seed=4), gaussian(K, 2, seed=5)
    p_KK = projection(8)
    system_KK = (earlier_KE @ earlier_KE.T + keys_KE @ keys_KE.T) @ p_KK + settings["l2"] * torch.eye(
        K, dtype=torch.float64
    )
    expected_VK = residuals_VE @ keys_KE.T @ p_KK @ torch.linalg.inv(system_KK)
    history = GramHistory("arm", 1, (p_KK @ earlier_KE @ earlier_KE.T @ p_KK).numpy())
    found_VK = edited(editor(**settings), method, keys_KE, residuals_VE, history)
    torch.testing.assert_close(found_VK, expected_VK, rtol=1e-9, atol=1e-12)


def test_keys_of_the_preserved_space_are_not_moved():
    """Ordinary text's own directions: Δ·k₀ is rounding, while an update without P moves them."""
    keys_KE, residuals_VE = gaussian(K, E, seed=3), gaussian(V, E, seed=4)
    _, gram_KK = covariance_sum()
    preserved_KM = preserved_directions(
        torch.tensor(gram_KK) / TOKENS, AlphaEditSpec(method="alphaedit", share=0.7), "layer 5"
    )
    assert preserved_KM.shape == (K, 4)
    delta_VK = edited(editor(share=0.7), "collabedit", keys_KE, residuals_VE)
    everything_VK = edited(editor(share=1.0), "collabedit", keys_KE, residuals_VE)
    assert float((delta_VK @ preserved_KM).norm()) < 1e-13 * float(delta_VK.norm())
    assert float((everything_VK @ preserved_KM).norm()) > 0.1 * float(everything_VK.norm())


def test_the_share_is_of_the_directions_and_free_of_units():
    """Twelve directions: 0.7 of them are 8. Keys a thousand times longer leave the choice as it is."""
    _, gram_KK = covariance_sum()
    small, large = (
        preserved_directions(torch.tensor(gram_KK * scale), AlphaEditSpec(method="alphaedit", share=0.7), "layer 5")
        for scale in (1e-3, 1e3)
    )
    assert small.shape == large.shape == (K, 4)
    torch.testing.assert_close(small @ small.T, large @ large.T, rtol=0, atol=1e-10)


def test_the_threshold_is_in_units_of_one_key():
    """Twice as much of the same text changes nothing: eigenvalues are of the mean."""
    _, gram_KK = covariance_sum()
    chosen, keys_KE = editor(threshold=0.1), gaussian(K, E, seed=3)
    once = chosen.key_map({5: gram_KK}, TOKENS)(5, keys_KE)
    twice = chosen.key_map({5: 2 * gram_KK}, 2 * TOKENS)(5, keys_KE)
    torch.testing.assert_close(once, projection(8) @ keys_KE, rtol=0, atol=1e-10)
    torch.testing.assert_close(twice, once, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [({"threshold": 1e-9}, "raise editor.threshold, or remove it"), ({"share": 0.01}, "editor.share$")],
)
def test_where_nothing_is_free_nothing_can_be_edited(settings, remedy):
    _, gram_KK = covariance_sum()
    with pytest.raises(StatisticsError, match=rf"no direction of layer 5 is free(.|\n)*{remedy}"):
        editor(**settings).key_map({5: gram_KK}, TOKENS)(5, gaussian(K, E))


def test_a_projected_key_stays_what_it_is():
    """P·P = P, as the statistics of a party that projects twice would show."""
    _, gram_KK = covariance_sum()
    project = editor().key_map({5: gram_KK}, TOKENS)
    once = project(5, gaussian(K, E, seed=3))
    np.testing.assert_allclose(project(5, once), once, atol=1e-13)
