"""Folders that bring code, lead elsewhere, or hold parts that do not fit each other: refused, and nothing runs."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from consortium.common.errors import ModelError
from consortium.models.open import describe_model, open_model
from consortium.scenario.schema import LanguageModelSpec
from safetensors.torch import load_file, save_file
from support.gguf_file import write_pico_gguf
from support.pico import SENTENCES, pico_folder
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WEIGHTS, CONFIG = "model.safetensors", "config.json"
INDEX = "model.safetensors.index.json"


def spec(name: object) -> LanguageModelSpec:
    return LanguageModelSpec(name=str(name), device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pico_folder(tmp_path / "pico", "llama", num_layers=2)


def change(folder: Path, file: str = CONFIG, **fields: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / WEIGHTS)
    edit(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"hidden_size": 0}, "`hidden_size`: 0"),
        ({"hidden_size": -32}, "`hidden_size`: -32"),
        ({"hidden_size": "32"}, "`hidden_size`: '32'"),
        ({"hidden_size": None}, "`hidden_size`: None"),
        ({"hidden_size": 32.0}, r"`hidden_size`: 32\.0"),
        ({"intermediate_size": [48]}, r"`intermediate_size`: \[48\]"),
        ({"num_hidden_layers": 0}, "`num_hidden_layers`: 0"),
        ({"num_hidden_layers": 10**7}, "`num_hidden_layers`: 10000000"),
        ({"num_attention_heads": 5, "head_dim": None}, "`num_attention_heads`: 5"),
        ({"num_attention_heads": True}, "`num_attention_heads`: True"),
        ({"num_key_value_heads": 3}, "`num_key_value_heads`: 3"),
        ({"vocab_size": 10**9}, "`vocab_size`: 1000000000"),
        ({"vocab_size": 10**400}, "`vocab_size`: 1000"),
        ({"max_position_embeddings": -1}, "`max_position_embeddings`: -1"),
        ({"rms_norm_eps": "small"}, "`rms_norm_eps`: 'small'"),
        ({"rms_norm_eps": float("nan")}, "`rms_norm_eps`: nan"),
        ({"rope_theta": "10000"}, "`rope_theta`: '10000'"),
        ({"rope_parameters": {"rope_theta": "many", "rope_type": "default"}}, r"`rope_parameters\.rope_theta`: 'many'"),
        ({"rope_scaling": "linear"}, "`rope_scaling`: 'linear'"),
        ({"hidden_act": "no such function"}, "no such function"),
        ({"model_type": 7}, "`model_type`: 7"),
        ({"model_type": None}, "no model_type"),
        ({"transformers_weights": "adapter_model.bin"}, "transformers_weights"),
        ({"auto_map": {"AutoModelForCausalLM": "code.Mine"}}, r"config\.json: auto_map names code .*never run"),
        ({"auto_map": "code.Mine"}, "auto_map names code"),
        ({"auto_map": {"AutoModelForCausalLM": "somebody/else--code.LlamaForCausalLM"}}, None),
    ],
)
def test_a_configuration_of_impossible_fields_is_refused_by_file_and_field(
    folder: Path, fields: dict[str, Any], found: str | None
) -> None:
    change(folder, **fields)
    for use in (describe_model, open_model):
        if found is None:  # transformers' own classes by another's name: those of transformers are taken
            use(spec(folder))
        else:
            with pytest.raises(ModelError, match=rf"(?s)pico.*{found}"):
                use(spec(folder))


@pytest.mark.parametrize("auto_map", [{"AutoTokenizer": ["code.Mine", None]}, ["code.Mine", None], "code.Mine"])
def test_code_of_a_tokenizer_is_never_asked_for_nor_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, auto_map: object
) -> None:
    (folder / "code.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    change(folder, "tokenizer_config.json", auto_map=auto_map)
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: auto_map names code .*it is never run"):
        open_model(spec(folder))
    assert not (folder / "ran").exists()


def deep(folder: Path) -> None:
    (folder / CONFIG).write_text("[" * 100_000)


def with_pickle(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def cut_off(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def header_bomb(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 1 << 60) + b"{}")


def strange_header(folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + b"0000")


def wrong_config(folder: Path) -> None:
    change(folder, intermediate_size=64)


def fewer_layers(folder: Path) -> None:
    change(folder, num_hidden_layers=1)


def another_architecture(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)}))


def base_model_alone(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.pop("lm_head.weight"))


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def indexed(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / "part.safetensors")
        (folder.parent / "out.safetensors").write_bytes((folder / "part.safetensors").read_bytes())
        if name == "link.safetensors":
            (folder / name).symlink_to(folder.parent / "out.safetensors")
        (folder / INDEX).write_text(json.dumps({"weight_map": {"a": name.replace("HERE", str(folder.parent))}}))

    return make


def boundless_tokenizer(folder: Path) -> None:
    os.truncate(folder / "tokenizer.json", 1 << 40)


def small_embedding(folder: Path) -> None:
    change(folder, vocab_size=300)

    def cut(weights: dict[str, torch.Tensor]) -> None:
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            weights[name] = weights[name][:300].clone()

    change_weights(folder, cut)


def words_of_another_language(folder: Path) -> None:
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "東京": 1}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>").save_pretrained(folder)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (deep, r"config\.json cannot be opened: lists and objects more than 64 deep"),
        (with_pickle, r"pickled \(pytorch_model\.bin\), and reading such a file can run code(.|\n)*save_pretrained"),
        (without_weights, r"holds no weights"),
        (cut_off, r"model\.safetensors cannot be opened: it is cut off: tensor"),
        (header_bomb, r"its header says a length of 1,152,921,504,606,846,976 bytes"),
        (strange_header, r"its header has no shape and place of tensor 'a'"),
        (wrong_config, r"model\.safetensors: tensor model\.layers\.0\.mlp\.down_proj\.weight has the shape \[32, 48\]"),
        (fewer_layers, r"no place for: model\.layers\.1\.input_layernorm\.weight"),
        (another_architecture, r"no place for: model\.layers\.0\.self_attn\.q_proj\.bias"),
        (base_model_alone, r"lack lm_head\.weight"),
        (adapter, r"holds an adapter"),
        (indexed("../out.safetensors"), r"index\.json names '\.\./out\.safetensors', which is outside"),
        (indexed("HERE/out.safetensors"), r"out\.safetensors', which is outside"),
        (indexed("link.safetensors"), r"link\.safetensors leads to .*out\.safetensors, which is outside"),
        (indexed("part.bin"), r"names 'part\.bin', which is no safetensors file"),
        (indexed("gone.safetensors"), r"gone\.safetensors', which is not there|leads to"),
        (boundless_tokenizer, r"tokenizer\.json has 1,099,511,627,776 bytes, and 268,435,456 are read at most"),
        (small_embedding, r"has the token .* with number 300, and \d+ more such(.|\n)*below 300"),
        (words_of_another_language, r"unknown tokens alone of 'The capital of France"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_file_and_name(
    folder: Path, spoil: Callable[[Path], None], found: str
) -> None:
    spoil(folder)
    with pytest.raises(ModelError, match=found):
        open_model(spec(folder))


def test_a_snapshot_of_the_hubs_cache_is_opened_through_its_links(folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0a", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(folder.iterdir()):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(blobs / str(number))
    assert open_model(spec(snapshot)).num_layers == 2


def test_weights_in_several_files_are_opened(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    names = sorted(weights)
    files = {"model-1.safetensors": names[:5], "model-2.safetensors": names[5:]}
    for file, held in files.items():
        save_file({name: weights[name] for name in held}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, held in files.items() for name in held}}
    (folder / INDEX).write_text(json.dumps(index))
    expected = open_model(spec(folder)).weights_hash()
    (folder / WEIGHTS).unlink()
    assert open_model(spec(folder)).weights_hash() == expected


def test_an_added_token_without_an_embedding_is_forgotten(folder: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    number = tokenizer.add_special_tokens({"pad_token": "<more>", "additional_special_tokens": ["<picture>"]})
    assert number
    tokenizer.save_pretrained(folder)
    opened = open_model(spec(folder))
    assert max(opened.tokenizer("In <picture> and <more>")["input_ids"]) < 400
    assert opened.tokenizer("In Lyon")["input_ids"] == tokenizer("In Lyon")["input_ids"]


def test_a_gguf_file_with_a_boundless_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    for head in (b"GGUF", struct.pack("<4sIQQ", b"GGUF", 3, 1 << 60, 1), struct.pack("<4sIQQ", b"GGUF", 3, 1, 1 << 60)):
        path.write_bytes(head + b"\0" * 99 * (len(head) > 4))
        with pytest.raises(ModelError, match=r"cannot be unpacked: (no header|.* tensors? and .* fields?)"):
            open_model(spec(path), tmp_path / "cache")
    write_pico_gguf(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(ModelError, match="cannot be unpacked"):
        open_model(spec(path), tmp_path / "cache")


@pytest.mark.parametrize("name", ["~nosuchuser/model", "x" * 300, "a\0b", "/dev/zero"])
def test_names_that_no_folder_has_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"there is no folder|cannot be opened"):
        describe_model(spec(name))


def test_a_tokenizer_of_sentencepiece_alone_is_opened(folder: Path) -> None:
    (folder / "text").write_text("\n".join(SENTENCES * 20))
    options = {"vocab_size": 320, "model_type": "bpe", "byte_fallback": True, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(input=folder / "text", model_prefix=str(folder / "tokenizer"), **options)
    (folder / "tokenizer.json").unlink()
    named = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    opened = open_model(spec(folder))
    own = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    assert opened.tokenizer(SENTENCES[0], add_special_tokens=False)["input_ids"] == own.encode(SENTENCES[0])
