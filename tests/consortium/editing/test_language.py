"""The backend of language models: copies of weights, and questions that never change the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from consortium.common.errors import ModelError, ScenarioError
from consortium.data.edit import Edit
from consortium.editing.key_covariance import CovarianceCache
from consortium.editing.language import LanguageBackend
from consortium.models.language import LanguageModel
from consortium.models.queries import Probe
from consortium.scenario.editor import ContextsSpec, CovarianceSpec, EditorSpec, MemitSpec, TargetSpec
from support.pico import KEY_WIDTH, pico_model

EDITOR = MemitSpec(
    layers=(0, 2), residual_schedule="spread", contexts=ContextsSpec(count=3, tokens=5), target=TargetSpec(steps=3)
)
EDITS = [
    Edit("one", "r", "Eiffel Tower", "The {} is in the city of", "Rome", "Paris"),
    Edit("two", "r", "Peru", "The capital of {} is", "Tokyo", "Lima"),
]
PROBES = [Probe(edit.text, edit.target_new, edit.target_old) for edit in EDITS]


def new_backend(model: LanguageModel | None = None, editor: EditorSpec = EDITOR, seed: int = 1) -> LanguageBackend:
    backend = LanguageBackend(model or pico_model("gpt2"), editor, seed)
    backend.set_contexts(("{}", "I was born in London. {}"))
    return backend


def doubled(backend: LanguageBackend) -> dict[int, np.ndarray]:
    return {layer: 2 * weight_VK for layer, weight_VK in backend.base_weights().items()}


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_base_weights_are_copies_of_the_edited_layers_as_value_by_key(model_type: str) -> None:
    model = pico_model(model_type)
    backend = new_backend(model, EDITOR.model_copy(update={"residual_schedule": "first_last"}))
    base = backend.base_weights()
    assert list(base) == [0, 2]
    for layer, weight_VK in base.items():
        assert (weight_VK.shape, weight_VK.dtype) == ((32, 48), np.float32)
        np.testing.assert_array_equal(weight_VK, model.weight_VK(layer).numpy())
    before = model.weights_hash()
    base[0][:] = 0
    assert backend.base_weights()[0].any()
    assert model.weights_hash() == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_base_weights_loaded_again_give_the_original_model(dtype: torch.dtype) -> None:
    model = pico_model("gpt2", dtype=dtype)
    backend, before = new_backend(model), model.weights_hash()
    base = backend.base_weights()
    backend.load_weights(doubled(backend))
    assert model.weights_hash() != before
    np.testing.assert_array_equal(backend.base_weights()[1], base[1], "base weights are the unedited ones, always")
    backend.load_weights(base)
    assert model.weights_hash() == before


def test_loaded_weights_are_of_these_layers_only_and_do_not_follow_their_source() -> None:
    model = pico_model("llama")
    backend = new_backend(model)
    new = doubled(backend)
    others = {name: tensor.clone() for name, tensor in model.model.named_parameters() if "down_proj" not in name}
    backend.load_weights({1: new[1]})
    kept = new[1].copy()
    new[1][:] = 0
    np.testing.assert_array_equal(model.weight_VK(1).numpy(), kept)
    np.testing.assert_array_equal(model.weight_VK(0).numpy(), backend.base_weights()[0])
    for name, tensor in model.model.named_parameters():
        assert "down_proj" in name or torch.equal(tensor, others[name])


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ModelError, match=r"shape \(48, 32\) for layer 0"):
        new_backend().load_weights({0: np.zeros((48, 32), np.float32)})


def test_no_question_changes_the_model() -> None:
    """Under edited weights, so that falling back to the unedited ones would be seen."""
    backend = new_backend()
    backend.load_weights(doubled(backend))
    before = backend.model.weights_hash()
    targets = backend.targets(EDITS, 2)
    backend.keys_and_residuals(backend.states(EDITS, 1, None), targets)
    backend.score(PROBES)
    backend.covariance_chunks()
    assert backend.model.weights_hash() == before


def test_questions_are_asked_under_the_present_weights() -> None:
    backend = new_backend()

    def answers() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
        targets = backend.targets(EDITS, 1)
        keys_KE, residuals_VE = backend.keys_and_residuals(backend.states(EDITS, 1, None), targets)
        return targets.vectors_EV, keys_KE, residuals_VE, backend.score(PROBES)[0].nll_target

    first = answers()
    backend.load_weights(doubled(backend))
    second = answers()
    backend.load_weights(backend.base_weights())
    third = answers()
    for one, two, three in zip(first, second, third, strict=True):
        if isinstance(one, torch.Tensor):
            assert not torch.allclose(one, two)
            assert torch.equal(one, three)
        else:
            assert one != two
            assert one == three


def test_contexts_and_covariance_are_of_the_unedited_model_whatever_is_loaded() -> None:
    backend = new_backend()
    contexts, (sums, count), fingerprint = (
        backend.contexts(),
        backend.covariance_sum(0),
        backend.covariance_fingerprint(),
    )
    assert len(contexts) == 3
    assert count == 512
    for question in ("contexts", "covariance_sum", "covariance_fingerprint"):
        backend.load_weights(doubled(backend))
        if question == "contexts":
            assert backend.contexts() == contexts
        elif question == "covariance_sum":
            np.testing.assert_array_equal(backend.covariance_sum(0)[0][2], sums[2])
        else:
            assert backend.covariance_fingerprint() == fingerprint


def test_the_covariance_is_the_same_whatever_the_runs_seed_and_contexts_are_not() -> None:
    first, second = new_backend(seed=1), new_backend(seed=2)
    assert first.covariance_fingerprint() == second.covariance_fingerprint()
    np.testing.assert_array_equal(first.covariance_sum(0)[0][0], second.covariance_sum(0)[0][0])
    assert first.contexts() == new_backend(seed=1).contexts() != second.contexts()


def test_the_default_number_of_tokens_is_part_of_the_covariances_key() -> None:
    """Named or not, it is the same key covariance; and editors of other layers share it where they are as wide."""

    def folder(editor: EditorSpec) -> object:
        return CovarianceCache(new_backend(editor=editor).covariance_fingerprint()).folder

    default = folder(EDITOR)
    named = EDITOR.model_copy(update={"covariance": CovarianceSpec(tokens=10 * KEY_WIDTH)})
    fewer = EDITOR.model_copy(update={"covariance": CovarianceSpec(tokens=2 * KEY_WIDTH)})
    assert folder(named) == default
    assert folder(EDITOR.model_copy(update={"layers": (1, 2)})) == default
    assert folder(fewer) != default


def test_too_little_text_for_the_covariance_is_refused_before_any_is_sampled() -> None:
    backend = new_backend(editor=EDITOR.model_copy(update={"covariance": CovarianceSpec(tokens=95)}))
    for question in (backend.covariance_chunks, backend.covariance_fingerprint):
        with pytest.raises(ScenarioError, match="at least 96"):
            question()


@pytest.mark.slow
def test_one_edit_taught_by_hand_is_said_by_the_real_model(smollm2: LanguageModel) -> None:
    """W + r kᵀ / (kᵀk) at one layer, with the bare prompt's key alone: a target that is reached is said."""
    editor = MemitSpec(layers=(8,), contexts=ContextsSpec(count=1), target=TargetSpec(steps=12))
    backend, layer, edits = LanguageBackend(smollm2, editor, seed=0), 8, EDITS[:1]
    backend.set_contexts(("{}",))
    before = smollm2.weights_hash()
    try:
        targets = backend.targets(edits, layer)
        keys_KE, residuals_VE = backend.keys_and_residuals(backend.states(edits, layer, None), targets)
        update_VK = residuals_VE @ keys_KE.T / (keys_KE.T @ keys_KE)
        unedited = backend.score(PROBES[:1])[0]
        backend.load_weights({layer: (backend.base_weights()[layer] + update_VK.numpy()).astype(np.float32)})
        edited = backend.score(PROBES[:1])[0]
    finally:
        backend.load_weights(backend.base_weights())
    assert not unedited.success
    assert edited.success
    assert edited.strict
    assert smollm2.weights_hash() == before
