"""RegMean and Fisher averaging. Shapes: E edits, K key width, V value width."""

import numpy as np
import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.merging.method import PartyShare, sum_in_order
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis
from hypothesis import given, settings
from hypothesis import strategies as st
from support.methods import create

BASIS = Basis("regmean", 1, 5)
K, V = 12, 5


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed, "test"), dtype=torch.float64)


def covariance_matrix(key_width=K):
    samples = gaussian(key_width, 4 * key_width, seed=99)
    return (samples @ samples.T / (4 * key_width)).numpy()


def shares(sizes, form="auto", seed=0):
    return [
        PartyShare(
            BASIS, gaussian(K, size, seed=seed + i), gaussian(V, size, seed=seed - i), form, torch_generator(i, "r")
        )
        for i, size in enumerate(sizes)
    ]


def merged(name, party_shares, covariance_KK, **parameters):
    method, solver = create(name, parameters), CovarianceSolver(covariance_KK)
    return method.merge(sum_in_order(method.contribute(party_shares, solver)), solver)


def two_parties_and_one_without_edits(name, **parameters):
    """C = I, keys (1, 0) and (1, 1), residuals 4 and 6, and a party without edits.

    G_1 = diag(2, 1), Δ_1 = (2, 0); G_2 = [[2, 1], [1, 2]], Δ_2 = (6, 6)·[[2, −1], [−1, 2]]/3 = (2, 2); G_3 = I.
    """
    edits = [([[1.0], [0.0]], [[4.0]]), ([[1.0], [1.0]], [[6.0]]), ([[], []], [[]])]
    party_shares = [
        PartyShare(
            BASIS, torch.tensor(keys).double(), torch.tensor(residuals).double(), "auto", torch_generator(0, "r")
        )
        for keys, residuals in edits
    ]
    return merged(name, party_shares, np.eye(2), **parameters)


def test_fisher_weighs_entries_by_the_diagonal():
    """(2·2 + 2·2 + 0) / (2 + 2 + 1) = 1.6 and (0 + 2·2 + 0) / (1 + 2 + 1) = 1."""
    np.testing.assert_allclose(two_parties_and_one_without_edits("fisher"), [[1.6, 1.0]], rtol=1e-14)
    np.testing.assert_allclose(two_parties_and_one_without_edits("regmean", alpha=0.0), [[1.6, 1.0]], rtol=1e-14)


def test_regmean_by_hand():
    """Σ cross = (10, 6), Σ G = [[5, 1], [1, 4]]: (10, 6)·[[4, −1], [−1, 5]]/19 = (34, 20)/19.

    α = 1/2: Σ Δ·diag = (8, 4), so (9, 5), and [[5, 1/2], [1/2, 4]]: (9, 5)·[[4, −1/2], [−1/2, 5]]/19.75.
    """
    found = two_parties_and_one_without_edits("regmean", alpha=1.0)
    np.testing.assert_allclose(found, [[34 / 19, 20 / 19]], rtol=1e-14)
    found = two_parties_and_one_without_edits("regmean", alpha=0.5)
    np.testing.assert_allclose(found, [[33.5 / 19.75, 20.5 / 19.75]], rtol=1e-14)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any),
    st.sampled_from(["auto", "dense", "factored"]),
    st.integers(0, 100),
)
def test_regmean_is_collabedit_with_the_covariance_counted_for_every_party(sizes, form, seed):
    party_shares, covariance_KK = shares(sizes, form, seed), covariance_matrix()
    found = merged("regmean", party_shares, covariance_KK, alpha=1.0)
    expected = merged("collabedit", party_shares, len(sizes) * covariance_KK)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9, 1.0])
def test_parties_that_want_the_same_get_what_one_would(alpha):
    """The mean of equal updates is that update, whatever they are weighted by."""
    one = shares([3])[0]
    same = [PartyShare(BASIS, one.keys_KE, one.residuals_VE, "auto", torch_generator(i, "r")) for i in range(4)]
    found = merged("regmean", same, covariance_matrix(), alpha=alpha)
    torch.testing.assert_close(found, merged("task_arithmetic", same[:1], covariance_matrix()), rtol=1e-10, atol=1e-12)


def test_regmean_is_the_least_squares_fit_to_every_partys_outputs():
    """Δ minimises Σ_i tr (Δ − Δ_i)·G_i·(Δ − Δ_i)ᵀ: its gradient Σ (Δ − Δ_i)·G_i is zero."""
    party_shares, covariance_KK = shares([2, 1, 3]), covariance_matrix()
    delta_VK = merged("regmean", party_shares, covariance_KK, alpha=1.0)
    gradient_VK = torch.zeros(V, K, dtype=torch.float64)
    for share in party_shares:
        gram_KK = torch.tensor(covariance_KK) + share.keys_KE @ share.keys_KE.T
        gradient_VK += (delta_VK - merged("task_arithmetic", [share], covariance_KK)) @ gram_KK
    assert gradient_VK.abs().max() < 1e-11


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_few_edits_are_sent_as_columns_against_a_wide_key(alpha):
    """K = 600, V = 5: two edits are at most 4 columns of 605 numbers, and a gram factor; never K×K."""
    keys_KE, residuals_VE = gaussian(600, 2), gaussian(300, 2)
    share = PartyShare(BASIS, keys_KE, residuals_VE, "auto", torch_generator(0, "r"))
    solver = CovarianceSolver(np.eye(600))
    sent = create("regmean", {"alpha": alpha}).contribute([share], solver)[0]
    assert sent.nbytes <= 8 * (4 * 900 + 2 * 600)
