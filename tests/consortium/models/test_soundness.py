"""A model whose numbers are not finite is refused when it is opened, before anything is measured."""

import math

import pytest
import torch
from consortium.common.errors import ModelError
from consortium.models.open import open_model
from consortium.models.soundness import check_soundness, is_finite_model
from consortium.scenario.schema import LanguageModelSpec
from support.not_finite import with_bad_token
from support.pico import pico_folder, pico_model


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_is_named(tmp_path, value):
    wrapped = pico_model("llama")
    wrapped.model.model.layers[2].mlp.down_proj.weight.data[0, 0] = value
    wrapped.model.save_pretrained(tmp_path)
    wrapped.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError) as caught:
        open_model(LanguageModelSpec(name=str(tmp_path), device="cpu"))
    assert caught.value.found == (
        f"the weights of {str(tmp_path)!r} are not finite (model.layers.2.mlp.down_proj.weight)"
    )
    assert caught.value.exit_code == 2


def test_a_weight_beyond_float16_is_told_from_a_damaged_one(tmp_path):
    wrapped = pico_model("llama")
    wrapped.model.model.norm.weight.data[3] = 1e6
    wrapped.model.save_pretrained(tmp_path)
    wrapped.tokenizer.save_pretrained(tmp_path)
    assert open_model(LanguageModelSpec(name=str(tmp_path), device="cpu"))
    with pytest.raises(ModelError, match=r"not finite in float16 \(model.norm.weight\)") as caught:
        open_model(LanguageModelSpec(name=str(tmp_path), device="cpu", dtype="float16"))
    assert "bfloat16" in caught.value.remedy


def test_a_model_that_overflows_in_float16_is_refused_and_told_what_to_use(tmp_path):
    """Every weight fits into float16, and what they make of each other does not."""
    wrapped = pico_model("llama")
    for block in wrapped.model.model.layers:
        block.mlp.up_proj.weight.data *= 3000
        block.mlp.down_proj.weight.data *= 3000
    wrapped.model.save_pretrained(tmp_path)
    wrapped.tokenizer.save_pretrained(tmp_path)
    assert open_model(LanguageModelSpec(name=str(tmp_path), device="cpu"))
    with pytest.raises(ModelError, match="not finite in float16") as caught:
        open_model(LanguageModelSpec(name=str(tmp_path), device="cpu", dtype="float16"))
    assert caught.value.remedy.startswith("use bfloat16 or float32")
    assert caught.value.exit_code == 2


def test_a_token_without_an_embedding_refuses_no_model():
    check_soundness(with_bad_token(pico_model("llama")), "model")


def test_one_bad_number_in_an_embedding_does():
    wrapped = pico_model("llama")
    wrapped.model.get_input_embeddings().weight.data[7, 3] = math.nan
    with pytest.raises(ModelError, match=r"not finite \(model.embed_tokens.weight\)"):
        check_soundness(wrapped, "model")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_sound_model_is_opened_in_every_type(tmp_path, dtype):
    folder = pico_folder(tmp_path / "pico", "qwen2")
    assert open_model(LanguageModelSpec(name=str(folder), device="cpu", dtype=dtype))


def test_one_number_in_many_is_found():
    tensor = torch.zeros(999)
    assert is_finite_model(tensor)
    for value in (math.nan, math.inf, -math.inf):
        tensor[500] = value
        assert not is_finite_model(tensor)
