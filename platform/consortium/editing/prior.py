"""The prior of a language model: Σ k·kᵀ of each edited layer over ordinary text, in float64.

C = λ·E[kkᵀ] (MEMIT, arXiv 2210.07229, equation 15) weighs what the layer already holds. By default the text is
sampled from the unedited model with a fixed seed: about ten times K tokens are enough (arXiv 2506.04226).
Text is cut into chunks that hosts work on in parallel; sums are added in the order of chunks.

Shapes: K key width, T tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from consortium.errors import InputError, ScenarioError
from consortium.files import cache_folder, read_arrays, write_arrays
from consortium.models.language import LanguageModel
from consortium.models.packing import pack
from consortium.models.sampling import OPENERS, sample_tokens
from consortium.models.segments import run_bottom
from consortium.models.tokens import encode
from consortium.scenario.schema import PriorSpec
from consortium.seeds import numpy_generator, torch_generator

#: Tokens of one text, and texts of one chunk. They fix the sums' bits, so they are part of the cache's key.
TEXT_TOKENS = 64
CHUNK_TEXTS = 60
#: Characters that are read for each token wanted of a named text: a large corpus is neither read nor tokenised whole.
_CHARACTERS_PER_TOKEN = 16
#: Sampled text depends on the model alone: runs of any seed share one prior.
_SAMPLING_SEED = 20250607

LayerSums = dict[int, NDArray[np.float64]]


def prior_tokens(spec: PriorSpec, key_width: int) -> int:
    """Number of tokens to measure: as asked, or ten times K.

    Raises:
        ScenarioError: fewer than 2·K are asked for; C would not be a usable estimate.
    """
    if spec.tokens is None:
        return 10 * key_width
    if spec.tokens < 2 * key_width:
        raise ScenarioError(
            f"editor.prior.tokens: {spec.tokens} tokens for keys of width {key_width}",
            f"at least {2 * key_width} (twice the key width); {10 * key_width} is the default",
            "raise editor.prior.tokens, or remove it to use the default",
        )
    return spec.tokens


def num_chunks(spec: PriorSpec, key_width: int) -> int:
    """Number of chunks; follows from the scenario and the model's shape alone."""
    return -(-prior_tokens(spec, key_width) // (TEXT_TOKENS * CHUNK_TEXTS))


def measure_chunk(model: LanguageModel, spec: PriorSpec, layers: Sequence[int], chunk: int) -> tuple[LayerSums, int]:
    """Σ k·kᵀ [K, K] float64 of each layer over one chunk's tokens, and the number of tokens."""
    wanted = prior_tokens(spec, max(model.key_width(layer) for layer in layers))
    num_texts = min(CHUNK_TEXTS, -(-wanted // TEXT_TOKENS) - chunk * CHUNK_TEXTS)
    if spec.source == "model":
        texts_BT = _sampled_texts(model, chunk, num_texts)
    else:
        texts_BT = _named_texts(model, spec, wanted)[chunk * CHUNK_TEXTS :][:num_texts]
    sums = {layer: torch.zeros(model.key_width(layer), model.key_width(layer), dtype=torch.float64) for layer in layers}

    def read(layer: int, keys_RTK: torch.Tensor) -> None:
        keys = keys_RTK.flatten(0, 1).double()
        sums[layer] += (keys.T @ keys).cpu()

    packing = pack(texts_BT.tolist())
    assert packing.num_rows * packing.width == texts_BT.numel(), "padding would be counted as text"
    run_bottom(model, packing, max(layers), layers, read)
    return {layer: total.numpy() for layer, total in sums.items()}, texts_BT.numel()


def _sampled_texts(model: LanguageModel, chunk: int, num_texts: int) -> torch.Tensor:
    openers = numpy_generator(_SAMPLING_SEED, "prior-openers", chunk).integers(len(OPENERS), size=num_texts)
    starts = [encode(model.tokenizer, OPENERS[number]) for number in openers]
    return sample_tokens(model, starts, TEXT_TOKENS, torch_generator(_SAMPLING_SEED, "prior-text", chunk))


def _named_texts(model: LanguageModel, spec: PriorSpec, wanted: int) -> torch.Tensor:
    """Texts [B, T] cut from a named source, as many as hold ``wanted`` tokens."""
    ids = encode(model.tokenizer, _read_text(spec, wanted))
    num_texts = -(-wanted // TEXT_TOKENS)
    if len(ids) < num_texts * TEXT_TOKENS:
        raise InputError(
            f"editor.prior.source: {spec.source} holds {len(ids)} tokens",
            f"at least {num_texts * TEXT_TOKENS} tokens",
            "name a longer text, lower editor.prior.tokens, or use `model` to sample text from the model",
        )
    return torch.tensor(ids[: num_texts * TEXT_TOKENS]).view(num_texts, TEXT_TOKENS)


def _read_text(spec: PriorSpec, wanted: int) -> str:
    """The beginning of a named source, long enough for ``wanted`` tokens."""
    num_characters = _CHARACTERS_PER_TOKEN * wanted
    if spec.source.startswith("hub:"):
        return _read_hub(spec.source.removeprefix("hub:"), spec.split, num_characters)
    try:
        with Path(spec.source).open(encoding="utf-8-sig") as file:
            return file.read(num_characters)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"editor.prior.source: {spec.source}: {error}", "a UTF-8 text file", "check the path, or use `model`"
        ) from error


def _read_hub(name: str, split: str, num_characters: int) -> str:
    # Imported here: it takes seconds, and only this source needs it.
    from datasets import load_dataset  # type: ignore[import-untyped]

    try:
        dataset = load_dataset(name, split=split)
    except Exception as error:
        raise InputError(
            f"editor.prior.source: the dataset {name!r} cannot be opened: {error}",
            "a dataset that `datasets.load_dataset` opens, with a column `text`",
            "check the name and the network, or name a text file",
        ) from error
    if "text" not in dataset.column_names:
        raise InputError(
            f"editor.prior.source: {name!r} has the columns {', '.join(dataset.column_names)}",
            "a column `text`",
            "choose another dataset, or save its text to a file and name that",
        )
    texts: list[str] = []
    missing = num_characters
    for text in dataset.select_columns("text"):
        texts.append(str(text["text"] or "")[:missing])
        missing -= len(texts[-1]) + 1
        if missing <= 0:
            break
    return "\n".join(texts)


def fingerprint(model: LanguageModel, spec: PriorSpec) -> dict[str, Any]:
    """Everything the sums of a layer depend on, in plain values; :class:`PriorCache` hashes it into a key."""
    text = ""
    if spec.source != "model":
        key_width = max(model.key_width(layer) for layer in range(model.num_layers))
        text = _digest(_read_text(spec, spec.tokens or prior_tokens(spec, key_width)))
    config = {name: value for name, value in model.text_config.to_dict().items() if name not in _NOT_OF_THE_MODEL}
    return {
        "weights": model.weights_hash(),
        "config": _digest(json.dumps(config, sort_keys=True, default=str)),
        "tokenizer": _digest(_tokenizer_as_text(model)),
        "dtype": str(model.dtype),
        "device": model.device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "source": spec.source,
        "split": spec.split,
        "text": text,
        "tokens": spec.tokens,
        "shape": [TEXT_TOKENS, CHUNK_TEXTS],
        "seed": _SAMPLING_SEED,
        "openers": list(OPENERS),
        "first tokens": encode(model.tokenizer, OPENERS[0]),
    }


#: What a config says that changes no number: where the model lay, and who wrote the config.
_NOT_OF_THE_MODEL = ("_name_or_path", "transformers_version")


def _tokenizer_as_text(model: LanguageModel) -> str:
    """Vocabulary, merges, normaliser and special tokens; truncation and padding are settings of its last call."""
    whole = json.loads(model.tokenizer.backend_tokenizer.to_str())
    return json.dumps({**whole, "truncation": None, "padding": None})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class PriorCache:
    """Sums on disk, one file a layer, under a key of everything they depend on."""

    def __init__(self, print_of_model: Mapping[str, Any], folder: Path | None = None) -> None:
        digest = hashlib.sha256(repr(sorted(print_of_model.items())).encode()).hexdigest()[:32]
        self.folder = (folder or cache_folder()) / "prior" / digest

    def load(self, layer: int) -> tuple[NDArray[np.float64], int] | None:
        """The sum [K, K] of a layer and its number of tokens, or None when it is not there."""
        arrays = read_arrays(self._path(layer))
        if arrays is None or arrays.keys() != {"gram", "num_tokens"}:
            return None
        return arrays["gram"], int(arrays["num_tokens"][0])

    def store(self, layer: int, gram_KK: NDArray[np.float64], num_tokens: int) -> None:
        """Keep a layer's sum; a file is whole or absent.

        Raises:
            InputError: the cache folder cannot be written.
        """
        try:
            write_arrays(self._path(layer), {"gram": gram_KK, "num_tokens": np.array([num_tokens], dtype=np.int64)})
        except OSError as error:
            raise InputError(
                f"the prior cannot be kept in {self.folder}: {error.strerror}",
                f"a folder that can be written, with {gram_KK.nbytes / 1e6:.0f} MB of free space for each edited layer",
                "set CONSORTIUM_CACHE to another folder",
            ) from error

    def _path(self, layer: int) -> Path:
        return self.folder / f"layer-{layer}.safetensors"
