"""GGUF files: what is unpacked is what was in them, once, completely, and by one process."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch
from consortium.common.errors import ModelError
from consortium.models import gguf
from consortium.models.description import ModelDescription
from consortium.models.gguf import convert, gguf_folder
from consortium.models.open import describe_model, open_model
from consortium.scenario.schema import LanguageModelSpec
from support.gguf_file import write_pico_gguf
from support.pico import HIDDEN_WIDTH, KEY_WIDTH, pico_model


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_pico_gguf(tmp_path / "pico.gguf")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CONSORTIUM_CACHE", str(folder))
    return folder


def spec(source: Path, dtype: str = "float32") -> LanguageModelSpec:
    return LanguageModelSpec(name=str(source), device="cpu", dtype=dtype)


def test_a_file_is_opened_as_the_model_that_was_written(source: Path, cache: Path) -> None:
    model = open_model(spec(source))
    pico = pico_model("qwen2")
    assert model.weights_hash() == pico.weights_hash()
    text = "In Zoë's city the tower is"
    assert model.tokenizer(text)["input_ids"] == pico.tokenizer(text)["input_ids"]
    ids = torch.tensor([pico.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(model.model(ids).logits, pico.model(ids).logits, rtol=0, atol=0)


def test_a_file_is_described_as_its_model(source: Path, cache: Path) -> None:
    assert describe_model(spec(source)) == ModelDescription("qwen2", 3, KEY_WIDTH, HIDDEN_WIDTH, HIDDEN_WIDTH)


def test_the_dtype_is_the_scenarios_and_each_has_a_folder(source: Path, cache: Path) -> None:
    assert (
        open_model(spec(source, "bfloat16")).weights_hash() == pico_model("qwen2", dtype=torch.bfloat16).weights_hash()
    )
    assert open_model(spec(source)).dtype == torch.float32
    folders = [entry.name for entry in cache.iterdir() if entry.is_dir()]
    assert sorted(name.split("-")[1] for name in folders) == ["bfloat16", "float32"]


def test_a_damaged_folder_is_unpacked_again(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = gguf_folder(source, "float32", tmp_path / "cache")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert gguf_folder(source, "float32", tmp_path / "cache") == folder
    assert "is damaged; the model is unpacked again" in caplog.text
    assert (folder / "model.safetensors").read_bytes() == weights


def test_a_file_of_another_content_has_another_folder(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf, "convert", lambda source, dtype, folder, check: folder.mkdir())
    first = gguf_folder(source, "float32", tmp_path / "cache")
    source.write_bytes(source.read_bytes() + b"\0")
    assert gguf_folder(source, "float32", tmp_path / "cache") != first


@pytest.mark.parametrize("content", [b"", b"GGUF", b"\x00" * 5000])
def test_a_damaged_file_is_refused(tmp_path: Path, cache: Path, content: bytes) -> None:
    (tmp_path / "broken.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=r"(?s)broken\.gguf cannot be unpacked.*download the file again"):
        describe_model(spec(tmp_path / "broken.gguf"))
    assert not [entry for entry in cache.iterdir() if entry.is_dir()]


def test_a_file_that_was_cut_off_is_refused(source: Path, cache: Path) -> None:
    content = source.read_bytes()
    for length in (len(content) // 10, len(content) // 2, len(content) - 100):
        source.write_bytes(content[:length])
        with pytest.raises(ModelError, match="cannot be unpacked"):
            open_model(spec(source))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    with pytest.raises(ModelError, match=r"as a file it is not GGUF"):
        describe_model(spec(tmp_path / "model.bin"))


def test_one_of_several_processes_unpacks_and_the_others_wait(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four threads ask at once (each with a lock of its own, as processes have): one conversion, one folder."""
    conversions: list[Path] = []

    def slow(source: Path, dtype: torch.dtype, folder: Path, check: object) -> None:
        conversions.append(folder)
        time.sleep(0.2)
        folder.mkdir()

    monkeypatch.setattr(gguf, "convert", slow)
    folders: list[Path] = []
    ask = lambda: folders.append(gguf_folder(source, "float32", tmp_path / "cache"))  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1
    assert folders == conversions * 4


def test_whoever_comes_second_uses_the_first_ones_folder(source: Path, tmp_path: Path) -> None:
    """Where locks do not hold, two processes unpack; the later rename finds a folder and leaves it alone."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "first").write_text("")
    convert(source, torch.float32, folder, None)
    assert [entry.name for entry in folder.iterdir()] == ["first"]


def test_a_refused_model_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def refuse(model: object, tokenizer: object) -> None:
        raise ModelError("the unpacked model is wrong")

    cache = tmp_path / "cache"
    with pytest.raises(ModelError, match="the unpacked model is wrong"):
        gguf_folder(source, "float32", cache, check=refuse)
    assert not [entry for entry in cache.iterdir() if entry.is_dir()]


def test_a_cache_that_cannot_be_written_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"(?s)cannot be unpacked into.*CONSORTIUM_CACHE"):
        gguf_folder(source, "float32", tmp_path / "file" / "cache")
