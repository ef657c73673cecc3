"""The key covariance: sums over ordinary text against a naive loop, refusals, and a cache that is hit only when it may
be.

Shapes: K key width, T tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from consortium.common.errors import InputError, ScenarioError
from consortium.common.seeds import torch_generator
from consortium.editing import covariance_text, key_covariance
from consortium.editing.key_covariance import (
    CovarianceCache,
    covariance_tokens,
    fingerprint,
    measure_chunk,
    num_chunks,
    sum_over_texts,
)
from consortium.models.language import LanguageModel
from consortium.models.open import open_model
from consortium.scenario.editor import CovarianceSpec
from consortium.scenario.schema import LanguageModelSpec
from support.pico import KEY_WIDTH, SENTENCES, VOCABULARY, pico_folder, pico_model

from benchmarks.naive.key_covariance import covariance_sum_naively

LAYERS = (0, 2)
SPEC = CovarianceSpec()


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return pico_model("llama")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_covariance, "CHUNK_TEXTS", 3)


def relative_difference(found_KK: np.ndarray, expected_KK: np.ndarray) -> float:
    return float(np.abs(found_KK - expected_KK).max() / np.abs(expected_KK).max())


def drawn_texts(num_texts: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, (num_texts, 64), generator=torch_generator(0, "texts"))


def write_text(path: Path, repeats: int = 40) -> CovarianceSpec:
    path.write_text("\n".join(SENTENCES * repeats), encoding="utf-8")
    return CovarianceSpec(source=str(path))


# What is summed


@pytest.mark.usefixtures("small_chunks")
def test_chunks_add_up_to_a_naive_loop_over_all_tokens(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times K = 480 tokens are 8 texts of 64, in chunks of 3, 3 and 2."""
    texts: list[list[int]] = []
    sample = covariance_text.sample_tokens

    def spy(*args: object, **settings: object) -> torch.Tensor:
        drawn: torch.Tensor = sample(*args, **settings)  # type: ignore[arg-type]
        texts.extend(drawn.tolist())
        return drawn

    monkeypatch.setattr(covariance_text, "sample_tokens", spy)
    assert num_chunks(SPEC, KEY_WIDTH) == 3
    parts = [measure_chunk(model, SPEC, LAYERS, chunk) for chunk in range(3)]
    assert [count for _, count in parts] == [192, 192, 128]
    assert len({tuple(text) for text in texts}) == 8, "chunks must not repeat each other's text"
    naive = covariance_sum_naively(model, texts, LAYERS)
    for layer in LAYERS:
        total_KK = sum(sums[layer] for sums, _ in parts)
        assert total_KK.dtype == np.float64
        assert relative_difference(total_KK, naive[layer]) < 1e-6
        assert np.linalg.eigvalsh(total_KK).min() > 0, "as many tokens as asked for give a full rank"


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gptj", "gemma2"])
def test_texts_in_groups_have_the_sum_of_one_text_at_a_time(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of 3, 3 and 1 texts, and products of 20, 20 and 8 of the 48 columns."""
    monkeypatch.setattr(key_covariance, "_READ_TEXTS", 3)
    monkeypatch.setattr(key_covariance, "_BLOCK_COLUMNS", 20)
    model, texts_BT = pico_model(model_type), drawn_texts(7)
    (sums, _), naive = sum_over_texts(model, texts_BT, LAYERS), covariance_sum_naively(model, texts_BT.tolist(), LAYERS)
    assert list(sums) == list(naive) == list(LAYERS)
    for layer in LAYERS:
        assert relative_difference(sums[layer], naive[layer]) < 1e-6
        np.testing.assert_array_equal(sums[layer], sums[layer].T)


def test_the_naive_sum_is_one_outer_product_for_each_token(model: LanguageModel) -> None:
    """Two texts of two tokens and of one. The second text's token is its first: it sees none of the other text."""
    keys: list[torch.Tensor] = []
    handle = model.projection(1).register_forward_pre_hook(lambda _module, args: keys.append(args[0][0].double()))
    sums = covariance_sum_naively(model, [[7, 8], [9]], (1,))
    handle.remove()
    assert [len(keys_TK) for keys_TK in keys] == [2, 1]
    expected_KK = sum(np.outer(key_K, key_K) for keys_TK in keys for key_K in keys_TK.numpy())
    np.testing.assert_allclose(sums[1], expected_KK, rtol=1e-12)


def test_few_texts_at_a_time_are_run(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_covariance, "_READ_TEXTS", 3)
    num_rows: list[int] = []
    handle = model.blocks[0].register_forward_pre_hook(lambda _module, args: num_rows.append(len(args[0])))
    sum_over_texts(model, drawn_texts(8), LAYERS)
    handle.remove()
    assert num_rows == [3, 3, 2]


@pytest.mark.parametrize(
    ("can", "dtype", "expected"),
    [
        ({"amx_bf16": True}, torch.float32, torch.bfloat16),
        ({"amx_bf16": False}, torch.float32, torch.float32),
        ({}, torch.float32, torch.float32),
        ({"amx_bf16": True}, torch.float16, torch.float16),
    ],
)
def test_text_is_sampled_in_bfloat16_where_the_processor_is_made_for_it(
    monkeypatch: pytest.MonkeyPatch, can: dict[str, bool], dtype: torch.dtype, expected: torch.dtype
) -> None:
    """Either way the sums are those of the model's own keys over the text that was drawn."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can, raising=False)
    model, used = pico_model("llama", dtype=dtype), []
    sample = covariance_text.sample_tokens
    monkeypatch.setattr(
        covariance_text, "sample_tokens", lambda *args, dtype: used.append(dtype) or sample(*args, dtype=dtype)
    )
    sums, _ = measure_chunk(model, SPEC, (1,), 0)
    assert used == [expected]
    texts_BT = covariance_text.sampled_texts(model, 0, 8)
    np.testing.assert_array_equal(sums[1], sum_over_texts(model, texts_BT, (1,))[0][1])


def test_chunks_hold_other_texts_even_where_they_begin_alike(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(covariance_text, "OPENERS", ("The",))
    monkeypatch.setattr(key_covariance, "CHUNK_TEXTS", 12)
    sums = [measure_chunk(model, CovarianceSpec(tokens=64 * 24), (2,), chunk)[0][2] for chunk in range(2)]
    assert not np.allclose(sums[0], sums[1])


def test_a_chunk_is_the_same_whenever_and_with_whichever_layers_it_is_measured(model: LanguageModel) -> None:
    sums, count = measure_chunk(model, SPEC, LAYERS, 0)
    torch.manual_seed(99)
    again, _ = measure_chunk(model, SPEC, LAYERS, 0)
    alone, count_alone = measure_chunk(model, SPEC, (2,), 0)
    np.testing.assert_array_equal(again[2], sums[2])
    np.testing.assert_array_equal(alone[2], sums[2])
    assert count_alone == count == 512


def test_the_model_stays_as_it_is(model: LanguageModel) -> None:
    before = model.weights_hash()
    measure_chunk(model, SPEC, LAYERS, 0)
    fingerprint(model, SPEC)
    assert model.weights_hash() == before


def test_an_edited_model_has_another_covariance() -> None:
    model = pico_model("llama")
    before = measure_chunk(model, SPEC, (2,), 0)[0][2]
    model.set_weights({0: -model.weight_VK(0)})
    assert not np.allclose(measure_chunk(model, SPEC, (2,), 0)[0][2], before)


# How much text


def test_the_number_of_tokens_is_ten_times_the_key_width_unless_asked_for() -> None:
    assert covariance_tokens(SPEC, 48) == 480
    assert covariance_tokens(CovarianceSpec(tokens=96), 48) == 96
    assert covariance_tokens(CovarianceSpec(tokens=5000), 48) == 5000


def test_fewer_than_twice_the_key_width_are_refused(model: LanguageModel) -> None:
    with pytest.raises(
        ScenarioError, match=r"covariance\.tokens: 95 tokens for keys of width 48\n.*at least 96 .*480 is"
    ):
        covariance_tokens(CovarianceSpec(tokens=95), 48)
    with pytest.raises(ScenarioError, match="at least 96"):
        measure_chunk(model, CovarianceSpec(tokens=95), LAYERS, 0)


# Named text


@pytest.mark.usefixtures("small_chunks")
def test_a_text_file_is_cut_into_texts_in_its_order(model: LanguageModel, tmp_path: Path) -> None:
    spec = write_text(tmp_path / "corpus.txt")
    ids = model.tokenizer((tmp_path / "corpus.txt").read_text())["input_ids"]
    texts = [ids[start : start + 64] for start in range(0, 512, 64)]
    parts = [measure_chunk(model, spec, LAYERS, chunk) for chunk in range(3)]
    assert sum(count for _, count in parts) == 512
    total_KK = sum(sums[2] for sums, _ in parts)
    assert relative_difference(total_KK, covariance_sum_naively(model, texts, (2,))[2]) < 1e-6


def test_only_the_beginning_of_a_long_text_is_read(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_text(tmp_path / "corpus.txt", repeats=400)
    seen: list[int] = []
    encode = covariance_text.encode
    monkeypatch.setattr(
        covariance_text, "encode", lambda tokenizer, text, with_start: seen.append(len(text)) or encode(tokenizer, text)
    )
    measure_chunk(model, spec, LAYERS, 0)
    assert 512 < max(seen) <= 16 * 480 < (tmp_path / "corpus.txt").stat().st_size


def test_a_text_that_is_too_short_is_refused_with_its_length(model: LanguageModel, tmp_path: Path) -> None:
    spec = write_text(tmp_path / "short.txt", repeats=1)
    num_tokens = len(model.tokenizer((tmp_path / "short.txt").read_text())["input_ids"])
    with pytest.raises(InputError, match=rf"short\.txt holds {num_tokens} tokens\nExpected: at least 512 tokens"):
        measure_chunk(model, spec, LAYERS, 0)


@pytest.mark.parametrize(("content", "message"), [(None, "No such file"), (b"caf\xe9 " * 99, "can't decode byte 0xe9")])
def test_a_file_that_is_no_text_is_refused(
    model: LanguageModel, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "corpus.txt"
    if content is not None:
        path.write_bytes(content)
    for ask in (lambda spec: measure_chunk(model, spec, LAYERS, 0), lambda spec: fingerprint(model, spec)):
        with pytest.raises(InputError, match=rf"corpus\.txt: .*{message}") as rejection:
            ask(CovarianceSpec(source=str(path)))
        assert rejection.value.expected == "a UTF-8 text file"


@pytest.fixture
def dataset_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local dataset, which `datasets` opens without a network, with its cache in the test's folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    folder = tmp_path / "dataset"
    folder.mkdir()
    rows = [{"text": text} for text in (*SENTENCES * 40, None)]
    (folder / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return folder


def test_a_dataset_gives_the_covariance_of_its_text_column(
    model: LanguageModel, dataset_folder: Path, tmp_path: Path
) -> None:
    spec = CovarianceSpec(source=f"hub:{dataset_folder}", tokens=1024)
    as_file = write_text(tmp_path / "corpus.txt").model_copy(update={"tokens": 1024})
    sums, count = measure_chunk(model, spec, LAYERS, 0)
    assert count == 1024
    np.testing.assert_array_equal(sums[2], measure_chunk(model, as_file, LAYERS, 0)[0][2])


def test_a_dataset_without_text_or_without_the_split_is_refused(model: LanguageModel, dataset_folder: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened"):
        measure_chunk(model, CovarianceSpec(source=f"hub:{dataset_folder}", split="validation"), LAYERS, 0)
    (dataset_folder / "train.jsonl").write_text('{"line": "a"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="has the columns line\nExpected: a column `text`"):
        measure_chunk(model, CovarianceSpec(source=f"hub:{dataset_folder}"), LAYERS, 0)


# The cache's key


def folder_of(model: LanguageModel, spec: CovarianceSpec = SPEC) -> Path:
    return CovarianceCache(fingerprint(model, spec), Path("cache")).folder


def with_other_weights() -> LanguageModel:
    return pico_model("llama", seed=1)


def with_one_other_weight() -> LanguageModel:
    model = pico_model("llama")
    model.model.get_parameter("lm_head.weight")[7, 7] += 1e-3
    return model


def with_other_config() -> LanguageModel:
    """Weights are the same, and so are their names; what is computed with them is not."""
    model = pico_model("llama")
    model.model.config.rms_norm_eps = 0.1
    return model


def with_other_vocabulary() -> LanguageModel:
    model = pico_model("llama")
    model.tokenizer.add_tokens(["Paris"])
    return model


def with_other_beginning() -> LanguageModel:
    """The same vocabulary, but every text begins with BOS."""
    return pico_model("llama", bos=True)


@pytest.mark.parametrize(
    "other",
    [
        with_other_weights,
        with_one_other_weight,
        with_other_config,
        with_other_vocabulary,
        with_other_beginning,
        lambda: pico_model("llama", dtype=torch.bfloat16),
        lambda: pico_model("mistral"),
    ],
)
def test_another_model_has_another_place(model: LanguageModel, other: Callable[[], LanguageModel]) -> None:
    assert folder_of(other()) != folder_of(model)


def test_another_text_has_another_place(model: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    places = [folder_of(model), folder_of(model, CovarianceSpec(tokens=500))]
    places.append(folder_of(model, write_text(path)))
    path.write_text("X" + path.read_text()[1:], encoding="utf-8")
    places.append(folder_of(model, CovarianceSpec(source=str(path))))
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_VERSION", 1),
        ("text_tokens", lambda _: 32),
        ("CHUNK_TEXTS", 3),
        ("_READ_TEXTS", 3),
        ("_BLOCK_COLUMNS", 16),
        ("SAMPLING_SEED", 1),
        ("OPENERS", ("The",)),
        ("sampling_dtype", lambda _: torch.float16),
    ],
)
def test_another_way_to_sample_has_another_place(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    before = folder_of(model)
    monkeypatch.setattr(key_covariance, name, value)
    assert folder_of(model) != before


def test_another_number_of_threads_or_version_has_another_place(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [folder_of(model)]
    for name, value in (("torch.get_num_threads", lambda: 7), ("torch.__version__", "9")):
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            places.append(folder_of(model))
    assert len(set(places)) == 3


def test_the_same_model_in_another_folder_has_the_same_place(tmp_path: Path) -> None:
    found = []
    for name in ("first", "second"):
        folder = pico_folder(tmp_path / name, "llama")
        opened = open_model(LanguageModelSpec(name=str(folder), device="cpu"))
        found.append(folder_of(opened))
        opened.tokenizer("a text", padding="max_length", max_length=9)
        assert folder_of(opened) == found[-1], "a tokenizer remembers its last call's padding"
    assert found[0] == found[1]


# The cache


@pytest.fixture
def cache(tmp_path: Path) -> CovarianceCache:
    return CovarianceCache({"weights": "abc"}, tmp_path)


def test_what_is_stored_is_loaded_to_the_bit(cache: CovarianceCache) -> None:
    gram_KK = np.random.default_rng(0).normal(size=(KEY_WIDTH, KEY_WIDTH))
    assert cache.load(2) is None
    cache.store(2, gram_KK, 512)
    found = cache.load(2)
    assert found is not None
    np.testing.assert_array_equal(found[0], gram_KK)
    assert (found[0].dtype, found[1]) == (np.float64, 512)
    assert cache.load(1) is None, "another layer is not there"


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda _: b"", lambda content: b"?" + content])
def test_a_damaged_file_is_a_miss_and_can_be_stored_again(
    cache: CovarianceCache, damage: Callable[[bytes], bytes]
) -> None:
    cache.store(2, np.eye(4), 64)
    (path,) = cache.folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert cache.load(2) is None
    cache.store(2, np.eye(4), 64)
    assert cache.load(2) is not None


def test_a_file_of_other_content_is_a_miss(cache: CovarianceCache) -> None:
    key_covariance.write_arrays(cache.folder / "layer-2.safetensors", {"history": np.eye(4)})
    assert cache.load(2) is None


def test_writers_and_readers_at_once_see_whole_files(cache: CovarianceCache) -> None:
    def write(value: int) -> None:
        for _ in range(10):
            cache.store(2, np.full((64, 64), float(value)), value)

    def read() -> int:
        num_detected = 0
        for _ in range(200):
            found = cache.load(2)
            if found is not None:
                assert (found[0] == found[1]).all()
                num_detected += 1
        return num_detected

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, value) for value in (1, 2, 3)]
        reader = pool.submit(read)
        for writer in writers:
            writer.result(timeout=30)
        reader.result(timeout=30)
    assert cache.load(2) is not None
    assert [path.name for path in cache.folder.iterdir()] == ["layer-2.safetensors"]


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "covariance").write_text("a file where a folder should be")
    cache = CovarianceCache({}, tmp_path)
    assert cache.load(2) is None
    with pytest.raises(InputError, match=r"cannot be kept in .*covariance") as rejection:
        cache.store(2, np.eye(4), 64)
    assert "CONSORTIUM_CACHE" in rejection.value.remedy
