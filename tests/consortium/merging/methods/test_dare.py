"""DARE and DARE + TIES. Shapes: P parties, K key width, V value width."""

import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.merging.method import PartyShare, sum_in_order
from consortium.merging.methods.ties import elected_mean, signed_sums_of
from consortium.merging.solver import CovarianceSolver
from consortium.merging.sparsification import drop_at_random, trim
from consortium.merging.statistics import Basis, zero
from support.methods import create

BASIS = Basis("dare", 1, 5)
K, V, P = 12, 5, 3


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed, "test"), dtype=torch.float64)


def solver():
    samples = gaussian(K, 4 * K, seed=99)
    return CovarianceSolver((samples @ samples.T / (4 * K)).numpy())


def shares(drops_seed=0):
    return [
        PartyShare(
            BASIS,
            gaussian(K, 2, seed=party),
            gaussian(V, 2, seed=50 + party),
            "auto",
            torch_generator(party, "rotation"),
            torch_generator(drops_seed, "drops", party),
        )
        for party in range(P)
    ]


def merged(name, party_shares, **parameters):
    method, covariance = create(name, parameters), solver()
    return method.merge(sum_in_order(method.contribute(party_shares, covariance)), covariance)


def test_what_is_kept_is_rescaled_entry_by_entry():
    """The masks written out: an entry goes where its own draw is below p, and is divided by 1 − p elsewhere."""
    delta_VK = gaussian(V, K)
    thinned_VK = drop_at_random(delta_VK, 0.75, torch_generator(3, "drops"))
    drawn_VK = torch.rand(V, K, generator=torch_generator(3, "drops"), dtype=torch.float64)
    for row in range(V):
        for column in range(K):
            expected = 0.0 if drawn_VK[row, column] < 0.75 else 4 * delta_VK[row, column]
            assert thinned_VK[row, column] == expected
    assert 0 < int((thinned_VK == 0).sum()) < V * K


@pytest.mark.parametrize("drop", [0.1, 0.5, 0.9])
def test_the_drop_leaves_expectation_and_variance_as_the_formulas_say(drop):
    """Of N draws, means lie within 4.5 standard errors of Δ, and the shares of zeros of p."""
    delta_VK, number = gaussian(V, K), 4000
    generator = torch_generator(0, "many")
    drawn = torch.stack([drop_at_random(delta_VK, drop, generator) for _ in range(number)])
    spread_VK = delta_VK.abs() * (drop / (1 - drop)) ** 0.5
    assert ((drawn.mean(0) - delta_VK).abs() / (spread_VK / number**0.5)).max() < 4.5
    assert torch.allclose(drawn.std(0), spread_VK, rtol=0.15)
    zeros = float((drawn == 0).double().mean())
    assert abs(zeros - drop) < 4.5 * (drop * (1 - drop) / (number * V * K)) ** 0.5


def test_dare_is_the_scaled_sum_of_thinned_local_updates():
    """With nothing dropped it is task arithmetic; on average over masks it is so, too."""
    sums = {alpha: merged("task_arithmetic", shares(), alpha=alpha) for alpha in (1.0, 0.5)}
    torch.testing.assert_close(merged("dare", shares(), drop=0.0, alpha=0.5), sums[0.5], rtol=1e-12, atol=0)
    many = torch.stack([merged("dare", shares(seed), drop=0.5) for seed in range(500)])
    error_VK = (many.mean(0) - sums[1.0]).abs() / (many.std(0) / 500**0.5)
    assert error_VK.max() < 4.5


def test_parties_have_masks_of_their_own_and_repeat_them():
    one, again = merged("dare", shares()), merged("dare", shares())
    assert torch.equal(one, again)
    assert not torch.equal(one, merged("dare", shares(drops_seed=1)))
    sent = create("dare", {"drop": 0.5}).contribute(shares(), solver())
    masks = [each.delta_VK != 0 for each in sent]
    assert not (masks[0] == masks[1]).all()


def test_dare_ties_is_ties_on_thinned_updates():
    alone = create("dare", {"drop": 0.5}).contribute(shares(), solver())
    thinned = [torch.tensor(each.delta_VK) for each in alone]
    nothing = zero(BASIS, K, 0)
    expected = elected_mean(sum_in_order(signed_sums_of(trim(each, 0.3), nothing) for each in thinned))
    found = merged("dare_ties", shares(), drop=0.5, density=0.3, **{"lambda": 0.5})
    torch.testing.assert_close(found, 0.5 * expected, rtol=1e-12, atol=0)


def test_dare_ties_without_a_drop_is_ties():
    found, expected = merged("dare_ties", shares(), drop=0.0), merged("ties", shares())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    merged("dare", shares())
    assert torch.equal(torch.random.get_rng_state(), before)
