"""Laws of the retained sum: rounds in any order, what was subtracted was never there, and a bounded size."""

import itertools
import json

import numpy as np
import pytest
import torch
from consortium.common.errors import StatisticsError
from consortium.merging.method import PartyShare, sum_in_order
from consortium.merging.methods.global_edit import OwnedEdits
from consortium.merging.retained_sum import retained_arrays, retained_from, subtracted, with_round
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis, DenseStatistics, FactoredStatistics
from consortium.scenario.methods import METHODS
from support.methods import create

K, V = 12, 5
METHOD_FORMS = [("collabedit", "factored"), ("collabedit", "dense"), ("global", "auto")]


def matrix(seed, rows, columns):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


EDITS = {number: (matrix(number, K, 3), matrix(100 + number, V, 3)) for number in range(1, 6)}
"""Round → keys [K, 3] and residuals [V, 3]."""


def share(round_number, keys_KE, residuals_VE, form="auto", seed=0):
    generator = torch.Generator().manual_seed(seed)
    return PartyShare(Basis("arm", round_number, 0), keys_KE, residuals_VE, form, generator, generator)


def contribution(method, round_number, edits, form="auto", seed=0):
    return sum_in_order(create(method, {}).contribute([share(round_number, *edits, form, seed)], None))


def retained_of(method, rounds, form="auto"):
    retained = None
    for place, number in enumerate(rounds, start=1):
        retained = with_round(retained, contribution(method, place, EDITS[number], form))
    return retained


def solver():
    factor = matrix(7, K, K)
    return CovarianceSolver((factor @ factor.T + torch.eye(K)).numpy())


def closed_form(rounds):
    """Σ r·kᵀ (C + Σ k·kᵀ)⁻¹ by a general solver."""
    keys_KE, residuals_VE = (torch.cat([EDITS[number][part] for number in rounds], dim=1) for part in (0, 1))
    factor = matrix(7, K, K)
    system_KK = factor @ factor.T + torch.eye(K) + keys_KE @ keys_KE.T
    return torch.linalg.solve(system_KK, keys_KE @ residuals_VE.T).T


def apart(left, right):
    return float((left - right).norm() / right.norm())


@pytest.mark.parametrize(("method", "form"), METHOD_FORMS)
def test_the_order_of_rounds_does_not_matter(method, form):
    expected = closed_form([1, 2, 3])
    for rounds in itertools.permutations([1, 2, 3]):
        found = create(method, {}).merge(retained_of(method, rounds, form), solver())
        assert apart(found, expected) <= 1e-12, rounds


@pytest.mark.parametrize(("method", "form"), METHOD_FORMS)
@pytest.mark.parametrize("gone", [1, 2, 3])
def test_what_was_taken_back_was_never_there(method, form, gone):
    """Under another rotation than it was sent with, and before another round comes."""
    retained = subtracted(retained_of(method, [1, 2, 3], form), contribution(method, 4, EDITS[gone], form, seed=9))
    retained = with_round(retained, contribution(method, 4, EDITS[4], form))
    left = [number for number in (1, 2, 3, 4) if number != gone]
    assert apart(create(method, {}).merge(retained, solver()), closed_form(left)) <= 1e-12
    assert retained.num_edits == 9


@pytest.mark.parametrize(("method", "form"), METHOD_FORMS)
def test_single_edits_can_be_taken_back(method, form):
    keys_KE, residuals_VE = EDITS[1]
    some = (keys_KE[:, [0, 2]], residuals_VE[:, [0, 2]])
    retained = subtracted(retained_of(method, [1, 2], form), contribution(method, 3, some, form))
    keys_KE, residuals_VE = (torch.cat([EDITS[1][part][:, 1:2], EDITS[2][part]], dim=1) for part in (0, 1))
    alone = with_round(None, contribution(method, 1, (keys_KE, residuals_VE), form))
    assert apart(create(method, {}).merge(retained, solver()), create(method, {}).merge(alone, solver())) <= 1e-12


@pytest.mark.parametrize(("method", "form"), METHOD_FORMS)
def test_of_nothing_that_is_left_the_update_is_exactly_zero(method, form):
    retained = retained_of(method, [1, 2], form)
    for number in (2, 1):
        retained = subtracted(retained, contribution(method, 3, EDITS[number], form, seed=5))
    assert retained.num_edits == 0
    assert not create(method, {}).merge(retained, solver()).any()


@pytest.mark.parametrize(("method", "form"), METHOD_FORMS)
def test_more_than_there_is_cannot_be_taken_back(method, form):
    retained = subtracted(retained_of(method, [1, 2], form), contribution(method, 3, EDITS[1], form))
    with pytest.raises(StatisticsError, match="4 edits are removed, and not all of them are among the 3"):
        subtracted(retained, contribution(method, 3, (matrix(1, K, 4), matrix(2, V, 4)), form))


def test_global_takes_back_only_what_it_owns():
    with pytest.raises(StatisticsError, match="not all of them are among the 6"):
        subtracted(retained_of("global", [1, 2]), contribution("global", 3, EDITS[3]))


def test_the_same_edit_of_two_parties_is_taken_back_once():
    """Both have the key and the residual to rounding; one of them stays."""
    nearly = tuple(part * (1 + 1e-9) for part in EDITS[1])
    retained = with_round(retained_of("global", [1, 2]), contribution("global", 3, nearly))
    retained = subtracted(retained, contribution("global", 4, EDITS[1]))
    assert retained.num_edits == 6
    assert apart(create("global", {}).merge(retained, solver()), closed_form([1, 2])) <= 1e-8


def test_sums_of_few_edits_stay_factored_and_none_is_larger_than_dense():
    sizes = {}
    retained = None
    for number in range(1, 8):
        edits = (matrix(number, K, 3), matrix(number + 50, V, 3))
        retained = with_round(retained, contribution("collabedit", number, edits))
        sizes[number] = retained.nbytes
        assert isinstance(retained, FactoredStatistics if 3 * number <= K else DenseStatistics)
    assert sizes[1] * 2 == sizes[2]
    assert max(sizes.values()) == K * (K + V) * 8


def test_columns_are_of_the_sum_alone():
    """Parties' own columns are not kept: whatever rotations they were sent under, the same ones are."""
    kept = [with_round(None, contribution("collabedit", 1, EDITS[1], seed=seed)) for seed in (1, 2)]
    sent = [contribution("collabedit", 1, EDITS[1], seed=seed) for seed in (1, 2)]
    assert not np.allclose(np.abs(sent[0].factor_KN), np.abs(sent[1].factor_KN))
    np.testing.assert_allclose(np.abs(kept[0].factor_KN), np.abs(kept[1].factor_KN), rtol=0, atol=1e-12)
    np.testing.assert_allclose(kept[0].cross_VK, sent[0].cross_VK, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["collabedit", "global"])
def test_rounds_without_edits_add_nothing(method):
    nothing = (torch.zeros(K, 0, dtype=torch.float64), torch.zeros(V, 0, dtype=torch.float64))
    retained = with_round(retained_of(method, [1]), contribution(method, 2, nothing))
    assert apart(create(method, {}).merge(retained, solver()), closed_form([1])) <= 1e-12
    assert not create(method, {}).merge(with_round(None, contribution(method, 1, nothing)), solver()).any()


@pytest.mark.parametrize(("method", "form"), METHOD_FORMS)
def test_arrays_bring_the_same_sum_back(method, form):
    retained = retained_of(method, [1, 2], form)
    header, arrays = retained_arrays(retained)
    again = retained_from(json.loads(json.dumps(header)), {name: np.array(array) for name, array in arrays.items()})
    assert type(again) is type(retained)
    assert (again.basis, again.num_edits, again.num_parties) == (
        retained.basis,
        retained.num_edits,
        retained.num_parties,
    )
    assert torch.equal(create(method, {}).merge(again, solver()), create(method, {}).merge(retained, solver()))


def test_widths_must_fit():
    retained = retained_of("collabedit", [1])
    with pytest.raises(StatisticsError, match=r"widths \(12, 4\) taken from some of widths \(12, 5\)"):
        subtracted(retained, contribution("collabedit", 2, (matrix(1, K, 2), matrix(2, V - 1, 2))))


def test_local_updates_are_refused():
    (sent,) = create("ties", {}).contribute([share(1, *EDITS[1])], solver())
    with pytest.raises(StatisticsError, match=r"SignedSums .* with reference: initial"):
        with_round(None, sent)
    with pytest.raises(StatisticsError, match="not all of them"):
        subtracted(retained_of("global", [1, 2]), contribution("collabedit", 2, EDITS[1]))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_whether_it_can_be_anchored(name):
    """And what it says is so."""
    (sent,) = create(name, {}).contribute([share(1, *EDITS[1])], solver())
    if METHODS[name].removable:
        assert isinstance(with_round(None, sent), DenseStatistics | FactoredStatistics | OwnedEdits)
    elif name != "norm_bound":  # whose sums are statistics, but of what was clipped, which nobody could subtract
        with pytest.raises(StatisticsError, match="removable"):
            with_round(None, sent)
