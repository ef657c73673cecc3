"""TIES against a calculation by hand and against peft. Shapes: P parties, K key width, V value width."""

import warnings

import numpy as np
import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.merging.method import PartyShare, sum_in_order
from consortium.merging.methods.ties import Ties, elected_mean, signed_sums_of
from consortium.merging.solver import CovarianceSolver
from consortium.merging.sparsification import trim
from consortium.merging.statistics import Basis, zero
from consortium.scenario.methods import TiesSpec
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.utils.merge_utils import ties as peft_ties

BASIS = Basis("ties", 1, 5)


def ours(deltas, density):
    nothing = zero(BASIS, deltas[0].shape[1], 0)
    return elected_mean(sum_in_order(signed_sums_of(trim(delta, density), nothing) for delta in deltas))


def theirs(deltas, density):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns that density 1 prunes nothing
        return peft_ties(deltas, torch.ones(len(deltas), dtype=torch.float64), density, "total")


def test_three_parties_by_hand():
    """Density 1/2 keeps 2 of 4 entries: (5, 4, ·, ·), (−9, ·, ·, 2), (1.5, ·, ·, −3).

    Masses 6.5 − 9 < 0, 4, 0, 2 − 3 < 0 elect −, +, +, −; means of those that agree: −9, 4, 0, −3.
    """
    rows = [[5.0, 4.0, -1.0, 0.5], [-9.0, 1.0, 0.0, 2.0], [1.5, 1.0, -1.0, -3.0]]
    deltas = [torch.tensor([row], dtype=torch.float64) for row in rows]
    assert ours(deltas, 0.5).tolist() == [[-9, 4, 0, -3]]
    assert theirs(deltas, 0.5).tolist() == [[-9, 4, 0, -3]]


def test_a_tie_of_masses_elects_plus():
    deltas = [torch.tensor([[2.0, -3.0]]).double(), torch.tensor([[-2.0, 3.0]]).double()]
    assert ours(deltas, 1.0).tolist() == theirs(deltas, 1.0).tolist() == [[2, 3]]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.sampled_from([0.1, 0.2, 0.5, 0.9, 1.0]), st.integers(0, 10**6))
def test_equals_peft_on_random_updates(num_parties, density, seed):
    generator = torch_generator(seed, "deltas")
    deltas = [torch.randn(5, 8, generator=generator, dtype=torch.float64) for _ in range(num_parties)]
    torch.testing.assert_close(ours(deltas, density), theirs(deltas, density), rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10**6))
def test_equals_peft_where_masses_often_cancel(num_parties, seed):
    """Entries −2 … 2: sums are exact and often 0. Density 1, since peft may keep any of equal magnitudes."""
    generator = torch_generator(seed, "deltas")
    deltas = [torch.randint(-2, 3, (5, 8), generator=generator).double() for _ in range(num_parties)]
    torch.testing.assert_close(ours(deltas, 1.0), theirs(deltas, 1.0), rtol=1e-14, atol=0)


@pytest.mark.parametrize("density", [0.01, 0.3, 1.0])
def test_trim_keeps_the_largest(density):
    delta_VK = torch.randn(10, 20, generator=torch_generator(0, "d"), dtype=torch.float64)
    trimmed_VK = trim(delta_VK, density)
    kept = trimmed_VK != 0
    assert int(kept.sum()) == int(density * 200)
    assert torch.equal(trimmed_VK[kept], delta_VK[kept])
    assert density == 1.0 or delta_VK[kept].abs().min() >= delta_VK[~kept].abs().max()


def test_lambda_scales_the_merge_and_empty_parties_do_not_count():
    key_KE, residual_VE = torch.tensor([[1.0], [0.0]]).double(), torch.tensor([[4.0]]).double()
    solver, method = CovarianceSolver(np.eye(2)), Ties(TiesSpec(**{"density": 1.0, "lambda": 0.5}))
    edits = [(key_KE, residual_VE), (key_KE[:, :0], residual_VE[:, :0])]
    total = sum_in_order(
        method.contribute([PartyShare(BASIS, *edit, "auto", torch_generator(0, "r")) for edit in edits], solver)
    )
    # Δ_1 = (2, 0); mean over one; λ = 1/2
    np.testing.assert_allclose(method.merge(total, solver), [[1, 0]], rtol=1e-14)
    assert (total.num_parties, total.nbytes) == (2, 2 * 8 * 2 + 2 * 4 * 2 + 8 * 2)
