"""What a number computed with a language model depends on besides its weights: for keys of caches on disk."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

import consortium
from consortium.models.language import LanguageModel
from consortium.models.tokens import encode

#: What a config says that changes no number: where the model lay, and who wrote the config.
_NOT_OF_THE_MODEL = ("_name_or_path", "transformers_version")
#: Folders of this package whose code makes targets: another version of any file is another version of the algorithm.
_ALGORITHM = ("editing", "models")


def backbone_fingerprint(model: LanguageModel, edited_layers: Sequence[int]) -> dict[str, Any]:
    """The backbone's weights, config and tokenizer as digests; none of it changes while a process lives."""
    return {
        "backbone": backbone_hash(model, edited_layers),
        "config": fingerprint_digest(
            {**_config(model.text_config), "attention": model.model.config._attn_implementation}
        ),
        "tokenizer": fingerprint_digest(_tokenizer(model)),
    }


def _config(config: Any) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in _NOT_OF_THE_MODEL}


def _tokenizer(model: LanguageModel) -> dict[str, Any]:
    """Vocabulary, merges, normaliser and special tokens; truncation and padding are settings of its last call."""
    whole = json.loads(model.tokenizer.backend_tokenizer.to_str())
    return {**whole, "truncation": None, "padding": None, "first tokens": encode(model.tokenizer, "A", with_start=True)}


def backbone_hash(model: LanguageModel, edited_layers: Sequence[int]) -> str:
    """SHA-256 over the names and bytes of all parameters but the editable weights of ``edited_layers``."""
    edited = {id(model.projection(layer).weight) for layer in edited_layers}
    digest = hashlib.sha256()
    for name, parameter in sorted(model.model.named_parameters()):
        if id(parameter) not in edited:
            digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
            digest.update(_bytes_of(parameter))
    return digest.hexdigest()


def layer_hash(model: LanguageModel, layer: int) -> str:
    """SHA-256 over the bytes of a layer's editable weight as it is now, in the model's dtype."""
    return hashlib.sha256(_bytes_of(model.weight_VK(layer))).hexdigest()


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data


def arithmetic_fingerprint(model: LanguageModel) -> dict[str, Any]:
    """Device, number types, threads, libraries and processor: the same sum is rounded otherwise on another of them."""
    return {
        "dtype": str(model.dtype),
        "device": model.device.type,
        "gpu": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "",
        "matmul": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "products": os.environ.get("MKL_CBWR", ""),
        "processor": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


@cache
def _processor() -> str:
    """The processor by what libraries choose their code by: its name and instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = {line.split(":")[0].strip(): line for line in reversed(lines) if ":" in line}
    return fingerprint_digest([named.get(key, "") for key in ("model name", "flags", "Features")])


@cache
def algorithm_version() -> str:
    """A digest of this package's code that makes targets, so that no change of it can meet old results."""
    digest = hashlib.sha256(consortium.__version__.encode())
    package = Path(__file__).resolve().parents[1]
    for path in sorted(path for folder in _ALGORITHM for path in (package / folder).rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def fingerprint_digest(value: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
