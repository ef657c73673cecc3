"""The key covariance of a language model: Σ k·kᵀ of each edited layer over ordinary text, in float64.

C = λ·E[kkᵀ] (MEMIT, arXiv 2210.07229, equation 15) weighs what the layer already holds. By default the text is
sampled from the unedited model with a fixed seed: about ten times K tokens are enough (arXiv 2506.04226).
Text is cut into chunks that workers work on in parallel; sums are added in the order of chunks. Within a chunk a few
texts at a time run through the blocks up to the last edited one, and only their keys' sums are kept.

Shapes: B texts, K key width, R rows, T tokens.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from consortium.common.counting import count
from consortium.common.errors import InputError, ScenarioError
from consortium.common.files import read_arrays, write_arrays
from consortium.common.places import cache_folder
from consortium.editing.covariance_text import (
    SAMPLING_SEED,
    TEXT_TOKENS,
    named_texts,
    read_covariance_text,
    sampled_texts,
    sampling_dtype,
    text_tokens,
)
from consortium.editing.fingerprint import arithmetic_fingerprint, backbone_fingerprint, fingerprint_digest
from consortium.models.language import LanguageModel
from consortium.models.packing import pack
from consortium.models.partial_forward import run_lower_layers
from consortium.models.sampling import OPENERS
from consortium.models.soundness import is_finite_model
from consortium.scenario.editor import CovarianceSpec

#: Texts of one chunk: with more rows, sampling multiplies larger matrices; with fewer, more workers can share the work.
CHUNK_TEXTS = 120
#: Texts that run through the model together once they are written; bounds memory.
_READ_TEXTS = 20
#: Columns of k·kᵀ that are made by one product. Only what is on and above the diagonal is computed.
_BLOCK_COLUMNS = 256
#: Raised when the same text gives other bits, or a file is laid out otherwise: older sums on disk are then not taken.
_VERSION = 3

_log = logging.getLogger(__name__)

LayerSums = dict[int, NDArray[np.float64]]


def covariance_tokens(spec: CovarianceSpec, key_width: int) -> int:
    """Number of tokens to measure: as asked, or ten times K.

    Raises:
        ScenarioError: fewer than 2·K are asked for; C would not be a usable estimate.
    """
    if spec.tokens is None:
        return 10 * key_width
    if spec.tokens < 2 * key_width:
        raise ScenarioError(
            f"editor.covariance.tokens: {count(spec.tokens, 'token')} for keys of width {key_width}",
            f"at least {2 * key_width} (twice the key width); {10 * key_width} is the default",
            "raise editor.covariance.tokens, or remove it to use the default",
        )
    return spec.tokens


def num_chunks(spec: CovarianceSpec, key_width: int, length: int = TEXT_TOKENS) -> int:
    """Number of chunks of texts of this length; follows from the scenario and the model's shape alone."""
    return -(-covariance_tokens(spec, key_width) // (length * CHUNK_TEXTS))


def measure_chunk(
    model: LanguageModel, spec: CovarianceSpec, layers: Sequence[int], chunk: int
) -> tuple[LayerSums, int]:
    """Σ k·kᵀ [K, K] float64 of each layer over one chunk's tokens, and the number of tokens.

    Texts whose keys are not finite are left out; the number of tokens is that of the others.

    Raises:
        ScenarioError: too few tokens are asked for.
        InputError: the named text cannot be read or is too short.
    """
    wanted = covariance_tokens(spec, max(model.key_width(layer) for layer in layers))
    num_texts = min(CHUNK_TEXTS, -(-wanted // text_tokens(model)) - chunk * CHUNK_TEXTS)
    if spec.source == "model":
        texts_BT = sampled_texts(model, chunk, num_texts)
    else:
        texts_BT = named_texts(model, spec, wanted)[chunk * CHUNK_TEXTS :][:num_texts]
    return sum_over_texts(model, texts_BT, layers)


def num_tokens_of_text(spec: CovarianceSpec, key_width: int, length: int = TEXT_TOKENS) -> int:
    """Tokens of the key covariance's text in all: whole texts of this length."""
    return -(-covariance_tokens(spec, key_width) // length) * length


def sum_over_texts(model: LanguageModel, texts_BT: torch.Tensor, layers: Sequence[int]) -> tuple[LayerSums, int]:
    """Σ k·kᵀ [K, K] float64 of each layer over texts of equal length, and the number of tokens summed over.

    Texts that run together may stand in one row, where one whose numbers are not finite spoils the others: these are
    read once more, each by itself, and left out if that does not help.
    """
    sums = {
        layer: torch.zeros([model.key_width(layer)] * 2, dtype=torch.float64, device=model.device) for layer in layers
    }
    num_tokens = 0
    for few_BT in texts_BT.split(_READ_TEXTS):
        parts = [few_BT]
        found = _keys_of(model, few_BT, layers)
        if not _are_finite(found):
            parts = list(few_BT.split(1))
        for part_BT in parts:
            keys = found if len(parts) == 1 else _keys_of(model, part_BT, layers)
            if _are_finite(keys):
                num_tokens += part_BT.numel()
                for layer, keys_TK in keys.items():
                    _add_upper(sums[layer], keys_TK.double())
    whole = {layer: (upper_KK.triu() + upper_KK.triu(1).T).cpu().numpy() for layer, upper_KK in sums.items()}
    return whole, num_tokens


def _keys_of(model: LanguageModel, texts_BT: torch.Tensor, layers: Sequence[int]) -> dict[int, torch.Tensor]:
    """Keys [T, K] of each layer of all tokens of some texts, which run together."""
    packing = pack(texts_BT.tolist(), row_tokens=texts_BT.shape[1])
    assert packing.num_rows * packing.width == texts_BT.numel(), "padding would be counted as text"
    keys: dict[int, torch.Tensor] = {}
    run_lower_layers(model, packing, max(layers), layers, keys.__setitem__)
    return {layer: keys_RTK.flatten(0, 1) for layer, keys_RTK in keys.items()}


def _are_finite(keys: Mapping[int, torch.Tensor]) -> bool:
    return all(map(is_finite_model, keys.values()))


def _add_upper(total_KK: torch.Tensor, keys_TK: torch.Tensor) -> None:
    """Add k·kᵀ on and above the diagonal; what is below it within blocks of columns is of no use."""
    width = total_KK.shape[0]
    for start in range(0, width, _BLOCK_COLUMNS):
        stop = min(start + _BLOCK_COLUMNS, width)
        total_KK[:stop, start:stop] += keys_TK[:, :stop].T @ keys_TK[:, start:stop]


def fingerprint(model: LanguageModel, spec: CovarianceSpec) -> dict[str, Any]:
    """Everything the sums of a layer depend on, in plain values; :class:`CovarianceCache` hashes it into a key."""
    text = ""
    if spec.source != "model":
        key_width = max(model.key_width(layer) for layer in range(model.num_layers))
        text = fingerprint_digest(read_covariance_text(spec, spec.tokens or covariance_tokens(spec, key_width)))
    return {
        **backbone_fingerprint(model, edited_layers=()),
        **arithmetic_fingerprint(model),
        "version": _VERSION,
        "source": spec.source,
        "split": spec.split,
        "text": text,
        "tokens": spec.tokens,
        "shape": [text_tokens(model), CHUNK_TEXTS, _READ_TEXTS, _BLOCK_COLUMNS],
        "seed": SAMPLING_SEED,
        "sampling": str(sampling_dtype(model)),
        "openers": list(OPENERS),
    }


class CovarianceCache:
    """Sums on disk, one file a layer, under a key of everything they depend on, each with a checksum.

    Args:
        print_of_model: everything that the sums depend on.
        folder: the cache folder; by default ``$CONSORTIUM_CACHE`` or ``~/.cache/consortium``.
        tell: told of a damaged file, in words; it is then measured and written again.
    """

    def __init__(
        self, print_of_model: Mapping[str, Any], folder: Path | None = None, tell: Callable[[str], None] = _log.warning
    ) -> None:
        digest = hashlib.sha256(repr(sorted(print_of_model.items())).encode()).hexdigest()[:32]
        self.folder = (folder or cache_folder()) / "covariance" / digest
        self._tell = tell

    def load(self, layer: int) -> tuple[NDArray[np.float64], int] | None:
        """The sum [K, K] of a layer and its number of tokens, or None when it is not there or damaged."""
        path = self._path(layer)
        arrays = read_arrays(path)
        if arrays is not None and arrays.keys() == {"gram", "num_tokens", "checksum"}:
            gram_KK, num_tokens = arrays["gram"], arrays["num_tokens"]
            if arrays["checksum"].tobytes() == self._checksum(layer, gram_KK, num_tokens):
                return gram_KK, int(num_tokens[0])
        if path.exists():
            self._tell(f"the key covariance kept in {path} is damaged, and measured again")
        return None

    def _checksum(self, layer: int, gram_KK: NDArray[np.float64], num_tokens: NDArray[np.int64]) -> bytes:
        """SHA-256 over the entry's name and its arrays, so that a file under another's name is not taken."""
        digest = hashlib.sha256(f"{self.folder.name} {layer} {gram_KK.dtype} {gram_KK.shape}".encode())
        digest.update(np.ascontiguousarray(gram_KK).data)
        digest.update(num_tokens.tobytes())
        return digest.digest()

    def store(self, layer: int, gram_KK: NDArray[np.float64], num_tokens: int) -> None:
        """Keep a layer's sum; a file is whole or absent.

        Raises:
            InputError: the cache folder cannot be written.
        """
        counted = np.array([num_tokens], dtype=np.int64)
        checksum = np.frombuffer(self._checksum(layer, gram_KK, counted), dtype=np.uint8)
        try:
            write_arrays(self._path(layer), {"gram": gram_KK, "num_tokens": counted, "checksum": checksum})
        except OSError as error:
            raise InputError(
                f"the key covariance cannot be kept in {self.folder}: {error.strerror}",
                f"a folder that can be written, with {gram_KK.nbytes / 1e6:.0f} MB of free space for each edited layer",
                "set CONSORTIUM_CACHE to another folder",
            ) from error

    def _path(self, layer: int) -> Path:
        return self.folder / f"layer-{layer}.safetensors"
