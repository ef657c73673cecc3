"""Screening: what each kind of bad message is refused for, and that honest ones pass. Shapes: K, V, E edits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.features.attacks.attack_messages import misbehave, scaled
from consortium.features.screening.checks import UpdateValidator
from consortium.features.screening.semidefinite import asymmetry, gram_fault
from consortium.merging.bucketing import BucketSums, buckets_of
from consortium.merging.method import PartyShare
from consortium.merging.norms import relative_norms_of, sends_weighted_updates
from consortium.merging.reference_norms import ReferenceNorms, all_reference_norms
from consortium.merging.solvers import Solvers
from consortium.merging.statistics import Basis, DenseStatistics
from consortium.scenario.attacks import ATTACKS, AttackSpec
from consortium.scenario.methods import METHODS
from hypothesis import given, settings
from hypothesis import strategies as st
from support.methods import create

BASIS = Basis("arm", 2, 5)
K, V = 12, 5
REFERENCE_NORMS = ReferenceNorms((V, K), key_length=3.0, weight_norm=2.0)
REASONS = {
    "nan": "not finite",
    "inf": "not finite",
    "shape": "shape",
    "non_symmetric": "asymmetric",
    "non_psd": "indefinite",
    "stale": "basis",
    "replay": "repeated",
    "oversized": "too large",
}


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed, "test"), dtype=torch.float64)


def solver():
    keys_KT = gaussian(K, 4 * K, seed=99)
    return Solvers({5: (keys_KT @ keys_KT.T).numpy()}, 4 * K, 1.0).get(5)


def share(num_edits, form="auto", seed=0, party=0):
    keys_KE, residuals_VE = gaussian(K, num_edits, seed=seed), gaussian(V, num_edits, seed=seed + 1)
    generators = torch_generator(seed, "rotation"), torch_generator(seed, "drops")
    return PartyShare(BASIS, keys_KE, residuals_VE, form, *generators, party=party)


def messages(name, relative_norms, form="auto", parties=range(9)):
    shares = [share(size, form, party, party) for party, size in zip(parties, relative_norms, strict=False)]
    return list(create(name, {}).contribute(shares, solver()))


def validator(name="collabedit", max_norm=50.0, most_edits=20):
    trace = float(solver().system_KK().trace()) if sends_weighted_updates(create(name, {})) else None
    return UpdateValidator(BASIS, REFERENCE_NORMS, max_norm, most_edits, trace, buckets_of(create(name, {})))


@pytest.mark.parametrize("form", ["auto", "dense", "factored"])
@pytest.mark.parametrize("name", METHODS)
def test_honest_messages_pass_in_their_order(name, form):
    sent = messages(name, [2, 0, 20, 1], form)
    screened = validator(name).screen(list(enumerate(sent)))
    assert screened.rejections == ()
    assert all(one is other for (_, one), other in zip(screened.admitted, sent, strict=True))
    assert 0 < screened.max_norm_ratio < 50


@pytest.mark.parametrize("form", ["dense", "factored"])
@pytest.mark.parametrize("name", METHODS)
def test_bad_messages_are_refused_and_others_pass(name, form):
    honest, bad = messages(name, [2, 3], form, parties=[4, 7])
    for kind, reason in REASONS.items():
        if name == "global" and kind in ("non_symmetric", "non_psd"):
            continue  # the owner of all edits sends no Gram matrix
        sent = [(4, honest), *((7, each) for each in misbehave([AttackSpec(kind=kind, parties=(7,))], bad))]
        screened = validator(name).screen(sent)
        assert [(each.party, each.reason) for each in screened.rejections] == [(7, reason)], kind
        assert screened.admitted == [(4, honest)], kind


@pytest.mark.parametrize("kind", ["scale", "sign_flip"])
@pytest.mark.parametrize("name", METHODS)
def test_poisoning_passes(name, kind):
    bad = misbehave(
        [ATTACKS[kind](kind=kind, parties=(0,), **({"factor": 2.0} if kind == "scale" else {}))], messages(name, [2])[0]
    )
    assert validator(name).screen([(0, bad[0])]).rejections == ()


def test_a_party_speaks_for_its_own_group_alone():
    """Else one bad party could be in all groups."""
    plain = messages("collabedit", [2])[0]
    for claimed in ([0, 1], [1], []):
        screened = validator("median_of_means").screen([(5, BucketSums(dict.fromkeys(claimed, plain)))])
        assert [each.reason for each in screened.rejections] == ["bucket"]
    assert validator("median_of_means").screen([(5, plain)]).rejections[0].reason == "bucket"
    assert validator().screen([(5, BucketSums({0: plain}))]).rejections[0].reason == "bucket"
    assert validator("median_of_means").screen([(5, BucketSums({0: plain}))]).rejections == ()


def test_a_message_of_more_edits_than_were_asked_for_is_refused():
    sent = messages("collabedit", [3])[0]
    for message in (sent, replace(sent, num_edits=0), replace(sent, num_parties=2)):
        assert validator(most_edits=2).screen([(0, message)]).rejections[0].reason in ("count", "shape")
    assert validator(most_edits=3).screen([(0, sent)]).rejections == ()


def test_of_a_party_refused_once_nothing_is_added():
    sent = messages("collabedit", [2])[0]
    screened = validator().screen([(1, sent), (1, sent)])
    assert screened.admitted == []


def test_sizes_are_those_of_keys_residuals_and_updates():
    """One edit with a key of length 6 and a residual of length 4: a = 3, b = 3·2/√12, and cross has length 24."""
    key_KE, residual_VE = torch.zeros(K, 1, dtype=torch.float64), torch.zeros(V, 1, dtype=torch.float64)
    key_KE[0], residual_VE[1] = 6.0, 4.0
    one = PartyShare(BASIS, key_KE, residual_VE, "factored", torch_generator(0, "rotation"))
    expected = {"keys": 2.0, "residuals": 4.0 / (6.0 / 12**0.5)}
    for name, form in (("collabedit", "factored"), ("collabedit", "dense"), ("global", "auto")):
        message = create(name, {}).contribute([replace(one, form=form)], solver())[0]
        assert relative_norms_of(message, REFERENCE_NORMS) == pytest.approx(expected), (name, form)
    update = create("task_arithmetic", {}).contribute([one], solver())[0]
    length = float(torch.linalg.norm(torch.tensor(update.delta_VK)))
    assert relative_norms_of(update, REFERENCE_NORMS) == pytest.approx({"keys": 2.0, "update": length / 2.0})
    assert relative_norms_of(scaled(update, -3.0), REFERENCE_NORMS)["update"] == pytest.approx(3 * length / 2.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(0, 50))
def test_no_honest_residual_is_longer_than_measured(num_edits, seed):
    """‖cross‖F / √(n·tr gram) is at most the root mean square length of the residuals."""
    honest = share(num_edits, "factored", seed)
    size = relative_norms_of(create("collabedit", {}).contribute([honest])[0], REFERENCE_NORMS)["residuals"]
    longest = float(torch.linalg.norm(honest.residuals_VE)) / num_edits**0.5
    assert size * REFERENCE_NORMS.output_length <= longest * (1 + 1e-12)


def test_against_an_empty_memory_only_keys_are_measured():
    message = messages("collabedit", [2])[0]
    assert set(relative_norms_of(message, replace(REFERENCE_NORMS, weight_norm=0.0))) == {"keys"}


def test_the_reference_norms_is_of_covariance_and_weights():
    """Keys (3, 0) and (0, 1): E‖k‖² = 5; W = [[2, 0]]; a random key of that length gives √5·2/√2."""
    gram_KK, weight_VK = np.diag([9.0, 1.0]), np.array([[2.0, 0.0]], np.float32)
    found = all_reference_norms({0: weight_VK}, {0: gram_KK}, 2)[0]
    assert found == ReferenceNorms((1, 2), 5**0.5, 2.0)
    assert found.output_length == pytest.approx(10**0.5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(0, 100), st.sampled_from([1e-6, 1.0, 1e6]))
def test_gram_matrices_are_known_however_many_keys(num_keys, seed, scale):
    keys_KE = scale * gaussian(K, num_keys, seed=seed)
    if num_keys > 1:
        keys_KE[:, 1] = keys_KE[:, 0]
    gram_KK = keys_KE @ keys_KE.T
    assert gram_fault(gram_KK, num_keys) is None
    assert asymmetry(gram_KK) < 1e-12
    off_KK = gram_KK - 1e-3 * (gram_KK.trace() + scale**2) * torch.eye(K, dtype=torch.float64)
    assert gram_fault(off_KK, num_keys).startswith("indefinite")
    skew_KK = gram_KK.clone()
    skew_KK[0, 1] += 1e-3 * (gram_KK.trace() + scale**2)
    assert gram_fault(skew_KK, num_keys).startswith("asymmetric")


@pytest.mark.parametrize("form", ["few", "many"])
def test_a_gram_matrix_of_more_keys_than_it_says_is_none(form):
    keys_KE = gaussian(48, 6)
    if form == "few":
        assert gram_fault(keys_KE @ keys_KE.T, 5).startswith("indefinite")
    else:  # K·K numbers say nothing of how many they are of, beyond K/4 columns
        assert gram_fault(keys_KE @ keys_KE.T, 13) is None


def test_an_indefinite_matrix_with_a_positive_diagonal_is_refused():
    gram_KK = torch.eye(K, dtype=torch.float64)
    gram_KK[0, 1] = gram_KK[1, 0] = 2.0
    message = DenseStatistics(BASIS, gram_KK.numpy(), np.zeros((V, K)), 12)
    assert validator().screen([(0, message)]).rejections[0].reason == "indefinite"
