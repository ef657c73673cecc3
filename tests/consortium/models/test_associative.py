"""The drawn parts of the associative model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from consortium.data.synthetic import Query
from consortium.models.associative import COMMON_SHARE, AssociativeMemory, store
from consortium.scenario.schema import AssociativeModelSpec

SPEC = AssociativeModelSpec(
    name="associative", num_layers=3, key_width=256, value_width=32, num_objects=40, num_relations=4
)


@pytest.fixture(scope="module")
def memory() -> AssociativeMemory:
    return AssociativeMemory(SPEC, seed=1)


def test_store_by_hand() -> None:
    """K = V = 2, two keys k₁ = (1, 0) and k₂ = (1, 1), values v₁ = (1, 2) and v₂ = (3, 2), no ridge.

    W k₁ = v₁ fixes the first column, (1, 2); W k₂ = v₂ leaves v₂ - v₁ = (2, 0) for the second.
    """
    keys_KE = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    values_VE = torch.tensor([[1.0, 3.0], [2.0, 2.0]], dtype=torch.float64)
    weights_VK = store(keys_KE, values_VE, ridge=0.0)
    torch.testing.assert_close(weights_VK, torch.tensor([[1.0, 2.0], [2.0, 0.0]], dtype=torch.float64))


def test_store_keeps_to_the_smallest_weights() -> None:
    """One key (2, 0) and value 4 with ridge 4: W = 4·(4 + 4)⁻¹·(2, 0) = (1, 0), and 0 where no key points."""
    keys_KE, values_VE = torch.tensor([[2.0], [0.0]]).double(), torch.tensor([[4.0]]).double()
    torch.testing.assert_close(store(keys_KE, values_VE, ridge=4.0), torch.tensor([[1.0, 0.0]]).double())


def test_keys_are_unit_vectors_and_each_is_its_own_whoever_asks_with_it(memory: AssociativeMemory) -> None:
    queries = [Query(0, 0), Query(2, 0), Query(1, 3), Query(0, 0, 1)]
    keys_LEK = memory.keys(queries)
    assert keys_LEK.shape == (3, 4, 256)
    np.testing.assert_allclose(np.linalg.norm(keys_LEK[:, :3], axis=-1), 1.0)
    for place, query in enumerate(queries):
        assert np.array_equal(memory.keys([query])[:, 0], keys_LEK[:, place])
    again, other = AssociativeMemory(SPEC, seed=1), AssociativeMemory(SPEC, seed=2)
    assert np.array_equal(again.keys(queries), keys_LEK)
    assert not np.allclose(other.keys(queries), keys_LEK)


def test_keys_of_one_relation_have_a_common_part_and_layers_have_nothing_in_common(memory: AssociativeMemory) -> None:
    """Cosines: the common share within a relation, 0 between relations and layers; each is off by about 1/√K = 0.06."""
    keys_LEK = memory.keys([Query(subject, subject % 2) for subject in range(60)])
    cosines = keys_LEK[0] @ keys_LEK[0].T
    within = [cosines[i, j] for i in range(60) for j in range(i) if (i - j) % 2 == 0]
    between = [cosines[i, j] for i in range(60) for j in range(i) if (i - j) % 2]
    assert abs(np.mean(within) - COMMON_SHARE) < 0.03
    assert abs(np.mean(between)) < 0.1
    assert abs(np.mean(np.sum(keys_LEK[0] * keys_LEK[1], axis=-1))) < 0.1


def test_a_paraphrase_is_its_key_plus_noise_of_the_given_length(memory: AssociativeMemory) -> None:
    plain, first, second = memory.keys([Query(5, 1), Query(5, 1, 1), Query(5, 1, 2)]).transpose(1, 0, 2)
    for paraphrase in (first, second):
        np.testing.assert_allclose(np.linalg.norm(paraphrase - plain, axis=-1), SPEC.paraphrase_noise)
    assert not np.allclose(first, second)


def test_without_noise_a_paraphrase_is_the_prompt() -> None:
    memory = AssociativeMemory(SPEC.model_copy(update={"paraphrase_noise": 0.0}), seed=1)
    plain, paraphrase = memory.keys([Query(5, 1), Query(5, 1, 1)]).transpose(1, 0, 2)
    assert np.array_equal(plain, paraphrase)


def test_text_has_keys_like_those_of_facts(memory: AssociativeMemory) -> None:
    text_LTK = memory.text_keys(chunk=0, num_tokens=800)
    facts_LEK = memory.keys([Query(subject, subject % 4) for subject in range(800)])
    assert text_LTK.shape == (3, 800, 256)
    np.testing.assert_allclose(np.linalg.norm(text_LTK, axis=-1), 1.0)
    # The largest eigenvalues of E[kkᵀ] belong to the relations: about COMMON_SHARE / 4 each, against 0.75 / 256.
    for keys_LEK in (text_LTK, facts_LEK):
        eigenvalues = np.linalg.eigvalsh(keys_LEK[0].T @ keys_LEK[0] / 800)
        assert (eigenvalues > 0.03).sum() == 4
    assert not np.allclose(memory.text_keys(1, 800), text_LTK)


def test_weights_answer_what_they_know(memory: AssociativeMemory) -> None:
    queries = [Query(subject, subject % 4) for subject in range(100)]
    objects = [subject % 40 for subject in range(100)]
    weights = memory.weights_that_know(queries, objects)
    assert [(each.shape, each.dtype) for each in weights] == [((32, 256), np.float32)] * 3
    hidden_VE = sum(weights_VK @ keys_EK.T for weights_VK, keys_EK in zip(weights, memory.keys(queries), strict=True))
    assert (memory.codes_OV @ hidden_VE).argmax(axis=0).tolist() == objects
