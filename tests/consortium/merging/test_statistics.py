"""The laws of statistics. Shapes: E edits, K key width, V value width, N columns."""

import pickle

import numpy as np
import pytest
import torch
from consortium.common.errors import StatisticsError
from consortium.common.seeds import torch_generator
from consortium.merging.statistics import (
    Basis,
    DenseStatistics,
    FactoredStatistics,
    from_arrays,
    joined_statistics,
    statistics_of,
    to_arrays,
    widths,
    zero,
)
from hypothesis import given, settings
from hypothesis import strategies as st

BASIS = Basis("collabedit", 1, 5)
K, V = 6, 4
FORMS = ["dense", "factored", "auto"]


def edits(num_edits, seed=0, key_width=K, value_width=V):
    generator = torch_generator(seed, "test-edits")
    draw = {"generator": generator, "dtype": torch.float64}
    return torch.randn(key_width, num_edits, **draw), torch.randn(value_width, num_edits, **draw)


def make(num_edits, form="auto", seed=0, basis=BASIS):
    return statistics_of(basis, *edits(num_edits, seed), form, torch_generator(seed, "test-rotation"))


def assert_same(left, right, tolerance=1e-12):
    np.testing.assert_allclose(left.gram_KK, right.gram_KK, rtol=0, atol=tolerance * K)
    np.testing.assert_allclose(left.cross_VK, right.cross_VK, rtol=0, atol=tolerance * K)
    assert (left.num_edits, left.num_parties, left.basis) == (right.num_edits, right.num_parties, right.basis)


@pytest.mark.parametrize("form", FORMS)
def test_statistics_of_two_edits_by_hand(form):
    """keys (1, 2) and (0, 1), residuals 3 and 5, so K = E = 2 and V = 1.

    gram = (1,2)(1,2)ᵀ + (0,1)(0,1)ᵀ = [[1, 2], [2, 5]]; cross = 3·(1, 2) + 5·(0, 1) = (3, 11).
    """
    keys_KE = torch.tensor([[1.0, 0.0], [2.0, 1.0]], dtype=torch.float64)
    residuals_VE = torch.tensor([[3.0, 5.0]], dtype=torch.float64)
    statistics = statistics_of(BASIS, keys_KE, residuals_VE, form, torch_generator(0, "test"))
    np.testing.assert_allclose(statistics.gram_KK, [[1, 2], [2, 5]], atol=1e-14)
    np.testing.assert_allclose(statistics.cross_VK, [[3, 11]], atol=1e-14)


sizes = st.integers(0, 2 * K)
forms = st.sampled_from(FORMS)


@settings(max_examples=30, deadline=None)
@given(sizes, sizes, forms, forms)
def test_addition_commutes(num_left, num_correctly_detected, form_left, form_right):
    left, right = make(num_left, form_left, 1), make(num_correctly_detected, form_right, 2)
    assert_same(left + right, right + left)


def test_addition_of_dense_commutes_to_the_bit():
    left, right = make(3, "dense", 1), make(4, "dense", 2)
    assert ((left + right).gram_KK == (right + left).gram_KK).all()
    assert ((left + right).cross_VK == (right + left).cross_VK).all()


@settings(max_examples=30, deadline=None)
@given(st.tuples(sizes, sizes, sizes), st.tuples(forms, forms, forms))
def test_addition_associates_and_ends_in_the_same_form(nums, chosen):
    a, b, c = (make(num, form, seed) for seed, (num, form) in enumerate(zip(nums, chosen, strict=True)))
    assert_same((a + b) + c, a + (b + c))
    assert type((a + b) + c) is type(a + (b + c))


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_zero_is_neutral_to_the_bit(form):
    statistics, nothing = make(3, form), zero(BASIS, K, V)
    for total in (statistics + nothing, nothing + statistics):
        assert type(total) is type(statistics)
        assert_same(total, statistics, tolerance=0)
    assert nothing.nbytes == 0


@pytest.mark.parametrize("num_edits", [0, 1, 3, K, 2 * K])
def test_the_factored_form_multiplies_out_to_the_dense_one(num_edits):
    factored = make(num_edits, "factored")
    assert isinstance(factored, FactoredStatistics)
    assert factored.num_columns == min(num_edits, K)
    assert_same(factored.dense(), make(num_edits, "dense"))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), forms), min_size=1, max_size=6))
def test_the_sum_over_any_split_equals_the_statistics_of_all(split):
    keys_KE, residuals_VE = edits(sum(num for num, _ in split))
    total, start = zero(BASIS, K, V), 0
    for num, form in split:
        columns = slice(start, start + num)
        part = statistics_of(BASIS, keys_KE[:, columns], residuals_VE[:, columns], form, torch_generator(start, "r"))
        total, start = total + part, start + num
    whole = statistics_of(BASIS, keys_KE, residuals_VE, "dense", torch_generator(0, "r"))
    np.testing.assert_allclose(total.gram_KK, whole.gram_KK, atol=1e-12)
    np.testing.assert_allclose(total.cross_VK, whole.cross_VK, atol=1e-12)
    assert (total.num_edits, total.num_parties) == (start, len(split))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, K + 1), forms), min_size=1, max_size=6))
def test_joining_many_at_once_is_adding_one_after_the_other(parts):
    made = [make(num, form, seed) for seed, (num, form) in enumerate(parts)]
    one_by_one = made[0]
    for part in made[1:]:
        one_by_one = one_by_one + part
    assert_same(joined_statistics(made), one_by_one)
    assert type(joined_statistics(made)) is type(one_by_one)


def test_many_factors_are_multiplied_out_once(monkeypatch):
    """30 parties of 2 edits, K = 6: the sum is dense, but no single party is made dense for it."""
    made = [make(2, "factored", seed) for seed in range(30)]
    monkeypatch.setattr(FactoredStatistics, "dense", None)
    assert isinstance(joined_statistics(made), DenseStatistics)


def test_sums_leave_what_was_added_as_it_was():
    parts = [make(3, "dense", 1), make(4, "dense", 2), make(2, "factored", 3)]
    before = [array.copy() for part in parts for array in part.arrays().values()]
    joined_statistics(parts)
    after = [array for part in parts for array in part.arrays().values()]
    assert all((one == other).all() for one, other in zip(before, after, strict=True))


def test_a_sum_never_grows_beyond_the_dense_form():
    total = zero(BASIS, K, V)
    for seed in range(20):
        total = total + make(2, "factored", seed)
        assert total.nbytes <= 8 * K * (K + V)
    assert isinstance(total, DenseStatistics)


@pytest.mark.parametrize(("num_edits", "expected"), [(0, 0), (1, 8 * (K + V)), (K - 1, 40 * (K + V)), (K, 8 * 60)])
def test_auto_takes_the_smaller_form(num_edits, expected):
    auto = make(num_edits)
    assert auto.nbytes == expected
    assert auto.nbytes <= min(make(num_edits, "dense").nbytes, make(num_edits, "factored").nbytes)


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_nbytes_is_what_is_sent(form):
    statistics = make(4, form)
    sent = len(pickle.dumps(statistics, protocol=5))
    assert statistics.nbytes == sum(array.nbytes for array in to_arrays(statistics)[1].values())
    assert statistics.nbytes < sent < statistics.nbytes + 1000  # the rest is names and shapes


@pytest.mark.parametrize("form", ["dense", "factored"])
@pytest.mark.parametrize("way", [lambda s: from_arrays(*to_arrays(s)), lambda s: pickle.loads(pickle.dumps(s))])
def test_round_trips_are_exact(form, way):
    before = make(4, form) + make(1, form, 1)
    after = way(before)
    assert type(after) is type(before)
    assert_same(after, before, tolerance=0)
    for name, array in before.arrays().items():
        assert (after.arrays()[name] == array).all()


def test_statistics_of_other_weights_are_refused():
    for other in (Basis("global", 1, 5), Basis("collabedit", 2, 5), Basis("collabedit", 1, 6)):
        with pytest.raises(StatisticsError, match=r"arm collabedit, round 1, layer 5 and for arm .* cannot be added"):
            make(2) + make(2, basis=other)


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_statistics_of_other_widths_are_refused(form):
    wider = statistics_of(BASIS, *edits(2, key_width=K + 1), form, torch_generator(0, "r"))
    with pytest.raises(StatisticsError, match=r"widths \(6, 4\) and \(7, 4\)"):
        make(2, form) + wider


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_edits_that_are_not_finite_are_refused(form, bad):
    keys_KE, residuals_VE = edits(3)
    residuals_VE[1, 2] = bad
    with pytest.raises(StatisticsError, match=r"residuals_VE of a party's own edits.*1 of 12 numbers are NaN"):
        statistics_of(BASIS, keys_KE, residuals_VE, form, torch_generator(0, "r"))


def test_sums_that_overflow_are_refused():
    keys_KE, residuals_VE = edits(8)
    with pytest.raises(StatisticsError, match=r"gram_KK in statistics of a party's own edits.*NaN or infinite"):
        statistics_of(BASIS, keys_KE * 1e200, residuals_VE, "dense", torch_generator(0, "r"))


def test_bad_numbers_that_arrive_are_refused_with_their_origin():
    gram_KK = np.eye(K)
    gram_KK[0, 0] = np.nan
    arrived = DenseStatistics(BASIS, gram_KK, np.zeros((V, K)), num_edits=1)
    with pytest.raises(StatisticsError, match=r"gram_KK in statistics of party batch 3 for arm collabedit.*1 of 36"):
        arrived.check("party batch 3")


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(StatisticsError, match=r"gram_KK \[6, 6\], cross_VK \[4, 5\]"):
        DenseStatistics(BASIS, np.eye(K), np.zeros((V, K - 1)), 1)
    with pytest.raises(StatisticsError, match=r"factor_KN \[6, 2\], image_VN \[4, 3\]"):
        FactoredStatistics(BASIS, np.zeros((K, 2)), np.zeros((V, 3)), 1)
    keys_KE, residuals_VE = edits(3)
    with pytest.raises(StatisticsError, match=r"keys \[6, 3\] and residuals \[4, 2\]"):
        statistics_of(BASIS, keys_KE, residuals_VE[:, :2], "dense", torch_generator(0, "r"))


def test_stored_statistics_that_lack_an_array_are_refused():
    header, arrays = to_arrays(make(2, "dense"))
    del arrays["cross_VK"]
    with pytest.raises(StatisticsError, match="lack 'cross_VK'"):
        from_arrays(header, arrays)


def test_statistics_cannot_be_written_to():
    for array in (make(2, "dense") + make(2, "factored", 1)).arrays().values():
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1.0


@pytest.mark.parametrize("num_edits", [3, K, 2 * K])
def test_no_column_of_a_factor_is_a_key(num_edits):
    """The cosine of a column with a key is 1 when one can be read off; here all stay clearly below."""
    keys_KE, residuals_VE = edits(num_edits)
    for seed in range(20):
        factored = statistics_of(BASIS, keys_KE, residuals_VE, "factored", torch_generator(seed, "r"))
        columns_KN = factored.factor_KN / np.linalg.norm(factored.factor_KN, axis=0)
        cosines = np.abs(columns_KN.T @ (keys_KE / keys_KE.norm(dim=0)).numpy())
        assert cosines.max() < 0.9999


def test_with_more_edits_than_key_entries_the_factor_depends_on_the_sums_alone():
    """Mixing the edits by a rotation leaves gram and cross, so it must leave what is sent (up to columns' signs)."""
    keys_KE, residuals_VE = edits(2 * K)
    rotation_EE = torch.linalg.qr(torch.randn(2 * K, 2 * K, generator=torch_generator(9, "r"), dtype=torch.float64))[0]
    one = statistics_of(BASIS, keys_KE, residuals_VE, "factored", torch_generator(0, "r"))
    other = statistics_of(BASIS, keys_KE @ rotation_EE, residuals_VE @ rotation_EE, "factored", torch_generator(1, "r"))
    np.testing.assert_allclose(np.abs(one.factor_KN), np.abs(other.factor_KN), atol=1e-12)
    np.testing.assert_allclose(np.abs(one.image_VN), np.abs(other.image_VN), atol=1e-12)


def test_rotations_are_drawn_evenly():
    """For one key and an even rotation of two columns, the key's share in column 1 is cos²: mean 1/2, variance 1/8.

    Over 500 draws the mean's standard error is √(1/8/500) = 0.016, the signs' 0.045; bounds are five of them.
    """
    keys_KE = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    generator = torch_generator(3, "rotations")
    draws = [statistics_of(BASIS, keys_KE, keys_KE, "factored", generator).arrays() for _ in range(500)]
    shares = np.array([draw["factor_KN"][0, 0] ** 2 for draw in draws])
    signs = np.array([np.sign(draw["factor_KN"][0, 0]) for draw in draws])
    assert abs(shares.mean() - 0.5) < 0.08
    assert abs(shares.var() - 0.125) < 0.04
    assert abs(signs.mean()) < 0.23


def test_the_same_generator_seed_gives_the_same_bits():
    assert (make(4, "factored", 5).arrays()["factor_KN"] == make(4, "factored", 5).arrays()["factor_KN"]).all()


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_the_gram_sums_alone_are_statistics_without_values(form):
    statistics = make(3, form)
    gram_only = statistics.gram
    assert widths(gram_only) == (K, 0)
    assert (gram_only.gram_KK == statistics.gram_KK).all()
    assert (gram_only + gram_only).num_edits == 6
