"""The history: columns while they are few, a dense base from then on. Shapes: K key width 16, N columns."""

import numpy as np
import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.merging.history import GramHistory, grown
from consortium.merging.layer_update import merge_layer
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis, statistics_of
from support.methods import create

K = 16


def keys(num_edits, seed=0):
    return torch.randn(K, num_edits, generator=torch_generator(seed, "keys"), dtype=torch.float64)


def gram(num_edits, round_number, form="factored"):
    basis = Basis("ties", round_number, 5)
    residuals_VE = torch.zeros(3, num_edits, dtype=torch.float64)
    generator = torch_generator(round_number, "rotation")
    return statistics_of(basis, keys(num_edits, round_number), residuals_VE, form, generator).gram


def after(*sizes, weight=1.0, form="factored"):
    """The history after rounds 1, 2, … of so many edits."""
    history = None
    for round_number, size in enumerate(sizes, 1):
        history = grown(history, gram(size, round_number, form), weight)
    return history


def gram_sum(*sizes):
    return sum(keys(size, number) @ keys(size, number).T for number, size in enumerate(sizes, 1))


@pytest.mark.parametrize(
    ("sizes", "base_round", "rounds"),
    [
        ((4,), 0, [1]),  # K/4 columns are the most
        ((5,), 1, []),
        ((2, 1, 1), 0, [1, 2, 3]),
        ((2, 1, 2), 3, []),
        ((2, 1, 2, 1), 3, [4]),
        ((40, 1), 1, [2]),
        ((2, 0, 1), 0, [1, 3]),
        ((40, 0), 1, []),
    ],
)
def test_up_to_a_quarter_of_k_columns_are_kept(sizes, base_round, rounds):
    history = after(*sizes)
    assert (history.base_round, list(history.columns)) == (base_round, rounds)
    np.testing.assert_allclose(history.multiplied_out(), gram_sum(*sizes), atol=1e-12)


def test_dense_gram_sums_go_to_the_base_however_few_edits_they_are_of():
    history = after(1, 2, form="dense")
    assert (history.base_round, history.columns) == (2, {})
    np.testing.assert_allclose(history.multiplied_out(), gram_sum(1, 2), atol=1e-12)


@pytest.mark.parametrize("sizes", [(1, 2), (3, 9)])
@pytest.mark.parametrize("form", ["dense", "factored"])
def test_every_round_counts_with_the_weight(sizes, form):
    history = after(*sizes, weight=0.3, form=form)
    np.testing.assert_allclose(history.multiplied_out(), 0.3 * gram_sum(*sizes), atol=1e-12)


def test_a_history_of_no_edits_is_none():
    assert after(0, 0) is None


def test_a_round_leaves_the_history_before_it_as_it_was():
    before = after(1)
    both = grown(before, gram(1, 2), 1.0)
    assert (list(before.columns), list(both.columns)) == ([1], [1, 2])
    assert both.columns[1] is before.columns[1]


def test_names_are_those_of_the_rounds_that_it_ends_with():
    history = after(40, 1, 1)
    assert (history.base_version, history.versions(), history.version) == ("ties@1", ["ties@2", "ties@3"], "ties@3")
    assert (after(1).base_version, after(1).version) == (None, "ties@1")
    assert (after(40).version, GramHistory("ties").version) == ("ties@1", None)


def test_columns_are_of_the_gram_sums_alone():
    """Whoever mixed the parties' columns, what is kept is the same up to its signs; and it is triangular."""
    basis = Basis("ties", 1, 5)
    kept = []
    for seed in range(2):
        generator = torch_generator(seed, "rotation")
        statistics = statistics_of(basis, keys(3), torch.zeros(2, 3).double(), "factored", generator)
        kept.append(grown(None, statistics.gram, 1.0).columns[1])
    np.testing.assert_allclose(np.abs(kept[0]), np.abs(kept[1]), atol=1e-12)
    np.testing.assert_array_equal(np.triu(kept[0][:3], 1), 0)


def test_the_same_edit_twice_is_kept_as_well():
    """Two parties may ask for one fact: the factor's columns are then parallel, and its triangle singular."""
    twice = gram(1, 1).joined([gram(1, 1)])
    np.testing.assert_allclose(grown(None, twice, 1.0).multiplied_out(), 2 * gram_sum(1), atol=1e-12)


def test_bytes_are_those_of_the_numbers():
    assert after(2, 1).nbytes == 8 * 3 * K
    assert after(40, 1).nbytes == 8 * (K * K + K)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_a_merge_adds_a_rounds_gram_sums_by_the_weight_of_its_history(weight):
    """h·K·Kᵀ after the first round; with h = 0 there is no history."""
    weight_VK = np.zeros((3, K), np.float32)
    generator = torch_generator(1, "rotation")
    total = statistics_of(Basis("a", 1, 5), keys(2, 1), torch.zeros(3, 2, dtype=torch.float64), "dense", generator)
    history = merge_layer(create("collabedit", {}), total, CovarianceSolver(np.eye(K)), weight_VK, None, weight).history
    if weight:
        np.testing.assert_allclose(history.multiplied_out(), weight * gram_sum(2), atol=1e-12)
    else:
        assert history is None
