"""Every architecture of the table, on a pico model: parts are found and a written update acts as computed by hand.

Shapes: K key width, V value width, T tokens.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from consortium.common.errors import ModelError
from consortium.models.language import LanguageModel
from consortium.models.layouts import LAYOUTS, layout_of
from support.pico import HIDDEN_WIDTH, KEY_WIDTH, PICO_TYPES, pico_model

LAYER = 1


@pytest.fixture(params=PICO_TYPES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return pico_model(request.param)


def trace(model: LanguageModel, text: str = "The capital of Peru is") -> dict[str, torch.Tensor]:
    """Run a text and note, at LAYER: keys [T, K], outputs [T, V] of the projection, hidden [T, V] after the block."""
    seen: dict[str, torch.Tensor] = {}

    def note_projection(module: torch.nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        seen["keys_TK"], seen["outputs_TV"] = args[0][0], output[0]

    def note_block(module: torch.nn.Module, args: tuple[torch.Tensor], output: object) -> None:
        assert isinstance(output, tuple) == model.layout.returns_tuple
        seen["hidden_TV"] = (output[0] if isinstance(output, tuple) else output)[0]

    hooks = [
        model.projection(LAYER).register_forward_hook(note_projection),
        model.blocks[LAYER].register_forward_hook(note_block),
    ]
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    with torch.inference_mode():
        seen["final_TV"] = model.base(input_ids=ids).last_hidden_state[0]
        seen["logits_TN"] = model.model(input_ids=ids).logits[0]
    for hook in hooks:
        hook.remove()
    return seen


def test_every_layout_has_a_pico_model() -> None:
    assert set(PICO_TYPES) == set(LAYOUTS)


def test_parts_are_found(model: LanguageModel) -> None:
    assert model.num_layers == 3
    assert model.hidden_width == HIDDEN_WIDTH
    assert (model.value_width(LAYER), model.key_width(LAYER)) == (HIDDEN_WIDTH, KEY_WIDTH)
    assert tuple(model.weight_VK(LAYER).shape) == (HIDDEN_WIDTH, KEY_WIDTH)
    assert not model.model.training
    assert not any(parameter.requires_grad for parameter in model.model.parameters())


def test_head_follows_the_base(model: LanguageModel) -> None:
    """The head on the base's hidden states gives the logits of the whole model, softcapping and all."""
    seen = trace(model)
    torch.testing.assert_close(model.logits(seen["final_TV"]), seen["logits_TN"], rtol=1e-5, atol=1e-5)


def test_the_final_norm_makes_the_bases_output(model: LanguageModel) -> None:
    inputs: list[torch.Tensor] = []
    hook = model.norm.register_forward_hook(lambda module, args, output: inputs.append(output))
    seen = trace(model)
    hook.remove()
    torch.testing.assert_close(inputs[0][0], seen["final_TV"], rtol=0, atol=0)


def test_projection_is_the_weight_times_the_key(model: LanguageModel) -> None:
    seen = trace(model)
    bias = getattr(model.projection(LAYER), "bias", None)
    by_hand_TV = seen["keys_TK"] @ model.weight_VK(LAYER).T + (0 if bias is None else bias)
    torch.testing.assert_close(by_hand_TV, seen["outputs_TV"], rtol=1e-5, atol=1e-6)


def test_a_written_update_changes_the_block_as_by_hand(model: LanguageModel) -> None:
    """W + Δ moves the block's output at each token by Δ·k; through a norm, by norm(x + Δ·k) - norm(x)."""
    before = trace(model)
    rng = np.random.default_rng(0)
    delta_VK = rng.normal(size=(HIDDEN_WIDTH, KEY_WIDTH)).astype(np.float32) * 0.1
    model.set_weights({LAYER: model.weight_VK(LAYER).numpy() + delta_VK})
    after = trace(model)

    pushed_TV = before["keys_TK"] @ torch.from_numpy(delta_VK).T
    if model.layout.output_norm is not None:
        norm = model.blocks[LAYER].get_submodule(model.layout.output_norm)
        pushed_TV = norm(before["outputs_TV"] + pushed_TV) - norm(before["outputs_TV"])
    torch.testing.assert_close(after["hidden_TV"] - before["hidden_TV"], pushed_TV, rtol=1e-4, atol=1e-5)
    assert (after["logits_TN"] - before["logits_TN"]).abs().max() > 1e-3


def test_a_change_of_what_the_block_adds_is_taken_back_to_the_projection(model: LanguageModel) -> None:
    """A change that a norm can give, or any where there is none, arrives in full."""
    outputs_EV = trace(model)["outputs_TV"].clone()

    def added(outputs_EV: torch.Tensor) -> torch.Tensor:
        if model.layout.output_norm is None:
            return outputs_EV
        found: torch.Tensor = model.blocks[LAYER].get_submodule(model.layout.output_norm)(outputs_EV)
        return found

    wanted_EV = (added(outputs_EV.flip(0)) - added(outputs_EV)).double()
    change_EV = model.output_change(LAYER, outputs_EV, wanted_EV)
    reached_EV = added((outputs_EV.double() + change_EV).float())
    torch.testing.assert_close(reached_EV, added(outputs_EV.flip(0)), rtol=1e-4, atol=1e-4)


def test_an_unknown_architecture_is_refused_with_the_list() -> None:
    with pytest.raises(ModelError, match=r"'bert'(.|\n)*gemma2(.|\n)*gpt2(.|\n)*qwen3"):
        layout_of("bert")
