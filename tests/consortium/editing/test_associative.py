"""The associative backend: closed forms against naive loops, and edits that take."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from consortium.common.errors import ModelError, ScenarioError
from consortium.data.edit import Edit
from consortium.data.synthetic import SyntheticFacts, object_number, read_query
from consortium.editing.associative import AssociativeBackend
from consortium.editing.backend import Backend
from consortium.models.associative import LOGIT_SCALE, AssociativeMemory
from consortium.models.queries import Generation, Probe
from consortium.scenario.editor import CovarianceSpec, EditorSpec, MemitSpec
from consortium.scenario.schema import AssociativeModelSpec

SPEC = AssociativeModelSpec(
    name="associative", device="cpu", num_layers=3, key_width=96, value_width=48, num_objects=20, num_relations=4
)
EDITOR = MemitSpec(layers=(1, 2), covariance_weight=5.0)
FACTS = SyntheticFacts(SPEC, 60, seed=1)


def new_backend(editor: EditorSpec = EDITOR, spec: AssociativeModelSpec = SPEC) -> AssociativeBackend:
    return AssociativeBackend(spec, editor, FACTS, seed=1)


def edits_of(count: int, variant: int = 0) -> list[Edit]:
    return [FACTS.edit(fact, variant) for fact in range(count)]


def naive_hidden(weights: Mapping[int, np.ndarray], prompt: str, last_layer: int) -> np.ndarray:
    """One prompt, one layer after the other."""
    keys_LEK = AssociativeMemory(SPEC, seed=1).keys([read_query(prompt)])
    hidden_V = np.zeros(SPEC.value_width)
    for layer in range(last_layer + 1):
        hidden_V += weights[layer].astype(np.float64) @ keys_LEK[layer, 0]
    return hidden_V


def all_base_weights() -> dict[int, np.ndarray]:
    return new_backend(MemitSpec(layers=(0, 2), residual_schedule="spread")).base_weights()


def covariance_of(backend: Backend, weight: float) -> dict[int, torch.Tensor]:
    sums, counts = zip(*(backend.covariance_sum(chunk) for chunk in range(backend.covariance_chunks())), strict=True)
    return {layer: torch.from_numpy(sum(each[layer] for each in sums)) * weight / sum(counts) for layer in sums[0]}


def teach(backend: Backend, edits: list[Edit], editor: EditorSpec = EDITOR) -> None:
    """MEMIT over the edited layers: Δ = R Kᵀ (C + K Kᵀ)⁻¹, with the residual shared out over the layers to come."""
    covariance = covariance_of(backend, editor.covariance_weight)
    layers = editor.edited_layers
    weights = backend.base_weights()
    targets = backend.targets(edits, layers[-1])
    for place, layer in enumerate(layers):
        keys_KE, missing_VE = backend.keys_and_residuals(backend.states(edits, layer, None), targets)
        residuals_VE = missing_VE / (len(layers) - place)
        delta_KV = torch.linalg.solve(covariance[layer] + keys_KE @ keys_KE.T, keys_KE @ residuals_VE.T)
        weights[layer] = (weights[layer] + delta_KV.T.numpy()).astype(np.float32)
        backend.load_weights(weights)


def recall(backend: Backend, questions: list[tuple[str, str]]) -> float:
    scores = backend.score([Probe(prompt, target) for prompt, target in questions])
    return float(np.mean([score.strict for score in scores]))


def test_keys_and_residuals_equal_a_naive_loop() -> None:
    backend, edits = new_backend(), edits_of(5)
    weights = all_base_weights()
    targets = backend.targets(edits, 1)
    first = backend.states(edits, 1, None)
    keys_KE, residuals_VE = backend.keys_and_residuals(backend.states(edits, 2, first), targets)
    assert keys_KE.shape == (96, 5)
    assert keys_KE.dtype == residuals_VE.dtype == torch.float64
    memory = AssociativeMemory(SPEC, seed=1)
    for place, edit in enumerate(edits):
        expected_LK = memory.keys([read_query(edit.text)])[:, 0]
        np.testing.assert_array_equal(keys_KE[:, place], expected_LK[2])
        missing_V = targets.vectors_EV[place].double().numpy() - naive_hidden(weights, edit.text, 1)
        np.testing.assert_allclose(residuals_VE[:, place], missing_V, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer", [1, 2])
def test_at_its_target_the_model_says_the_new_object(layer: int) -> None:
    """h after the last layer = z + what the layers above add, and must be the new object's code vector."""
    backend, edits = new_backend(), edits_of(5)
    weights, memory = all_base_weights(), AssociativeMemory(SPEC, seed=1)
    targets = backend.targets(edits, layer)
    assert targets.layer == layer
    assert targets.num_steps == (0,) * 5
    assert targets.vectors_EV.dtype == torch.float32
    for place, edit in enumerate(edits):
        above_V = naive_hidden(weights, edit.text, 2) - naive_hidden(weights, edit.text, layer)
        code_V = memory.codes_OV[object_number(edit.target_new)]
        np.testing.assert_allclose(targets.vectors_EV[place].numpy() + above_V, code_V, atol=1e-6)
        logits_O = LOGIT_SCALE * memory.codes_OV @ code_V
        expected = math.log(np.exp(logits_O).sum()) - logits_O[object_number(edit.target_new)]
        assert targets.losses[place] == pytest.approx(expected)
        assert targets.losses[place] < 0.05


def test_scores_equal_a_naive_softmax() -> None:
    backend, weights, memory = new_backend(), all_base_weights(), AssociativeMemory(SPEC, seed=1)
    probes = [Probe(edit.paraphrases[0], edit.target_new, edit.target_old) for edit in edits_of(4)]
    probes.append(Probe(FACTS.edit(7).text, " o3"))
    for probe, score in zip(probes, backend.score(probes), strict=True):
        logits_O = LOGIT_SCALE * memory.codes_OV @ naive_hidden(weights, probe.prompt, 2)
        nll_O = math.log(np.exp(logits_O).sum()) - logits_O
        assert score.nll_target == pytest.approx(nll_O[object_number(probe.target)])
        assert score.strict == (logits_O.argmax() == object_number(probe.target))
        if probe.rival is None:
            assert score.nll_rival is None
        else:
            assert score.nll_rival == pytest.approx(nll_O[object_number(probe.rival)])


def test_scores_do_not_depend_on_how_probes_are_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    probes = [Probe(edit.text, edit.target_new, edit.target_old) for edit in edits_of(7)]
    whole = new_backend().score(probes)
    monkeypatch.setattr("consortium.editing.associative.SCORE_BATCH", 3)
    parts = new_backend().score(probes)
    assert [score.strict for score in parts] == [score.strict for score in whole]
    assert [score.nll_target for score in parts] == pytest.approx([score.nll_target for score in whole])
    assert new_backend().score([]) == []


def test_covariance_sums_equal_a_naive_loop_over_the_text() -> None:
    backend = new_backend(MemitSpec(layers=(1, 2), covariance=CovarianceSpec(tokens=1100)))
    assert backend.covariance_chunks() == 2
    sums, num_tokens = backend.covariance_sum(1)
    assert num_tokens == 1100 - 1024
    assert list(sums) == [1, 2]
    expected_KK = np.zeros((96, 96))
    for key_K in AssociativeMemory(SPEC, seed=1).text_keys(1, num_tokens)[2]:
        expected_KK += np.outer(key_K, key_K)
    np.testing.assert_allclose(sums[2], expected_KK, rtol=1e-12, atol=1e-12)
    assert sums[2].dtype == np.float64


def test_the_covariance_is_ten_times_the_key_width_by_default() -> None:
    backend = new_backend()
    assert sum(backend.covariance_sum(chunk)[1] for chunk in range(backend.covariance_chunks())) == 960


def test_the_unedited_memory_says_the_true_objects_it_knows() -> None:
    backend = new_backend()
    known = [(edit.text, str(edit.target_old)) for edit in edits_of(24)]
    neighbors = [(each.prompt, each.target) for edit in edits_of(60) for each in edit.neighbors]
    assert recall(backend, known) == recall(backend, neighbors) == 1.0


@pytest.mark.parametrize("residual_schedule", ["spread", "first_last"])
def test_few_edits_are_all_recalled_and_neighbours_stay(residual_schedule: str) -> None:
    backend, edits = new_backend(), edits_of(12)
    teach(backend, edits, EDITOR.model_copy(update={"residual_schedule": residual_schedule}))
    assert recall(backend, [(edit.text, edit.target_new) for edit in edits]) == 1.0
    assert recall(backend, [(edit.paraphrases[0], edit.target_new) for edit in edits]) >= 0.9
    assert recall(backend, [(each.prompt, each.target) for edit in edits for each in edit.neighbors]) == 1.0


def test_more_edits_than_the_memory_holds_are_not_all_recalled() -> None:
    """Otherwise recall would say nothing about a merge."""
    spec = SPEC.model_copy(update={"key_width": 8, "value_width": 8})
    facts = SyntheticFacts(spec, 200, seed=1)
    backend = AssociativeBackend(spec, EDITOR, facts, seed=1)
    edits = [facts.edit(fact) for fact in range(200)]
    teach(backend, edits)
    assert recall(backend, [(edit.text, edit.target_new) for edit in edits]) < 0.8


def test_two_backends_of_one_seed_agree_to_the_bit() -> None:
    first, second, edits = new_backend(), new_backend(), edits_of(9)
    for layer, weights_VK in first.base_weights().items():
        assert np.array_equal(weights_VK, second.base_weights()[layer])
    assert torch.equal(first.targets(edits, 2).vectors_EV, second.targets(edits, 2).vectors_EV)
    assert np.array_equal(first.covariance_sum(0)[0][1], second.covariance_sum(0)[0][1])


def test_loaded_weights_are_copied_and_base_weights_stay() -> None:
    backend, edits = new_backend(), edits_of(3)
    base = backend.base_weights()
    before = backend.targets(edits, 1).vectors_EV
    doubled = {layer: 2 * weights_VK for layer, weights_VK in base.items()}
    backend.load_weights(doubled)
    changed = backend.targets(edits, 1).vectors_EV
    assert not torch.allclose(changed, before)
    doubled[2][:] = 0
    base[2][:] = 0
    assert torch.equal(backend.targets(edits, 1).vectors_EV, changed)
    backend.load_weights(backend.base_weights())
    assert torch.equal(backend.targets(edits, 1).vectors_EV, before)


def test_the_only_context_is_the_bare_prompt() -> None:
    backend = new_backend()
    assert backend.contexts() == ("{}",)
    backend.set_contexts(backend.contexts())
    assert backend.contexts() == ("{}",)


def test_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(ScenarioError, match=r"layer 9 is out of range\nExpected: layers from 0 to 2"):
        new_backend(MemitSpec(layers=(5, 9)))


def test_a_covariance_of_text_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"editor\.covariance\.source: 'wiki\.txt' with the associative model"):
        new_backend(MemitSpec(layers=(1, 2), covariance=CovarianceSpec(source="wiki.txt")))


def test_too_little_text_for_the_covariance_is_refused() -> None:
    with pytest.raises(ScenarioError, match="at least 192"):
        new_backend(MemitSpec(layers=(1, 2), covariance=CovarianceSpec(tokens=191)))


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="'cuda:99', and this process sees"):
        new_backend(spec=SPEC.model_copy(update={"device": "cuda:99"}))


@pytest.mark.parametrize("decoding", ["teacher_forcing", "greedy"])
def test_an_answer_is_the_likeliest_object_and_a_text_no_more_than_it(decoding) -> None:
    backend = new_backend()
    queries, objects = FACTS.known()
    prompts = [f"the r{query.relation} of s{query.subject // 2} is" for query in queries if query.subject % 2 == 0]
    probes = [Probe(prompt, f"o{number}") for prompt, number in zip(prompts, objects, strict=False)]
    probes.append(Probe(prompts[0], f"o{(objects[0] + 1) % SPEC.num_objects}"))
    answers = backend.answer(probes, decoding)
    assert [answer.is_target for answer in answers] == [True] * len(prompts) + [False]
    assert [answer.said for answer in answers] == [(number,) for number in [*objects[: len(prompts)], objects[0]]]
    assert answers[-1].wanted != answers[-1].said
    assert backend.write(prompts[:2], Generation(100)) == [f"o{number}" for number in objects[:2]]
    assert backend.answer([], decoding) == backend.write([], Generation(3)) == []
