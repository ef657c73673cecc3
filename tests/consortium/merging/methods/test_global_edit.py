"""Shapes: E edits, K key width, V value width."""

import numpy as np
import pytest
import torch
from consortium.common.errors import StatisticsError
from consortium.common.seeds import torch_generator
from consortium.merging.method import PartyShare, sum_in_order
from consortium.merging.methods.global_edit import GlobalEdit, OwnedEdits
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis, DenseStatistics
from consortium.scenario.methods import GlobalSpec

BASIS = Basis("global", 1, 5)


def owned(keys, residuals):
    keys_KE, residuals_VE = torch.tensor(keys, dtype=torch.float64), torch.tensor(residuals, dtype=torch.float64)
    return GlobalEdit(GlobalSpec()).contribute(
        [PartyShare(BASIS, keys_KE, residuals_VE, "auto", torch_generator(0, "r"))]
    )[0]


def test_two_parties_by_hand():
    """C = I, keys (1, 0) and (0, 2) of one party each, residuals 4 and 5.

    A + gram = [[2, 0], [0, 5]], cross = (4, 10), so Δ = (2, 2).
    """
    total = owned([[1.0], [0.0]], [[4.0]]) + owned([[0.0], [2.0]], [[5.0]])
    np.testing.assert_allclose(GlobalEdit(GlobalSpec()).merge(total, CovarianceSolver(np.eye(2))), [[2, 2]], rtol=1e-14)


def test_edits_are_joined_in_the_order_given():
    total = owned([[1.0], [0.0]], [[4.0]]) + owned([[0.0], [2.0]], [[5.0]])
    assert np.concatenate(total.keys, axis=1).tolist() == [[1, 0], [0, 2]]
    assert np.concatenate(total.residuals, axis=1).tolist() == [[4, 5]]
    assert (total.num_edits, total.num_parties, total.nbytes) == (2, 2, 8 * 6)


def test_a_contribution_does_not_change_when_the_partys_tensors_do():
    keys_KE, residuals_VE = torch.ones(2, 1).double(), torch.ones(1, 1).double()
    share = PartyShare(BASIS, keys_KE, residuals_VE, "auto", torch_generator(0, "r"))
    (contribution,) = GlobalEdit(GlobalSpec()).contribute([share])
    keys_KE.zero_()
    assert contribution.keys[0].tolist() == [[1], [1]]


def test_many_small_parties_go_through_in_blocks(monkeypatch):
    """100 edits of 25 parties with K = 6: no QR sees more than 3·K rows, and Δ solves the normal equations."""
    rows = []
    geqrf = torch.geqrf
    monkeypatch.setattr(torch, "geqrf", lambda matrix: rows.append(matrix.shape[0]) or geqrf(matrix))
    keys_KE = torch.randn(6, 100, generator=torch_generator(0, "k"), dtype=torch.float64)
    residuals_VE = torch.randn(2, 100, generator=torch_generator(0, "r"), dtype=torch.float64)
    total = sum_in_order(
        owned(keys.tolist(), residuals.tolist())
        for keys, residuals in zip(keys_KE.split(4, dim=1), residuals_VE.split(4, dim=1), strict=True)
    )
    delta_VK = GlobalEdit(GlobalSpec()).merge(total, CovarianceSolver(np.eye(6)))
    normal_KK = torch.eye(6, dtype=torch.float64) + keys_KE @ keys_KE.T
    torch.testing.assert_close(delta_VK @ normal_KK, residuals_VE @ keys_KE.T, rtol=0, atol=1e-11)
    assert max(rows) <= 3 * 6
    assert len(rows) == 13  # two parties of four edits to a block, the last alone


def test_more_accurate_than_the_normal_equations_where_keys_are_nearly_alike():
    """C = 1e-24·I, keys (1, 1) and (1, 1 + 1e-6), residuals of the map (1, 2): 3 and 3 + 2e-6.

    gram has condition number about 1.6e13, so solving with it may lose 13 of 16 digits; QR of the keys, whose
    condition number is 4e6, loses 7. C pulls the solution by 1e-24/2.5e-13 only.
    """
    total = owned([[1.0, 1.0], [1.0, 1.0 + 1e-6]], [[3.0, 3.0 + 2e-6]])
    delta_VK = GlobalEdit(GlobalSpec()).merge(total, CovarianceSolver(np.eye(2) * 1e-24))
    np.testing.assert_allclose(delta_VK, [[1, 2]], rtol=1e-8)
    gram = DenseStatistics(BASIS, total.gram.gram_KK, total.residuals[0] @ total.keys[0].T, 2)
    by_normal_equations_VK = CovarianceSolver(np.eye(2) * 1e-24).merge(gram).numpy()
    assert np.abs(by_normal_equations_VK - [[1, 2]]).max() > 1e-6


def test_edits_that_are_not_finite_are_refused():
    bad = OwnedEdits(BASIS, (np.array([[np.nan], [1.0]]),), (np.ones((1, 1)),))
    with pytest.raises(StatisticsError, match="keys of party 3 for arm global, round 1, layer 5: 1 of 2"):
        bad.check("party 3")


def test_blocks_that_do_not_fit_are_refused():
    bad = OwnedEdits(BASIS, (np.ones((2, 1)),), (np.ones((1, 2)),))
    with pytest.raises(StatisticsError, match="one column for each edit"):
        bad.check()
