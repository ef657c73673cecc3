"""Shapes: E edits, K key width, V value width, N columns."""

import numpy as np
import pytest
import torch
from consortium.common.errors import StatisticsError
from consortium.common.seeds import torch_generator
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis, DenseStatistics, FactoredStatistics, statistics_of, zero

BASIS = Basis("collabedit", 1, 5)
K, V = 8, 3


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed, "test"), dtype=torch.float64)


def covariance(key_width=K, weight=1.0):
    samples = gaussian(key_width, 4 * key_width, seed=99)
    return (weight * samples @ samples.T / (4 * key_width)).numpy()


def statistics(num_edits, form="auto", seed=1, key_width=K):
    keys_KE, residuals_VE = gaussian(key_width, num_edits, seed=seed), gaussian(V, num_edits, seed=seed + 1)
    return statistics_of(BASIS, keys_KE, residuals_VE, form, torch_generator(seed, "rotation"))


def relative(one, other):
    return float(np.linalg.norm(np.asarray(one) - np.asarray(other)) / np.linalg.norm(np.asarray(other)))


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_one_edit_by_hand(form):
    """C = [[2, 0], [0, 4]], H = [[0, 0], [0, 1]], key (1, 2), residual 3, so A = [[2, 0], [0, 5]].

    gram = [[1, 2], [2, 4]] and A + gram = [[3, 2], [2, 9]] with determinant 23 and inverse [[9, −2], [−2, 3]]/23.
    cross = 3·(1, 2) = (3, 6), so Δ = (3·9 − 6·2, −3·2 + 6·3)/23 = (15, 12)/23.
    """
    solver = CovarianceSolver(np.diag([2.0, 4.0]), np.diag([0.0, 1.0]))
    key_KE, residual_VE = torch.tensor([[1.0], [2.0]]).double(), torch.tensor([[3.0]]).double()
    edit = statistics_of(BASIS, key_KE, residual_VE, form, torch_generator(0, "r"))
    np.testing.assert_allclose(solver.merge(edit), [[15 / 23, 12 / 23]], rtol=1e-14)


def test_solve_and_factor_by_hand():
    """A = [[4, 2], [2, 10]] = L·Lᵀ with L = [[2, 0], [1, 3]]; A·(1, 1) = (6, 12)."""
    solver = CovarianceSolver(np.array([[4.0, 2.0], [2.0, 10.0]]))
    np.testing.assert_allclose(solver.factor_KK, [[2, 0], [1, 3]], rtol=1e-14)
    np.testing.assert_allclose(solver.solve(torch.tensor([[6.0], [12.0]]).double()), [[1], [1]], rtol=1e-14)


@pytest.mark.parametrize("num_edits", [1, 3, K - 1, K, 3 * K])
def test_dense_and_factored_give_the_same_merge(num_edits):
    solver = CovarianceSolver(covariance())
    dense, factored = statistics(num_edits, "dense"), statistics(num_edits, "factored")
    assert (type(dense), type(factored)) == (DenseStatistics, FactoredStatistics)
    assert relative(solver.merge(factored), solver.merge(dense)) < 1e-12


def test_the_merge_solves_the_normal_equations():
    solver, edits = CovarianceSolver(covariance(), covariance(weight=0.3)), statistics(5)
    total_KK = covariance() * 1.3 + edits.gram_KK
    np.testing.assert_allclose(solver.merge(edits).numpy() @ total_KK, edits.cross_VK, atol=1e-12)


def test_the_covariance_is_factored_once(monkeypatch):
    calls = []
    cholesky = torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda matrix: calls.append(matrix.shape[0]) or cholesky(matrix))
    solver = CovarianceSolver(covariance())
    for seed in range(3):
        solver.merge(statistics(2, seed=seed))
        solver.solve(gaussian(K, 1))
    assert calls == [K, 2, 2, 2]


def test_history_counts_like_more_covariance():
    with_history = CovarianceSolver(covariance(), statistics(6, seed=7).gram_KK)
    as_covariance = CovarianceSolver(covariance() + statistics(6, seed=7).gram_KK)
    without = CovarianceSolver(covariance())
    edits = statistics(4)
    assert relative(with_history.merge(edits), as_covariance.merge(edits)) < 1e-14
    assert relative(with_history.merge(edits), without.merge(edits)) > 0.01


@pytest.mark.parametrize("num_edits", [2, 6])
def test_columns_of_the_history_count_like_more_covariance(num_edits):
    """By factors and as a dense sum; one round of columns after the other, and the factor of C stays."""
    columns_KN = gaussian(K, 5, seed=7)
    solver = CovarianceSolver(covariance())
    extended = solver.extended(columns_KN[:, :3].numpy()).extended(columns_KN[:, 3:].numpy())
    as_covariance = CovarianceSolver(covariance() + (columns_KN @ columns_KN.T).numpy())
    edits = statistics(num_edits)
    assert relative(extended.merge(edits), as_covariance.merge(edits)) < 1e-12
    assert relative(extended.solve(gaussian(K, 2)), as_covariance.solve(gaussian(K, 2))) < 1e-12
    assert extended.factor_KK is solver.factor_KK
    assert relative(solver.merge(edits), CovarianceSolver(covariance()).merge(edits)) == 0


def test_heavy_columns_lose_no_digits():
    """C = I, a column (a, 0) with a = 1e7, then an edit with key (a, 1) and residual 1: near what is kept already.

    A + gram = [[1 + 2a², a], [a, 2]] has determinant 2 + 3a², cross = (a, 1), so Δ = (a, 1 + a²)/(2 + 3a²).
    """
    a = 1e7
    light = CovarianceSolver(np.eye(2)).extended(np.array([[0.0], [1e-9]]))
    solver = light.extended(np.array([[a], [0.0]]))
    edit = FactoredStatistics(BASIS, np.array([[a], [1.0]]), np.array([[1.0]]), 1)
    expected_VK = [[a / (2 + 3 * a * a), (1 + a * a) / (2 + 3 * a * a)]]
    np.testing.assert_allclose(solver.merge(edit), expected_VK, rtol=1e-14)
    np.testing.assert_allclose(solver.extended(np.array([[0.0], [1e-9]])).merge(edit), expected_VK, rtol=1e-14)
    np.testing.assert_allclose(solver.merge(edit.dense()), expected_VK, rtol=1e-14)


def test_columns_of_another_width_are_refused():
    with pytest.raises(StatisticsError, match="key width 9 meet a key covariance of key width 8"):
        CovarianceSolver(covariance()).extended(np.ones((K + 1, 1)))


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_no_edits_give_no_update(form):
    solver = CovarianceSolver(covariance())
    nothing = zero(BASIS, K, V)
    delta_VK = solver.merge(nothing.dense() if form == "dense" else nothing)
    assert delta_VK.shape == (V, K)
    assert not delta_VK.any()


@pytest.mark.parametrize(
    ("covariance_KK", "message"),
    [
        (np.diag([1.0, -1.0]), r"C \+ H of layer 5 is not positive definite \(Cholesky stopped at row 2 of 2\)"),
        (np.diag([1.0, 0.0]), "not positive definite"),
        (np.full((2, 2), 1.0), "not positive definite"),
        (np.array([[1.0, 1.0], [1.0, 1.0 + 2.0**-52]]), r"a coordinate depends on the others to 2\.2e-16"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "is not symmetric: entries differ by 0.5 where the largest is 1"),
        (np.array([[1.0, 0.0], [0.0, np.nan]]), "holds NaN or infinite numbers"),
        (np.ones((2, 3)), r"C of layer 5 is \[2, 3\]"),
    ],
)
def test_covariances_that_cannot_be_solved_are_refused(covariance_KK, message):
    with pytest.raises(StatisticsError, match=message):
        CovarianceSolver(covariance_KK, place="layer 5")


def test_a_covariance_of_too_few_tokens_is_refused():
    """A sum of 20 outer products has rank 20 at most; rounding alone must not make it pass for 30 × 30."""
    samples = gaussian(30, 20)
    with pytest.raises(StatisticsError, match="measure the key covariance on more text"):
        CovarianceSolver((samples @ samples.T).numpy())


def test_a_history_of_another_width_is_refused():
    with pytest.raises(StatisticsError, match=r"H of a layer is \[9, 9\], the key covariance is \[8, 8\]"):
        CovarianceSolver(covariance(), np.eye(K + 1))


def test_statistics_of_another_width_are_refused():
    with pytest.raises(StatisticsError, match="key width 9 meet a key covariance of key width 8 at layer 5"):
        CovarianceSolver(covariance(), place="layer 5").merge(statistics(2, key_width=K + 1))


def test_statistics_that_are_not_finite_are_refused():
    bad = FactoredStatistics(BASIS, np.full((K, 1), np.nan), np.ones((V, 1)), 1)
    with pytest.raises(StatisticsError, match="factor_KN in statistics of the merge"):
        CovarianceSolver(covariance()).merge(bad)


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_an_ill_conditioned_covariance_still_gives_a_small_residual(form):
    """Eigenvalues from 1 to 1e-9. The error may be 1e9·2e-16·K ≈ 2e-6; the equations hold far better."""
    basis_KK = torch.linalg.qr(gaussian(K, K))[0]
    covariance_KK = (basis_KK * torch.logspace(0, -9, K, dtype=torch.float64)) @ basis_KK.T
    covariance_KK = ((covariance_KK + covariance_KK.T) / 2).numpy()
    edits = statistics(3, form)
    delta_VK = CovarianceSolver(covariance_KK).merge(edits).numpy()
    assert relative(delta_VK @ (covariance_KK + edits.gram_KK), edits.cross_VK) < 1e-8


@pytest.mark.parametrize("weight", [1e-6, 1.0, 1e12])
def test_covariance_weights_of_any_size_keep_both_forms_together(weight):
    solver = CovarianceSolver(covariance(weight=weight))
    assert relative(solver.merge(statistics(3, "factored")), solver.merge(statistics(3, "dense"))) < 1e-8


def test_tiny_residuals_scale_through():
    """Δ is linear in the residuals: 1e-200 times the residuals is 1e-200 times the update."""
    keys_KE, residuals_VE, solver = gaussian(K, 3), gaussian(V, 3, seed=1), CovarianceSolver(covariance())
    full, tiny = (
        solver.merge(statistics_of(BASIS, keys_KE, scale * residuals_VE, "auto", torch_generator(0, "r")))
        for scale in (1.0, 1e-200)
    )
    assert relative(tiny * 1e200, full) < 1e-12


def test_alignment_of_the_message_does_not_change_bits():
    """The same numbers read from another address, as from a message, must give the same update."""
    solver, edits = CovarianceSolver(covariance()), statistics(3, "dense")
    buffer = np.zeros(K * K + 1)
    moved = buffer[1:].reshape(K, K)
    moved[...] = edits.gram_KK
    again = DenseStatistics(BASIS, moved, edits.cross_VK, 3)
    assert torch.equal(solver.merge(again), solver.merge(edits))
