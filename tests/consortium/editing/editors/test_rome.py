"""Single edits against the loop that the paper writes. Shapes: E edits, K key width, V value width."""

import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.editing.editors.registry import create_editor
from consortium.merging.method import PartyShare, sum_in_order
from consortium.merging.statistics import Basis
from consortium.scenario.editor import RomeSpec
from support import methods as registry

K, V, TOKENS, WEIGHT = 12, 5, 100, 20.0
BASIS = Basis("arm", 1, 5)
SIZES = [3, 0, 4, 1]
EDITOR = create_editor(RomeSpec(method="rome", covariance_weight=WEIGHT))


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed, "test"), dtype=torch.float64)


def covariance_sum():
    text_KT = gaussian(K, TOKENS, seed=2)
    return (text_KT @ text_KT.T).numpy()


def solver():
    return EDITOR.solvers({5: covariance_sum()}, TOKENS).get(5)


def parties(form="auto"):
    """Keys alike, as real ones are, so that later edits disturb earlier ones."""
    keys_KE, residuals_VE = gaussian(K, 1, seed=3) + 0.5 * gaussian(K, 8, seed=4), gaussian(V, 8, seed=5)
    pairs = zip(keys_KE.split(SIZES, dim=1), residuals_VE.split(SIZES, dim=1), strict=True)
    return [PartyShare(BASIS, *pair, form, torch_generator(0, "r", n)) for n, pair in enumerate(pairs)]


def one_by_one(shares):
    """ROME's loop: each edit's rank-one update under the weights that the edit before left."""
    inverse_KK = torch.linalg.inv(torch.tensor(covariance_sum()) * WEIGHT / TOKENS)
    delta_VK = torch.zeros(V, K, dtype=torch.float64)
    for share in shares:
        for key_K, residual_V in zip(share.keys_KE.T, share.residuals_VE.T, strict=True):
            direction_K = inverse_KK @ key_K
            delta_VK += torch.outer(residual_V - delta_VK @ key_K, direction_K) / (key_K @ direction_K)
    return delta_VK


def sent(method, shares):
    """What the parties send, as a worker has it made."""
    covariance = solver() if method.spec.needs_solver else None
    return method.contribute(EDITOR.with_updates(shares, covariance), covariance)


def merged(name, shares):
    method = EDITOR.merge_method(registry.create(name, {}))
    return method.merge(sum_in_order(sent(method, shares)), solver())


@pytest.mark.parametrize("form", ["auto", "dense", "factored"])
def test_a_partys_update_is_the_loops(form):
    method = registry.create("task_arithmetic", {})
    for share, message in zip(parties(form), sent(method, parties(form)), strict=True):
        expected_VK = one_by_one([share])
        torch.testing.assert_close(torch.tensor(message.delta_VK), expected_VK, rtol=1e-9, atol=1e-12)


def test_the_owner_of_all_makes_them_in_the_order_of_parties():
    torch.testing.assert_close(merged("global", parties()), one_by_one(parties()), rtol=1e-9, atol=1e-12)
    turned = one_by_one(parties()[::-1])
    assert not torch.allclose(merged("global", parties()), turned, rtol=1e-2), "the order matters"


@pytest.mark.parametrize(("name", "divisor"), [("task_arithmetic", 1), ("simple_average", len(SIZES))])
def test_updates_are_added_or_averaged(name, divisor):
    alone = sum(one_by_one([share]) for share in parties())
    torch.testing.assert_close(merged(name, parties()), alone / divisor, rtol=1e-9, atol=1e-12)


def test_the_last_edit_holds_exactly_and_the_first_does_not():
    delta_VK, shares = merged("global", parties()), parties()
    torch.testing.assert_close(delta_VK @ shares[-1].keys_KE, shares[-1].residuals_VE, rtol=1e-9, atol=1e-9)
    first_VE = delta_VK @ shares[0].keys_KE
    assert not torch.allclose(first_VE, shares[0].residuals_VE, rtol=1e-2)


def test_the_history_grows_by_the_edits_own_gram_sums():
    """As with every editor, whatever way their updates were made."""
    keys_KE = torch.cat([share.keys_KE for share in parties()], dim=1)
    for name in ("global", "task_arithmetic", "ties"):
        method = EDITOR.merge_method(registry.create(name, {}))
        gram_KK = torch.tensor(sum_in_order(sent(method, parties())).gram.dense().gram_KK)
        torch.testing.assert_close(gram_KK, keys_KE @ keys_KE.T)


def test_no_column_of_a_message_is_an_edits_own():
    """Factors of three edits: no column is along A⁻¹·k of one of them."""
    share = parties("factored")[0]
    columns_KE = torch.tensor(sent(registry.create("task_arithmetic", {}), [share])[0].update.solved_KN)
    own_KE = solver().solve(share.keys_KE)
    cosines = torch.nn.functional.normalize(columns_KE, dim=0).T @ torch.nn.functional.normalize(own_KE, dim=0)
    assert float(cosines.abs().max()) < 1 - 1e-6
