"""What solvers share is, bit for bit, what would be made anew. Shapes: K key width, N columns."""

import numpy as np
import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.merging import solvers as solvers_module
from consortium.merging.history import GramHistory, grown
from consortium.merging.solvers import Solvers, covariance_matrix
from consortium.merging.statistics import Basis, statistics_of

K = 40


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed, "test"), dtype=torch.float64)


def sums(num_layers=2):
    samples = [gaussian(K, 4 * K, seed=90 + layer) for layer in range(num_layers)]
    return {layer: (each @ each.T).numpy() for layer, each in enumerate(samples)}


def histories(arm, sizes, layer=0):
    """The history after each of some rounds."""
    found, history = [], None
    for round_number, size in enumerate(sizes, 1):
        keys_KE = gaussian(K, size, seed=1000 * layer + round_number + len(arm))
        basis = Basis(arm, round_number, layer)
        statistics = statistics_of(basis, keys_KE, gaussian(3, size), "auto", torch_generator(0, "r"))
        history = grown(history, statistics.gram, 1.0)
        found.append(history)
    return found


def get(solvers, layer=0, history=None):
    return solvers.get(layer, history and history.version, lambda: history)


def edits(num_edits=3, layer=0):
    basis = Basis("arm", 9, layer)
    return statistics_of(basis, gaussian(K, num_edits), gaussian(3, num_edits, seed=1), "auto", torch_generator(0, "r"))


@pytest.fixture
def choleskys(monkeypatch):
    """Sizes of the systems factored so far."""
    found = []
    cholesky = torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda matrix: found.append(matrix.shape[0]) or cholesky(matrix))
    return found


def test_the_covariance_is_the_weighted_mean_over_tokens():
    np.testing.assert_array_equal(covariance_matrix(np.eye(2) * 6, 3, 10.0), np.eye(2) * 20)


def test_a_layers_covariance_is_factored_once_for_all_arms_and_rounds(choleskys):
    """Six rounds of one edit are columns; with K = 40 there may be ten."""
    solvers = Solvers(sums(), 4 * K, 1.0)
    for arm in ("collabedit", "ties"):
        for history in [None, *histories(arm, [1] * 6)]:
            get(solvers, 0, history).merge(edits())
    assert choleskys.count(K) == 1


def test_a_base_is_factored_once_until_the_next():
    """11 edits, and then 1 each: the base of round 1 serves rounds 1 to 3."""
    solvers = Solvers(sums(), 4 * K, 1.0)
    factors = [get(solvers, 0, history).factor_KK for history in histories("ties", [11, 1, 1])]
    assert factors[0] is factors[1] is factors[2]


@pytest.mark.parametrize(
    "weight", [1.0, 1e-6]
)  # with a light key covariance columns are heavy, and make factors of their own
@pytest.mark.parametrize("sizes", [[1] * 6, [4, 4, 4, 1, 1], [30, 2, 0, 3]])
def test_every_round_solves_as_if_nothing_had_been_kept(sizes, weight):
    kept = Solvers(sums(), 4 * K, weight)
    for history in histories("ties", sizes):
        alone = Solvers(sums(), 4 * K, weight)
        assert torch.equal(get(kept, 0, history).merge(edits()), get(alone, 0, history).merge(edits()))


def test_columns_and_a_dense_history_solve_the_same():
    *_, history = histories("ties", [1, 2, 3])
    dense = GramHistory("dense", 3, history.multiplied_out().numpy())
    solvers = Solvers(sums(), 4 * K, 1.0)
    for statistics in (edits(3), edits(35)):  # by factors, and as a dense sum
        one, other = get(solvers, 0, history).merge(statistics), get(solvers, 0, dense).merge(statistics)
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)
    without = get(solvers).merge(edits(3))
    assert torch.linalg.norm(get(solvers, 0, history).merge(edits(3)) - without) > 0.01 * torch.linalg.norm(without)


def test_no_room_costs_time_but_no_bits(monkeypatch, choleskys):
    monkeypatch.setattr(solvers_module, "_LEAST_ROOM", 0)
    roomy, tight = Solvers(sums(), 4 * K, 1.0), Solvers(sums(), 4 * K, 1.0)
    tight._room = 1
    rounds = list(zip(*(histories("ties", [1, 2, 12, 1], layer) for layer in (0, 1)), strict=True))
    for solvers in (roomy, tight):
        solvers.found = [get(solvers, layer, pair[layer]).merge(edits()) for pair in rounds for layer in (0, 1)]
        solvers.num_factored = choleskys.count(K)
        assert len(solvers._kept) == 1 or solvers is roomy
    assert all(map(torch.equal, roomy.found, tight.found))
    assert tight.num_factored - roomy.num_factored > roomy.num_factored


def test_what_is_kept_is_bounded(monkeypatch):
    """Two layers' factors and as much again, and one in use, whatever number of arms and rounds goes by."""
    monkeypatch.setattr(solvers_module, "_LEAST_ROOM", 0)
    solvers = Solvers(sums(), 4 * K, 1.0)
    for arm in ("a", "bb", "ccc", "dddd"):
        for layer in (0, 1):
            for history in histories(arm, [1, 1, 30, 1, 1], layer):
                get(solvers, layer, history).merge(edits())
                assert solvers._bytes() <= (4 + 1) * 8 * K * K


def test_of_earlier_rounds_only_the_base_is_kept():
    solvers = Solvers(sums(), 4 * K, 1.0)
    for history in histories("ties", [1] * 5):
        get(solvers, 0, history)
    assert list(solvers._kept) == [(0, None), (0, "ties@5")]


def test_of_dense_rounds_only_the_last_is_kept():
    """Two arms, each of whose rounds makes a base of its own, and then columns on it."""
    solvers = Solvers(sums(), 4 * K, 1.0)
    for pair in zip(histories("ties", [30, 30, 1]), histories("sum", [30, 30, 1]), strict=True):
        for history in pair:
            get(solvers, 0, history).merge(edits())
    assert list(solvers._kept) == [(0, "ties@2"), (0, "ties@3"), (0, "sum@2"), (0, "sum@3")]
    assert solvers._bytes() < 3 * 8 * K * K


def test_a_base_in_use_outlives_what_was_used_before_it(monkeypatch, choleskys):
    """Room for two factors: another layer's goes, not the one that an arm's every round comes back to."""
    monkeypatch.setattr(solvers_module, "_LEAST_ROOM", 0)
    solvers = Solvers(sums(), 4 * K, 1.0)
    solvers._room = int(2.5 * 8 * K * K)
    get(solvers, 0)
    get(solvers, 1)
    for history in histories("ties", [1] * 9):
        get(solvers, 0, history)
    assert choleskys.count(K) == 2
    assert (0, None) in solvers._kept


def test_a_history_is_read_only_where_it_is_not_known():
    solvers, reads = Solvers(sums(), 4 * K, 1.0), []
    (history,) = histories("ties", [2])
    for _ in range(3):
        solvers.get(0, history.version, lambda: reads.append(1) or history)
    assert reads == [1]
