"""Keys and residuals against runs of the whole model by hand, and what an update made of them does.

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

import pytest
import torch
from consortium.data.edit import Edit
from consortium.editing.backend import Targets
from consortium.editing.keys import hidden_states, keys_and_residuals, mean_keys, residuals
from consortium.models import prefix_tree
from consortium.models.language import LanguageModel
from consortium.models.output_norm import change_before_norm
from consortium.models.tokens import subject_last_token
from support.pico import HIDDEN_WIDTH, KEY_WIDTH, PICO_TYPES, pico_model

from benchmarks.naive.keys import naive_keys, naive_residuals

EDITS = (
    Edit("start", "r", "Paris", "{} is the capital of", "Peru"),
    Edit("middle", "r", "Eiffel Tower", "The oldest tower, the {}, stands in the city of", "Rome"),
    Edit("end", "r", "Zoë Ōé", "The mother tongue of {}", "French"),
)
CONTEXTS = ("{}", "The river runs through the city. {}", "I was born in London. {}")
NORMED = ("gemma2", "gemma3", "gemma3_text")


def seen_by_hand(model: LanguageModel, edit: Edit, layer: int, context: str = "{}") -> dict[str, torch.Tensor]:
    """Key [K], output [V] of the projection and hidden state [V] at the subject's last token of an unpadded prompt."""
    ids, subject = subject_last_token(model.tokenizer, edit.prompt, edit.subject, context)
    seen: dict[str, torch.Tensor] = {}

    def at_projection(_module: object, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        seen["key"], seen["output"] = args[0][0, subject], output[0, subject]

    def at_block(_module: object, _args: object, output: object) -> None:
        seen["hidden"] = (output[0] if isinstance(output, tuple) else output)[0, subject]

    handles = [
        model.projection(layer).register_forward_hook(at_projection),
        model.blocks[layer].register_forward_hook(at_block),
    ]
    with torch.no_grad():
        model.model(input_ids=torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return {name: tensor.double() for name, tensor in seen.items()}


def drawn_targets(layer: int, count: int = len(EDITS)) -> Targets:
    vectors_EV = torch.randn(count, HIDDEN_WIDTH, generator=torch.Generator().manual_seed(5))
    return Targets(layer, vectors_EV, (0,) * count, (0.0,) * count, (0.0,) * count)


@pytest.mark.parametrize("model_type", PICO_TYPES)
def test_keys_are_the_projections_inputs_weighed_over_contexts(model_type: str) -> None:
    """k = ½ k(bare) + ¼ k(first context) + ¼ k(second)."""
    model = pico_model(model_type)
    keys = mean_keys(model, EDITS, CONTEXTS, [0, 2])
    assert list(keys) == [0, 2]
    for layer, keys_KE in keys.items():
        assert (keys_KE.shape, keys_KE.dtype) == ((KEY_WIDTH, len(EDITS)), torch.float64)
        for place, edit in enumerate(EDITS):
            bare, first, second = (seen_by_hand(model, edit, layer, context)["key"] for context in CONTEXTS)
            torch.testing.assert_close(keys_KE[:, place], bare / 2 + (first + second) / 4, atol=3e-6, rtol=1e-5)


def test_one_context_gives_the_bare_prompts_key() -> None:
    model = pico_model("llama")
    keys_KE = mean_keys(model, EDITS[:1], ("{}",), [1])[1]
    torch.testing.assert_close(keys_KE[:, 0], seen_by_hand(model, EDITS[0], 1)["key"], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("model_type", [name for name in PICO_TYPES if name not in NORMED])
def test_residuals_are_what_the_hidden_state_lacks(model_type: str, layer: int) -> None:
    """r = z - h after the targets' layer, whichever layer is asked for."""
    model, targets = pico_model(model_type), drawn_targets(2)
    found_VE = residuals(model, EDITS, targets, layer)
    assert (found_VE.shape, found_VE.dtype) == ((HIDDEN_WIDTH, len(EDITS)), torch.float64)
    for place, edit in enumerate(EDITS):
        expected_V = targets.vectors_EV[place].double() - seen_by_hand(model, edit, 2)["hidden"]
        torch.testing.assert_close(found_VE[:, place], expected_V, atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("model_type", NORMED)
def test_where_outputs_are_normed_residuals_are_taken_back_through_the_norm(model_type: str, layer: int) -> None:
    """What is missing after the targets' layer becomes a change of the output before its own layer's norm."""
    model, targets = pico_model(model_type), drawn_targets(2)
    gain_V = 1 + model.blocks[layer].post_feedforward_layernorm.weight.double()
    found_VE = residuals(model, EDITS, targets, layer)
    for place, edit in enumerate(EDITS):
        output_V = seen_by_hand(model, edit, layer)["output"]
        missing_V = targets.vectors_EV[place].double() - seen_by_hand(model, edit, 2)["hidden"]
        expected_EV = change_before_norm(output_V[None], missing_V[None], gain_V, 1e-6)
        torch.testing.assert_close(found_VE[:, place], expected_EV[0], atol=5e-6, rtol=1e-4)


@pytest.mark.parametrize("model_type", [name for name in PICO_TYPES if name not in NORMED])
@pytest.mark.parametrize("layer", [0, 2])
def test_an_update_made_of_key_and_residual_reaches_the_target(model_type: str, layer: int) -> None:
    """W + r kᵀ / (kᵀk) maps k to W k + r, so the hidden state h + r after the layer is z; nothing is left over."""
    model, edits, targets = pico_model(model_type), EDITS[1:2], drawn_targets(layer, 1)
    key_K = mean_keys(model, edits, ("{}",), [layer])[layer][:, 0]
    residual_V = residuals(model, edits, targets, layer)[:, 0]
    update_VK = torch.outer(residual_V, key_K) / (key_K @ key_K)
    model.set_weights({layer: (model.weight_VK(layer).double() + update_VK).float()})
    reached_V = seen_by_hand(model, edits[0], layer)["hidden"]
    torch.testing.assert_close(reached_V, targets.vectors_EV[0].double(), atol=2e-5, rtol=1e-5)
    assert residuals(model, edits, targets, layer).norm() < 1e-4 * residual_V.norm()


@pytest.mark.parametrize("model_type", NORMED)
def test_where_outputs_are_normed_a_small_residual_is_reached_in_direction(model_type: str) -> None:
    """The norm keeps the output's length, so what is across the output arrives: most of a drawn change."""
    model, edits, layer = pico_model(model_type), EDITS[1:2], 1
    hidden_V = seen_by_hand(model, edits[0], layer)["hidden"]
    wanted_V = 0.01 * drawn_targets(layer).vectors_EV[0].double()
    targets = Targets(layer, (hidden_V + wanted_V).float()[None], (0,), (0.0,), (0.0,))
    key_K = mean_keys(model, edits, ("{}",), [layer])[layer][:, 0]
    update_VK = torch.outer(residuals(model, edits, targets, layer)[:, 0], key_K) / (key_K @ key_K)
    model.set_weights({layer: (model.weight_VK(layer).double() + update_VK).float()})
    moved_V = seen_by_hand(model, edits[0], layer)["hidden"] - hidden_V
    assert torch.cosine_similarity(moved_V, wanted_V, dim=0) > 0.9
    assert 0.8 < moved_V.norm() / wanted_V.norm() < 1.2


@pytest.mark.parametrize("model_type", PICO_TYPES)
def test_the_naive_twins_find_the_same(model_type: str) -> None:
    model, targets = pico_model(model_type), drawn_targets(2)
    ours, naive = mean_keys(model, EDITS, CONTEXTS, [1, 0]), naive_keys(model, EDITS, CONTEXTS, [1, 0])
    assert list(ours) == list(naive) == [1, 0]
    for layer in (0, 1):
        torch.testing.assert_close(ours[layer], naive[layer], atol=3e-6, rtol=1e-5)
        expected_VE = naive_residuals(model, EDITS, targets, layer)
        torch.testing.assert_close(residuals(model, EDITS, targets, layer), expected_VE, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model_type", PICO_TYPES)
def test_keys_and_residuals_of_one_pass_are_those_asked_for_by_themselves(model_type: str) -> None:
    model, targets = pico_model(model_type), drawn_targets(2)
    states = hidden_states(model, EDITS, CONTEXTS, 1)
    keys_KE, residuals_VE = keys_and_residuals(model, states, targets)
    torch.testing.assert_close(keys_KE, mean_keys(model, EDITS, CONTEXTS, [1])[1], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(residuals_VE, residuals(model, EDITS, targets, 1), atol=5e-6, rtol=1e-4)


@pytest.mark.parametrize("model_type", PICO_TYPES)
@pytest.mark.parametrize("start", [0, 1])
def test_what_is_carried_on_gives_the_bits_of_a_run_from_the_bottom(model_type: str, start: int) -> None:
    """Under weights that changed above what was carried, as a merge changes them."""
    model, targets = pico_model(model_type), drawn_targets(2)
    lower = hidden_states(model, EDITS, CONTEXTS, start)
    unmerged = keys_and_residuals(model, hidden_states(model, EDITS, CONTEXTS, 2, lower), targets)
    model.set_weights({start: 1.5 * model.weight_VK(start)})
    carried, anew = hidden_states(model, EDITS, CONTEXTS, 2, lower), hidden_states(model, EDITS, CONTEXTS, 2)
    assert (carried.layer, carried.nbytes) == (2, anew.nbytes)
    found = keys_and_residuals(model, carried, targets)
    for mine, expected, before in zip(found, keys_and_residuals(model, anew, targets), unmerged, strict=True):
        assert torch.equal(mine, expected)
        assert not torch.allclose(mine, before)


def test_below_the_carried_layer_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Going on from layer 1 to layer 2 runs block 1 only; keys there and residuals after it run block 2 only."""
    model, ran = pico_model("llama"), list[int]()
    lower = hidden_states(model, EDITS, CONTEXTS, 1)
    for number, block in enumerate(model.blocks):
        block.register_forward_hook(lambda _m, _a, _o, number=number: ran.append(number))
    states = hidden_states(model, EDITS, CONTEXTS, 2, lower)
    assert set(ran) == {1}
    ran.clear()
    keys_and_residuals(model, states, drawn_targets(2))
    assert ran == [2, 2]  # the bare prompts, and those in a context


def test_states_know_their_size() -> None:
    """Bare prompts, and two contexts of which each is there once in its row: width V in float32."""
    model = pico_model("llama")
    assert hidden_states(model, EDITS, CONTEXTS, 0).nbytes == 0
    states = hidden_states(model, EDITS, CONTEXTS, 1)
    columns = sum(batch.prompts.num_rows * batch.prompts.width for batch in (*states.bare, *states.others))
    assert states.nbytes == 4 * HIDDEN_WIDTH * columns


def test_batches_change_neither_keys_nor_residuals(monkeypatch: pytest.MonkeyPatch) -> None:
    model, targets = pico_model("gemma2"), drawn_targets(2)
    keys_KE, residuals_VE = mean_keys(model, EDITS, CONTEXTS, [1])[1], residuals(model, EDITS, targets, 1)
    monkeypatch.setitem(prefix_tree.TOKENS_AT_ONCE, "cpu", 1)
    monkeypatch.setattr(prefix_tree, "ROW_TOKENS", 20)
    assert len(hidden_states(model, EDITS, CONTEXTS, 1).others) > 2
    torch.testing.assert_close(mean_keys(model, EDITS, CONTEXTS, [1])[1], keys_KE, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(residuals(model, EDITS, targets, 1), residuals_VE, atol=2e-6, rtol=1e-5)


def test_keys_and_residuals_leave_the_model_as_it_is() -> None:
    model = pico_model("gemma3")
    before = model.weights_hash()
    mean_keys(model, EDITS, CONTEXTS, [0, 1])
    residuals(model, EDITS, drawn_targets(1), 1)
    assert model.weights_hash() == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.model.modules())


def test_no_edits_have_no_keys() -> None:
    model = pico_model("llama")
    assert mean_keys(model, [], CONTEXTS, [1])[1].shape == (KEY_WIDTH, 0)
    assert residuals(model, [], drawn_targets(1, 0), 1).shape == (HIDDEN_WIDTH, 0)
