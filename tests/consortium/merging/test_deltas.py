"""Local updates in factored and dense form. Shapes: E edits, K key width 12, V value width 5, N columns."""

import numpy as np
import pytest
import torch
from consortium.common.arrays import array_of
from consortium.common.errors import StatisticsError
from consortium.common.seeds import torch_generator
from consortium.merging.deltas import DenseUpdate, FactoredUpdate, delta_sums_of, joined_updates
from consortium.merging.method import PartyShare, sum_in_order
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis, DenseStatistics, FactoredStatistics

BASIS = Basis("arm", 1, 5)
K, V = 12, 5


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed, "test"), dtype=torch.float64)


def solver():
    samples = gaussian(K, 4 * K, seed=99)
    return CovarianceSolver((samples @ samples.T / (4 * K)).numpy())


def share(num_edits, form="auto", seed=0):
    generator = torch_generator(seed, "rotation")
    return PartyShare(BASIS, gaussian(K, num_edits, seed=seed), gaussian(V, num_edits, seed=seed + 1), form, generator)


def alone(one):
    """Δ_i by its definition."""
    samples = gaussian(K, 4 * K, seed=99)
    system_KK = samples @ samples.T / (4 * K) + one.keys_KE @ one.keys_KE.T
    return one.residuals_VE @ one.keys_KE.T @ torch.linalg.inv(system_KK)


def factored(num_columns, seed=0):
    return FactoredUpdate(array_of(gaussian(V, num_columns, seed=seed)), array_of(gaussian(K, num_columns, seed=9)))


@pytest.mark.parametrize("form", ["auto", "dense", "factored"])
def test_parties_solved_together_are_solved_each_for_itself(form):
    """Few edits, none, more than K/2, more than K, and so many parties that they go in several batches."""
    shares = [share(size, form, seed) for seed, size in enumerate([3, 0, 1, 8, 2, 30, *[4] * 7])]
    found = delta_sums_of(shares, solver())
    for one, sent in zip(shares, found, strict=True):
        np.testing.assert_allclose(sent.delta_VK, alone(one), atol=1e-12)
        np.testing.assert_allclose(sent.gram.gram_KK, one.keys_KE @ one.keys_KE.T, atol=1e-12)
        assert (sent.num_edits, sent.num_parties) == (one.keys_KE.shape[1], 1)


@pytest.mark.parametrize(
    ("form", "num_edits", "update", "gram"),
    [
        ("auto", 3, FactoredUpdate, FactoredStatistics),  # 3·(5 + 12) < 5·12
        ("auto", 4, DenseUpdate, FactoredStatistics),
        ("auto", 12, DenseUpdate, DenseStatistics),
        ("factored", 4, FactoredUpdate, FactoredStatistics),
        ("dense", 1, DenseUpdate, DenseStatistics),
    ],
)
def test_a_message_has_the_form_that_is_asked_for(form, num_edits, update, gram):
    (sent,) = delta_sums_of([share(num_edits, form)], solver())
    assert (type(sent.update), type(sent.gram)) == (update, gram)
    assert sent.nbytes == sent.update.nbytes + sent.gram.nbytes


def test_sums_of_few_columns_stay_factored_and_never_outgrow_the_dense_form():
    parts = [factored(1, seed) for seed in range(6)]
    few, many = joined_updates(parts[:3]), joined_updates(parts)
    assert (type(few), type(many)) == (FactoredUpdate, DenseUpdate)
    assert many.nbytes == 8 * V * K
    for total, count in ((few, 3), (many, 6)):
        np.testing.assert_allclose(total.delta_VK, sum(part.delta_VK for part in parts[:count]), atol=1e-13)


def test_dense_and_factored_updates_add():
    one, other = factored(2), DenseUpdate(array_of(gaussian(V, K, seed=3)))
    for parts in ([one, other], [other, one], [other, one, other]):
        expected = sum(part.delta_VK for part in parts)
        np.testing.assert_allclose(joined_updates(parts).delta_VK, expected, atol=1e-13)


def test_a_party_batch_of_small_parties_sends_less_than_one_dense_update():
    shares = [share(1, seed=seed) for seed in range(3)]
    assert sum_in_order(delta_sums_of(shares, solver())).update.nbytes == 8 * 3 * (K + V) < 8 * K * V


def test_factors_that_do_not_fit_or_are_not_finite_are_refused():
    with pytest.raises(StatisticsError, match=r"factors \[5, 2\] and \[12, 1\] of party batch 3"):
        FactoredUpdate(np.zeros((V, 2)), np.zeros((K, 1))).check("party batch 3")
    with pytest.raises(StatisticsError, match="solved_KN of party batch 3: 12 of 12"):
        FactoredUpdate(np.zeros((V, 1)), np.full((K, 1), np.inf)).check("party batch 3")
