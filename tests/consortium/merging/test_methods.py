"""What holds between methods. Shapes: E edits, K key width, V value width."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from consortium.common.errors import StatisticsError
from consortium.common.seeds import numpy_generator, torch_generator
from consortium.merging.history import grown
from consortium.merging.method import PartyShare, RunningSum, sum_in_order
from consortium.merging.solvers import Solvers
from consortium.merging.statistics import Basis
from consortium.scenario.methods import METHODS
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.methods import create

BASIS = Basis("arm", 1, 5)
K, V = 12, 5


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed, "test"), dtype=torch.float64)


def solver(key_width=K, history=None):
    samples = gaussian(key_width, 4 * key_width, seed=99)
    sums = {5: (samples @ samples.T).numpy()}
    return Solvers(sums, 4 * key_width, 1.0).get(5, history and history.version, lambda: history)


def shares(sizes, form="auto", seed=0):
    """Party after party, so many edits each; keys are alike, as real ones are (a common part and noise)."""
    keys_KE = gaussian(K, 1, seed=seed) + 0.3 * gaussian(K, sum(sizes), seed=seed + 1)
    residuals_VE = gaussian(V, sum(sizes), seed=seed + 2)
    parts = zip(keys_KE.split(sizes, dim=1), residuals_VE.split(sizes, dim=1), strict=True)
    return [
        PartyShare(BASIS, *part, form, torch_generator(seed, "rotation", i), torch_generator(seed, "drops", i))
        for i, part in enumerate(parts)
    ]


def total_of(method, party_shares, covariance):
    return sum_in_order(method.contribute(party_shares, covariance))


def merged(name, party_shares, covariance=None, **parameters):
    covariance = covariance or solver()
    method = create(name, parameters)
    return method.merge(total_of(method, party_shares, covariance), covariance)


def relative(one, other):
    return float(torch.linalg.norm(one - other) / torch.linalg.norm(other))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=8).filter(any),
    st.sampled_from(["auto", "dense", "factored"]),
    st.integers(0, 100),
)
def test_collabedit_equals_global_for_any_split_and_order(sizes, form, seed):
    party_shares = shares(sizes, form, seed)
    shuffled = [party_shares[i] for i in numpy_generator(seed, "order").permutation(len(sizes))]
    collab_VK, global_VK = merged("collabedit", shuffled), merged("global", party_shares)
    assert relative(collab_VK, global_VK) <= 1e-10
    weights_VK = gaussian(V, K, seed=5).float()
    collab, owned = ((weights_VK + delta_VK.float()).double() for delta_VK in (collab_VK, global_VK))
    assert relative(collab, owned) <= 1e-6


def test_collabedit_equals_global_round_after_round():
    """Each round's Gram sums enter the next round's A, in both arms from their own contributions.

    Rounds of 2 edits are columns of the history while there are at most K/4 = 3; rounds of 22 go to its base.
    """
    history = {"collabedit": None, "global": None}
    for number in range(12):
        sizes = [1, 0, 1] if number % 4 else [3, 0, 4, 15]
        deltas = {}
        for name in history:
            method, covariance = create(name, {}), solver(history=history[name])
            total = total_of(method, shares(sizes, seed=number), covariance)
            deltas[name] = method.merge(total, covariance)
            history[name] = grown(history[name], total.gram, 1.0)
        assert relative(deltas["collabedit"], deltas["global"]) <= 1e-10


@pytest.mark.parametrize("name", [name for name in METHODS if name != "collabedit"])
def test_one_party_alone_is_edited_as_by_collabedit(name):
    """As long as nothing is trimmed or dropped."""
    parameters = {
        key: value for key, value in {"density": 1.0, "drop": 0.0}.items() if key in METHODS[name].model_fields
    }
    party_shares = shares([5])
    assert relative(merged(name, party_shares, **parameters), merged("collabedit", party_shares)) <= 1e-10


@pytest.mark.parametrize("name", METHODS)
def test_the_gram_sum_for_the_history_is_the_same_for_all_methods(name):
    party_shares = shares([3, 0, 20], form="factored")
    keys_KE = torch.cat([share.keys_KE for share in party_shares], dim=1)
    total = total_of(create(name, {}), party_shares, solver())
    np.testing.assert_allclose(total.gram.gram_KK, keys_KE @ keys_KE.T, atol=1e-11)
    assert (total.num_edits, total.num_parties, total.basis) == (23, 3, BASIS)


@pytest.mark.parametrize("name", METHODS)
def test_parties_without_edits_give_no_update(name):
    delta_VK = merged(name, shares([0, 0]))
    assert delta_VK.shape == (V, K)
    assert not delta_VK.any()


@pytest.mark.parametrize("name", METHODS)
def test_the_size_of_a_sum_does_not_grow_with_parties(name):
    """But for global, the owner of all edits, whose sum holds every edit once."""
    method, covariance = create(name, {}), solver()
    few, many = (total_of(method, shares([2] * num), covariance).nbytes for num in (10, 30))
    assert many == (3 * few if name == "global" else few)


@pytest.mark.parametrize("name", METHODS)
def test_methods_and_contributions_pickle_exactly(name):
    method, covariance = create(name, {}), solver()
    assert pickle.loads(pickle.dumps(method)) == method
    total = total_of(method, shares([2, 3]), covariance)
    sent = pickle.loads(pickle.dumps(total, protocol=5))
    sent.check()
    assert torch.equal(method.merge(sent, covariance), method.merge(total, covariance))
    assert total.nbytes == sent.nbytes


@pytest.mark.parametrize("name", METHODS)
def test_messages_hold_no_torch_tensors(name):
    """Ray hands numpy arrays over without a copy, torch tensors not."""
    contribution = create(name, {}).contribute(shares([3]), solver())[0]
    assert b"torch" not in pickle.dumps(contribution)


@pytest.mark.parametrize("name", METHODS)
def test_contributions_of_other_weights_are_refused(name):
    method, covariance = create(name, {}), solver()
    one = shares([2])[0]
    other = replace(shares([2])[0], basis=Basis("arm", 2, 5))
    with pytest.raises(StatisticsError, match=r"round 1, layer 5 and for arm arm, round 2, layer 5 cannot be added"):
        sum_in_order(method.contribute([one], covariance) + method.contribute([other], covariance))


@pytest.mark.parametrize("name", METHODS)
def test_contributions_of_other_widths_are_refused(name):
    method, covariance = create(name, {}), solver()
    one = shares([2])[0]
    lower = replace(shares([2])[0], residuals_VE=one.residuals_VE[1:])
    with pytest.raises(StatisticsError, match="let every party open the same model"):
        sum_in_order(method.contribute([one], covariance) + method.contribute([lower], covariance))


@pytest.mark.parametrize("name", METHODS)
def test_contributions_of_another_method_are_refused(name):
    foreign = create("global" if name != "global" else "ties", {})
    total = foreign.contribute(shares([2]), solver())[0]
    with pytest.raises(StatisticsError, match=f"merge method {name} met a contribution of type"):
        create(name, {}).merge(total, solver())


@pytest.mark.parametrize("name", METHODS)
def test_statistics_wider_than_the_covariance_are_refused(name):
    method = create(name, {})
    share = replace(shares([2])[0], keys_KE=gaussian(K + 1, 2))
    with pytest.raises(StatisticsError, match="key width 13 meet a key covariance of key width 12"):
        method.merge(method.contribute([share], solver())[0], solver())


def test_shares_that_are_not_finite_or_do_not_fit_are_refused():
    with pytest.raises(StatisticsError, match="keys_KE of a party's own edits"):
        PartyShare(BASIS, torch.full((K, 1), torch.nan), torch.zeros(V, 1), "auto", torch_generator(0, "r"))
    with pytest.raises(StatisticsError, match=r"keys \[12, 2\] and residuals \[5, 3\]"):
        PartyShare(BASIS, torch.zeros(K, 2), torch.zeros(V, 3), "auto", torch_generator(0, "r"))


def test_a_sum_of_nothing_is_refused():
    with pytest.raises(StatisticsError, match="at least one party"):
        sum_in_order([])


class _Counted:
    """A contribution of some bytes that remembers the order, and how many bytes were copied to make it."""

    def __init__(self, numbers, nbytes, copied=0):
        self.numbers, self.nbytes, self.copied = numbers, nbytes, copied

    def joined(self, others):
        nbytes = min(self.nbytes + sum(other.nbytes for other in others), 500)  # folds to dense, as statistics do
        numbers = self.numbers + [number for other in others for number in other.numbers]
        return _Counted(numbers, nbytes, self.copied + nbytes)


@pytest.mark.parametrize("nbytes", [0, 1, 7, 500])
def test_a_running_sum_keeps_the_order_and_copies_the_sum_seldom(nbytes):
    """Joined one by one, 2000 contributions of one byte would copy about 500·2000 bytes."""
    running = RunningSum()
    for number in range(2000):
        running.add(_Counted([number], nbytes))
        assert running._waiting_bytes <= running._total.nbytes
        assert len(running._waiting) <= 1024
    assert running.total().numbers == list(range(2000))
    assert running.total().copied <= 2 * 2000 * nbytes


@pytest.mark.parametrize("name", METHODS)
def test_a_running_sum_equals_adding_one_by_one(name):
    sent = create(name, {}).contribute(shares([1, 2, 0, 5, 1, 20, 1, 1, 3]), solver())
    together, one_by_one = sum_in_order(sent), sent[0]
    for each in sent[1:]:
        one_by_one = one_by_one + each
    assert type(together) is type(one_by_one)
    assert (together.num_edits, together.num_parties, together.nbytes) == (34, 9, one_by_one.nbytes)
    deltas = [create(name, {}).merge(total, solver()) for total in (together, one_by_one)]
    assert relative(*deltas) <= 1e-10


@pytest.mark.parametrize("name", METHODS)
def test_parameters_are_frozen(name):
    with pytest.raises(ValidationError, match="frozen"):
        create(name, {}).spec.label = "other"
