"""The key covariance: chunks, the disk cache, and the solver made of it."""

import numpy as np
import pytest
import torch
from consortium.engine.key_covariance import KeyCovariance, add_chunk, cached_covariance, keep_covariance
from consortium.merging.history import GramHistory
from support.scenarios import associative_scenario

FINGERPRINT = {"model": "m", "tokens": 3}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONSORTIUM_CACHE", str(tmp_path))


def gram(seed):
    noise_KK = np.random.Generator(np.random.PCG64(seed)).standard_normal((4, 4))
    return noise_KK @ noise_KK.T


def test_chunks_add_from_left_to_right():
    total = None
    for seed in range(3):
        total = add_chunk(total, ({0: gram(seed), 2: gram(10 + seed)}, seed + 1))
    assert total.num_tokens == 6
    np.testing.assert_array_equal(total.sums[0], (gram(0) + gram(1)) + gram(2))
    np.testing.assert_array_equal(total.sums[2], (gram(10) + gram(11)) + gram(12))


def test_a_covariance_comes_back_from_disk_bit_for_bit():
    covariance = KeyCovariance({0: gram(1), 2: gram(2)}, 17)
    keep_covariance(FINGERPRINT, covariance)
    found = cached_covariance(FINGERPRINT, [0, 2])
    assert found.num_tokens == 17
    assert {layer: found.sums[layer].tobytes() for layer in (0, 2)} == {
        layer: covariance.sums[layer].tobytes() for layer in (0, 2)
    }


def test_a_missing_layer_or_another_fingerprint_is_measured_anew():
    keep_covariance(FINGERPRINT, KeyCovariance({0: gram(1)}, 17))
    assert cached_covariance(FINGERPRINT, [0]) is not None
    assert cached_covariance(FINGERPRINT, [0, 2]) is None
    assert cached_covariance({**FINGERPRINT, "tokens": 4}, [0]) is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_flipped_bit_is_told_and_the_sum_is_not_taken(tmp_path, share):
    keep_covariance(FINGERPRINT, KeyCovariance({0: gram(1)}, 17))
    path = next(tmp_path.rglob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)
    told = []
    assert cached_covariance(FINGERPRINT, [0], told.append) is None
    assert told == [f"the key covariance kept in {path} is damaged, and measured again"]


def test_layers_over_different_texts_do_not_mix():
    keep_covariance(FINGERPRINT, KeyCovariance({0: gram(1)}, 17))
    keep_covariance(FINGERPRINT, KeyCovariance({2: gram(1)}, 18))
    assert cached_covariance(FINGERPRINT, [0, 2]) is None


def test_without_a_fingerprint_nothing_is_kept(tmp_path):
    keep_covariance(None, KeyCovariance({0: gram(1)}, 17))
    assert cached_covariance(None, [0]) is None
    assert list(tmp_path.iterdir()) == []


def test_the_solver_is_of_the_weighted_covariance_and_the_history():
    scenario = associative_scenario(editor={"covariance_weight": 6})
    covariance = KeyCovariance({0: np.eye(4) * 5}, 10)
    rhs_KN = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(covariance.solver(scenario, 0, None).solve(rhs_KN), rhs_KN / 3)
    torch.testing.assert_close(
        covariance.solver(scenario, 0, GramHistory("arm", 1, np.eye(4))).solve(rhs_KN), rhs_KN / 4
    )
