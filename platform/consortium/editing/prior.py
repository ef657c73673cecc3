"""The prior of a language model: Σ k·kᵀ of each edited layer over ordinary text, in float64.

C = λ·E[kkᵀ] (MEMIT, arXiv 2210.07229, equation 15) weighs what the layer already holds. By default the text is
sampled from the unedited model with a fixed seed: about ten times K tokens are enough (arXiv 2506.04226).
Text is cut into chunks that hosts work on in parallel; sums are added in the order of chunks.

Shapes: K key width, T tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
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

    run_bottom(model, pack(texts_BT.tolist()), max(layers), layers, read)
    return {layer: total.numpy() for layer, total in sums.items()}, texts_BT.numel()


def _sampled_texts(model: LanguageModel, chunk: int, num_texts: int) -> torch.Tensor:
    openers = numpy_generator(_SAMPLING_SEED, "prior-openers", chunk).integers(len(OPENERS), size=num_texts)
    starts = [encode(model.tokenizer, OPENERS[number]) for number in openers]
    return sample_tokens(model, starts, TEXT_TOKENS, torch_generator(_SAMPLING_SEED, "prior-text", chunk))


def _named_texts(model: LanguageModel, spec: PriorSpec, wanted: int) -> torch.Tensor:
    """Texts [B, T] cut from a named source, as many as hold ``wanted`` tokens."""
    # A first slice by characters keeps a large corpus from being tokenised whole; no token is longer than 16.
    ids = encode(model.tokenizer, _read_text(spec)[: wanted * 16])
    num_texts = -(-wanted // TEXT_TOKENS)
    if len(ids) < num_texts * TEXT_TOKENS:
        raise InputError(
            f"editor.prior.source: {spec.source} holds {len(ids)} tokens",
            f"at least {num_texts * TEXT_TOKENS} tokens",
            "name a longer text, lower editor.prior.tokens, or use `model` to sample text from the model",
        )
    return torch.tensor(ids[: num_texts * TEXT_TOKENS]).view(num_texts, TEXT_TOKENS)


def _read_text(spec: PriorSpec) -> str:
    if spec.source.startswith("hub:"):
        from datasets import load_dataset  # type: ignore[import-untyped]

        name = spec.source.removeprefix("hub:")
        try:
            dataset = load_dataset(name, split=spec.split)
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
        return "\n".join(dataset["text"])
    try:
        return Path(spec.source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"editor.prior.source: {spec.source}: {error}", "a UTF-8 text file", "check the path, or use `model`"
        ) from error


def fingerprint(model: LanguageModel, spec: PriorSpec) -> dict[str, Any]:
    """Everything the sums of a layer depend on, in plain values; :class:`PriorCache` hashes it into a key."""
    text = "" if spec.source == "model" else hashlib.sha256(_read_text(spec).encode()).hexdigest()
    vocabulary = hashlib.sha256(repr(sorted(model.tokenizer.get_vocab().items())).encode()).hexdigest()
    return {
        "weights": model.weights_hash(),
        "vocabulary": vocabulary,
        "dtype": str(model.dtype),
        "device": model.device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "source": spec.source,
        "split": spec.split,
        "text": text,
        "tokens": spec.tokens,
        "shape": [TEXT_TOKENS, CHUNK_TEXTS],
        "seed": _SAMPLING_SEED,
        "openers": list(OPENERS),
    }


class PriorCache:
    """Sums on disk, one file a layer, under a key of everything they depend on."""

    def __init__(self, print_of_model: Mapping[str, Any], folder: Path | None = None) -> None:
        digest = hashlib.sha256(repr(sorted(print_of_model.items())).encode()).hexdigest()[:32]
        self.folder = (folder or cache_folder()) / "prior" / digest

    def load(self, layer: int) -> tuple[NDArray[np.float64], int] | None:
        """The sum [K, K] of a layer and its number of tokens, or None when it is not there."""
        arrays = read_arrays(self.folder / f"layer-{layer}.safetensors")
        return None if arrays is None else (arrays["gram"], int(arrays["num_tokens"][0]))

    def store(self, layer: int, gram_KK: NDArray[np.float64], num_tokens: int) -> None:
        """Keep a layer's sum; a file is whole or absent."""
        path = self.folder / f"layer-{layer}.safetensors"
        write_arrays(path, {"gram": gram_KK, "num_tokens": np.array([num_tokens], dtype=np.int64)})
