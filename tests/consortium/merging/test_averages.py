"""Simple average and task arithmetic. Shapes: K key width 2, V value width 1."""

import numpy as np
import pytest
import torch
from consortium.common.errors import StatisticsError
from consortium.common.seeds import torch_generator
from consortium.merging.deltas import DeltaSum, DenseUpdate
from consortium.merging.method import PartyShare, sum_in_order
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis, zero
from support.methods import create

BASIS = Basis("simple_average", 1, 5)


def three_parties(name, **parameters):
    """Keys (1, 0), (1, 0) and none, residuals 4 and 8.

    With C = I each party alone has (C + gram)⁻¹ = diag(1/2, 1), so Δ_1 = (2, 0), Δ_2 = (4, 0), Δ_3 = 0.
    """
    key_KE = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    edits = [(key_KE, torch.tensor([[4.0]]).double()), (key_KE, torch.tensor([[8.0]]).double())]
    edits.append((key_KE[:, :0], torch.zeros(1, 0).double()))
    method, solver = create(name, parameters), CovarianceSolver(np.eye(2))
    total = sum_in_order(
        method.contribute([PartyShare(BASIS, *edit, "auto", torch_generator(0, "r")) for edit in edits], solver)
    )
    return method.merge(total, solver), total


def test_simple_average_counts_parties_without_edits():
    delta, total = three_parties("simple_average")
    np.testing.assert_allclose(delta, [[2, 0]], rtol=1e-14)
    assert total.num_parties == 3


@pytest.mark.parametrize(("alpha", "expected"), [(1.0, 6), (0.5, 3)])
def test_task_arithmetic_scales_the_sum(alpha, expected):
    np.testing.assert_allclose(three_parties("task_arithmetic", alpha=alpha)[0], [[expected, 0]], rtol=1e-14)


def test_collabedit_gives_what_averaging_cannot():
    """Both parties' edits together: A + gram = diag(3, 1), cross = (12, 0), Δ = (4, 0), between sum and mean."""
    np.testing.assert_allclose(three_parties("collabedit")[0], [[4, 0]], rtol=1e-14)


def test_a_sum_holds_the_update_and_the_gram_factor():
    """Update 1·2 numbers, and two keys' factors of 2 numbers (K = 2 columns, still as small as the dense form)."""
    _, total = three_parties("simple_average")
    assert total.nbytes == 8 * (2 + 4)
    np.testing.assert_allclose(total.gram.gram_KK, [[2, 0], [0, 0]], atol=1e-15)


def test_an_update_that_is_not_finite_is_refused():
    bad = DeltaSum(DenseUpdate(np.array([[np.inf, 0.0]])), zero(BASIS, 2, 0))
    with pytest.raises(
        StatisticsError, match="delta_VK of party batch 1 for arm simple_average, round 1, layer 5: 1 of 2"
    ):
        bad.check("party batch 1")
