"""Methods that bear bad parties: against naive twins, and what a minority of bad groups can do. Shapes: G, K, V, E."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from consortium.common.errors import StatisticsError
from consortium.common.seeds import torch_generator
from consortium.features.attacks.attack_messages import misbehave, scaled
from consortium.merging.bucketing import BucketSums, bucket_updates
from consortium.merging.method import PartyShare, sum_in_order
from consortium.merging.methods.geometric_median import geometric_median
from consortium.merging.methods.trimmed_mean import trimmed_mean
from consortium.merging.norms import relative_norms_of
from consortium.merging.reference_norms import ReferenceNorms
from consortium.merging.solvers import Solvers
from consortium.merging.statistics import Basis
from consortium.scenario.attacks import AttackSpec
from support.methods import create

BASIS = Basis("arm", 1, 5)
K, V, G = 12, 5, 5
GROUPED = ["trimmed_mean", "median_of_means", "geometric_median"]
REFERENCE_NORMS = ReferenceNorms((V, K), 3.0, 2.0)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed, "test"), dtype=torch.float64)


def covariance_KK():
    keys_KT = gaussian(K, 4 * K, seed=99)
    return keys_KT @ keys_KT.T


def solver():
    return Solvers({5: covariance_KK().numpy()}, 4 * K, 1.0).get(5)


def covariance_of_solver():
    return covariance_KK() / (4 * K)


def shares(num_parties, num_edits=2, form="auto"):
    return [
        PartyShare(
            BASIS,
            gaussian(K, num_edits, seed=3 * party),
            gaussian(V, num_edits, seed=3 * party + 1),
            form,
            torch_generator(party, "rotation"),
            party=party,
        )
        for party in range(num_parties)
    ]


def naive_updates(party_shares, num_buckets):
    """Group by group, dense: everybody's keys and residuals of the group side by side, and an inverse."""
    found = []
    for bucket in range(num_buckets):
        own = [share for share in party_shares if share.party % num_buckets == bucket]
        keys_KE, residuals_VE = (
            torch.cat([getattr(each, name) for each in own], 1) for name in ("keys_KE", "residuals_VE")
        )
        found.append(residuals_VE @ keys_KE.T @ torch.linalg.inv(covariance_of_solver() + keys_KE @ keys_KE.T))
    return torch.stack(found)


def naive_aggregate(name, updates_GVK):
    """Entry by entry with plain lists; the geometric median by many small steps downhill."""
    if name == "geometric_median":
        point = updates_GVK.mean(dim=0).clone().requires_grad_()
        steps = torch.optim.LBFGS([point], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15)

        def loss():
            steps.zero_grad()
            total = sum((point - each).norm() for each in updates_GVK)
            total.backward()
            return total

        steps.step(loss)
        return point.detach()
    kept_VK = torch.zeros(V, K, dtype=torch.float64)
    for row in range(V):
        for column in range(K):
            ordered = sorted(float(each[row, column]) for each in updates_GVK)
            kept_VK[row, column] = ordered[2] if name == "median_of_means" else sum(ordered[1:4]) / 3
    return kept_VK


def total_of(method, party_shares):
    return sum_in_order(method.contribute(party_shares, None))


@pytest.mark.parametrize("form", ["dense", "factored"])
@pytest.mark.parametrize("name", GROUPED)
def test_as_a_naive_twin(name, form):
    party_shares = shares(12, form=form)
    method = create(name, {"buckets": G, "alpha": 0.5})
    merged_VK = method.merge(total_of(method, party_shares), solver())
    expected_VK = 0.5 * G * naive_aggregate(name, naive_updates(party_shares, G))
    assert torch.allclose(merged_VK, expected_VK, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
@pytest.mark.parametrize("name", GROUPED)
def test_who_is_in_which_group_does_not_depend_on_the_order(name, order):
    method = create(name, {})
    found = bucket_updates(total_of(method, shares(12)[order]), solver())
    assert torch.allclose(found, naive_updates(shares(12), G), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [*GROUPED, "norm_bound"])
def test_one_group_without_bad_parties_is_collabedit(name):
    parameters = {"keys": 1e6, "residuals": 1e6} if name == "norm_bound" else {"buckets": 1}
    method, exact = create(name, parameters), create("collabedit", {})
    expected_VK = exact.merge(total_of(exact, shares(6)), solver())
    assert torch.equal(method.merge(total_of(method, shares(6)), solver()), expected_VK)


@pytest.mark.parametrize("num_buckets", [3, 5, 7])
@pytest.mark.parametrize("push", [1e3, -1e9, 1e12])
@pytest.mark.parametrize("name", ["trimmed_mean", "median_of_means"])
def test_a_minority_of_bad_groups_moves_no_entry_beyond_the_honest_range(name, push, num_buckets):
    """One bad party of 2m + 1 groups; the plain mean is carried away."""
    method = create(
        name, {"buckets": num_buckets, "alpha": 1 / num_buckets} | ({"trim": 0.34} if name[0] == "t" else {})
    )
    sent = method.contribute(shares(num_buckets), None)
    honest_GVK = bucket_updates(sum_in_order(sent[1:]), solver())
    sent[0] = BucketSums({0: scaled(sent[0].buckets[0], push)})
    merged_VK = method.merge(sum_in_order(sent), solver())
    slack = 1e-9
    assert bool((merged_VK <= honest_GVK.max(dim=0).values + slack).all())
    assert bool((merged_VK >= honest_GVK.min(dim=0).values - slack).all())
    carried_VK = bucket_updates(sum_in_order(sent), solver()).mean(dim=0)
    assert bool((carried_VK > honest_GVK.max(dim=0).values).any())


@pytest.mark.parametrize("num_bad", [1, 2, 3])
@pytest.mark.parametrize("push", [10.0, 1e6, 1e12])
def test_a_minority_moves_the_geometric_median_by_a_bounded_factor(num_bad, push):
    """‖median − z‖ ≤ 2·(G − f)/(G − 2f) · max over honest ‖Δ_g − z‖, for the honest mean z (Minsker, lemma 2.1)."""
    values_GVK = gaussian(7, V, K, seed=3)
    values_GVK[:num_bad] *= push
    honest_GVK = values_GVK[num_bad:]
    center_VK = honest_GVK.mean(dim=0)
    farthest = max(float((each - center_VK).norm()) for each in honest_GVK)
    apart = float((geometric_median(values_GVK) - center_VK).norm())
    assert apart <= 2 * (7 - num_bad) / (7 - 2 * num_bad) * farthest


def test_the_geometric_median_is_found_where_it_is_a_value():
    """Of 0, 0, 0 and 4 it is 0; of nothing but zeros it is zero."""
    values_GVK = torch.tensor([0.0, 0.0, 0.0, 4.0], dtype=torch.float64).reshape(4, 1, 1)
    assert float(geometric_median(values_GVK)) == pytest.approx(0.0, abs=1e-5)
    assert float(geometric_median(torch.zeros(3, 1, 1, dtype=torch.float64))) == 0.0


def test_trimming_counts_groups_exactly():
    """0.2 of 5 buckets is one group, though 0.2 is not exact in binary; 0.49 of 2 is none."""
    values_GVK = torch.arange(5.0, dtype=torch.float64).square().reshape(5, 1, 1)
    assert float(trimmed_mean(values_GVK, 0.2)) == pytest.approx((1 + 4 + 9) / 3)
    assert float(trimmed_mean(values_GVK[:2], 0.49)) == pytest.approx(0.5)
    assert float(trimmed_mean(0.6 + 0 * values_GVK[:3], 1 / 3)) == pytest.approx(0.6)


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_a_large_message_is_brought_to_the_bound_and_others_left_alone(form):
    method = create("norm_bound", {"keys": 2.0, "residuals": 1.5})
    small, large = method.contribute([replace(each, form=form) for each in shares(2)])
    sizes = relative_norms_of(small, REFERENCE_NORMS)
    assert sizes["keys"] < 2.0
    assert sizes["residuals"] < 1.5
    assert method.clipped(small, REFERENCE_NORMS) is small
    keys_KE, residuals_VE = 10 * shares(2)[1].keys_KE, 100 * shares(2)[1].residuals_VE
    (large,) = method.contribute([replace(shares(2)[1], keys_KE=keys_KE, residuals_VE=residuals_VE, form=form)])
    clipped = method.clipped(large, REFERENCE_NORMS)
    assert relative_norms_of(clipped, REFERENCE_NORMS) == pytest.approx({"keys": 2.0, "residuals": 1.5})
    ratio = clipped.cross_VK / large.cross_VK
    assert np.allclose(ratio, ratio[0, 0])
    gram_ratio = clipped.gram_KK / large.gram_KK
    assert np.allclose(gram_ratio, (2.0 / relative_norms_of(large, REFERENCE_NORMS)["keys"]) ** 2)


def test_a_bounded_message_is_the_same_in_both_forms():
    method = create("norm_bound", {"keys": 0.5, "residuals": 0.5})
    dense, factored = (
        method.clipped(method.contribute([replace(shares(1)[0], form=form)])[0], REFERENCE_NORMS)
        for form in ("dense", "factored")
    )
    assert np.allclose(dense.cross_VK, factored.cross_VK)
    assert np.allclose(dense.gram_KK, factored.gram_KK)


def test_groups_of_which_none_came_are_refused():
    with pytest.raises(StatisticsError, match="sent no group"):
        BucketSums({}).check()


@pytest.mark.parametrize("name", GROUPED)
def test_the_sum_grows_with_groups_and_not_with_parties(name):
    method = create(name, {"buckets": 3})
    few, many = (total_of(method, shares(num, 4)).nbytes for num in (12, 48))
    assert few == many == 3 * 8 * K * (K + V)


@pytest.mark.parametrize("kind", ["nan", "sign_flip", "replay", "stale"])
def test_attackers_of_groups_send_groups(kind):
    message = create("median_of_means", {}).contribute(shares(4))[3]
    sent = misbehave([AttackSpec(kind=kind, parties=(3,))], message)
    assert [list(each.buckets) for each in sent] == [[3]] * (2 if kind == "replay" else 1)
    assert math.isfinite(sum(each.nbytes for each in sent))
