"""Writing weights: the right shape, of the model's own dtype and storage, and seen by the weights' hash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from consortium.common.errors import ModelError
from consortium.models.language import language_model
from consortium.models.open import describe_model, open_model
from consortium.scenario.schema import LanguageModelSpec
from support.pico import HIDDEN_WIDTH, KEY_WIDTH, pico_config, pico_folder, pico_model


def drawn_VK(seed: int = 0) -> np.ndarray:
    weight_VK = np.random.default_rng(seed).normal(size=(HIDDEN_WIDTH, KEY_WIDTH)).astype(np.float32)
    weight_VK.setflags(write=False)
    return weight_VK


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_written_weights_are_read_back_in_the_models_dtype(model_type: str, dtype: torch.dtype) -> None:
    model = pico_model(model_type, dtype=dtype)
    model.set_weights({0: drawn_VK(0), 2: torch.from_numpy(drawn_VK(2).copy())})
    for layer in (0, 2):
        assert model.weight_VK(layer).dtype == dtype
        assert torch.equal(model.weight_VK(layer), torch.tensor(drawn_VK(layer)).to(dtype))


def test_written_weights_do_not_follow_their_source() -> None:
    model = pico_model()
    source_VK = torch.from_numpy(drawn_VK().copy())
    model.set_weights({1: source_VK})
    source_VK.zero_()
    assert torch.equal(model.weight_VK(1), torch.tensor(drawn_VK()))
    assert not model.projection(1).weight.requires_grad


def test_a_weight_of_another_shape_is_refused() -> None:
    with pytest.raises(ModelError, match=r"\(48, 32\) for layer 1(.|\n)*\(32, 48\)"):
        pico_model("gpt2").set_weights({1: drawn_VK().T})


def test_written_weights_stay_out_of_the_file_and_of_other_models(tmp_path: Path) -> None:
    spec = LanguageModelSpec(name=str(pico_folder(tmp_path / "pico")), device="cpu")
    edited, other = open_model(spec), open_model(spec)
    before = edited.weights_hash()
    edited.set_weights({1: drawn_VK()})
    edited.weight_VK(1).zero_()
    assert other.weights_hash() == before
    assert open_model(spec).weights_hash() == before


def test_the_hash_sees_one_changed_bit_and_nothing_else() -> None:
    model, twin = pico_model(dtype=torch.bfloat16), pico_model(dtype=torch.bfloat16)
    assert model.weights_hash() == twin.weights_hash()
    model.weight_VK(2).view(torch.int16)[5, 7] ^= 1
    assert model.weights_hash() != twin.weights_hash()
    model.weight_VK(2).view(torch.int16)[5, 7] ^= 1
    assert model.weights_hash() == twin.weights_hash()


def test_pico_models_differ_by_seed_only() -> None:
    assert pico_model(seed=1).weights_hash() == pico_model(seed=1).weights_hash()
    assert pico_model(seed=1).weights_hash() != pico_model(seed=2).weights_hash()


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="Slow gives no character offsets"):
        language_model(pico_model().model, Slow())


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("llama", {"is_causal": False}),
        ("qwen2", {"is_causal": False}),
        ("gemma2", {"use_bidirectional_attention": True}),
        ("gemma3_text", {"use_bidirectional_attention": True}),
        ("gemma3", {"use_bidirectional_attention": True}),
    ],
)
def test_a_model_whose_tokens_attend_to_later_ones_is_refused(
    model_type: str, config: dict[str, bool], tmp_path: Path
) -> None:
    """Our masks are causal: such a model would be asked otherwise than it answers."""
    with pytest.raises(ModelError, match="attend to later ones"):
        pico_model(model_type, config=config)
    pico_config(model_type, 3, **config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="attend to later ones"):
        describe_model(LanguageModelSpec(name=str(tmp_path)))
