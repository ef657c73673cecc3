"""The naive twin, and ours against it. Shapes: E edits, K key width, V value width."""

from functools import partial

import numpy as np
import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.merging.history import GramHistory
from consortium.merging.method import PartyShare, sum_in_order
from consortium.merging.solvers import Solvers
from consortium.merging.statistics import Basis
from support.methods import create

from benchmarks.naive.merging import average_naively, merge_naively, regmean_naively

BASIS = Basis("arm", 1, 5)
K, V = 12, 5
NAIVE = {
    "collabedit": ({}, merge_naively),
    "simple_average": ({}, average_naively),
    "regmean-0": ({"alpha": 0.0}, partial(regmean_naively, alpha=0.0)),
    "regmean-0.9": ({}, partial(regmean_naively, alpha=0.9)),
    "regmean-1": ({"alpha": 1.0}, partial(regmean_naively, alpha=1.0)),
    "fisher": ({}, partial(regmean_naively, alpha=0.0)),
}


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed, "test"), dtype=torch.float64)


def test_two_parties_by_hand():
    """C = I, keys (1, 0) and (1, 0), residuals 4 and 8: A + gram = diag(3, 1), cross = (12, 0), Δ = (4, 0).

    Alone each has diag(2, 1): Δ_1 = (2, 0), Δ_2 = (4, 0), their mean (3, 0).
    """
    gram_KK = torch.diag(torch.tensor([1.0, 0.0]))
    crosses = [torch.tensor([[4.0, 0.0]]), torch.tensor([[8.0, 0.0]])]
    assert merge_naively(torch.eye(2), None, crosses, [gram_KK] * 2).tolist() == [[4, 0]]
    assert average_naively(torch.eye(2), None, crosses, [gram_KK] * 2).tolist() == [[3, 0]]


@pytest.mark.parametrize("columns", [0, 1, 3])
@pytest.mark.parametrize("sizes", [[1], [2, 0, 1], [3, 5, 9], [20, 1]])
@pytest.mark.parametrize("form", ["auto", "dense", "factored"])
@pytest.mark.parametrize("name", list(NAIVE))
def test_ours_equals_the_naive_twin(name, form, sizes, columns):
    """With a history of a base and some columns, parties of few edits and of many, in every form."""
    samples = gaussian(K, 4 * K, seed=99)
    base = gaussian(K, 6, seed=98)
    history = GramHistory("arm", 1, (base @ base.T).numpy())
    if columns:
        history = GramHistory("arm", 1, history.base_KK, {2: gaussian(K, columns, seed=97).numpy()})
    solver = Solvers({5: (samples @ samples.T).numpy()}, 4 * K, 1.0).get(5, history.version, lambda: history)
    keys = [gaussian(K, size, seed=place) for place, size in enumerate(sizes)]
    residuals = [gaussian(V, size, seed=50 + place) for place, size in enumerate(sizes)]
    pairs = enumerate(zip(keys, residuals, strict=True))
    shares = [PartyShare(BASIS, *pair, form, torch_generator(place, "r")) for place, pair in pairs]
    parameters, merge_as_papers_do = NAIVE[name]
    method = create(name.partition("-")[0], parameters)
    ours_VK = method.merge(sum_in_order(method.contribute(shares, solver)), solver)
    crosses = [one @ other.T for one, other in zip(residuals, keys, strict=True)]
    covariance_KK = samples @ samples.T / (4 * K)
    theirs_VK = merge_as_papers_do(covariance_KK, history.multiplied_out(), crosses, [each @ each.T for each in keys])
    np.testing.assert_allclose(ours_VK, theirs_VK, rtol=0, atol=1e-10 * float(theirs_VK.abs().max()))
