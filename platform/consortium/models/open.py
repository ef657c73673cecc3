"""Opening a causal language model: by hub id, local folder, GGUF file, or the bundled name ``smollm2-135m``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig
from transformers.utils import logging as transformers_logging

from consortium.errors import ModelError
from consortium.models.bundled import BUNDLED_NAME, bundled_folder
from consortium.models.device import find_device
from consortium.models.gguf import SUFFIX, gguf_folder
from consortium.models.language import LanguageModel, language_model
from consortium.models.layouts import Layout, layout_of
from consortium.models.soundness import check_soundness
from consortium.scenario.schema import LanguageModelSpec

#: Transformers types its factories in part only.
_CausalLM: Any = AutoModelForCausalLM

#: What transformers raises for models that are absent, incomplete, damaged or of unknown kinds.
_FAILURES = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)


@dataclass(frozen=True)
class ModelDescription:
    """A model's sizes: number of blocks, K and V of the editable weights, width of the hidden states."""

    model_type: str
    num_layers: int
    key_width: int
    value_width: int
    hidden_width: int


#: As its config says, so that a scenario is checked without unpacking the model.
_BUNDLED = ModelDescription("llama", num_layers=30, key_width=1536, value_width=576, hidden_width=576)


def describe_model(spec: LanguageModelSpec) -> ModelDescription:
    """Sizes of a model from its config alone; no weights are read and the bundled model is not unpacked.

    A GGUF file is unpacked, if it has not been before: reading its config alone takes about as long.

    Raises:
        ModelError: there is no such model, or its architecture is not known.
    """
    if spec.name == BUNDLED_NAME:
        return _BUNDLED
    place = _place(spec)
    layout = _layout(spec.name, place)
    with _refused(spec.name, "a config.json that transformers reads"):
        config = AutoConfig.from_pretrained(place)
        # Without memory behind it a model costs milliseconds, and its shapes need no knowledge of any config.
        with torch.device("meta"):
            model = _CausalLM.from_config(config)
    blocks = model.get_submodule(layout.blocks)
    weight = blocks[0].get_submodule(layout.projection).weight
    value_width, key_width = reversed(weight.shape) if layout.transposed else weight.shape
    hidden_width = model.config.get_text_config().hidden_size
    return ModelDescription(model.config.model_type, len(blocks), key_width, value_width, hidden_width)


def open_model(spec: LanguageModelSpec, cache_dir: Path | None = None) -> LanguageModel:
    """Load a model and its tokenizer onto a device, ready to be edited.

    Args:
        spec: name, device and dtype.
        cache_dir: where the bundled model or a GGUF file is unpacked; by default ``$CONSORTIUM_CACHE`` or
            ``~/.cache/consortium``.

    Raises:
        ModelError: no such model, an unknown architecture, a file missing or damaged, no such device, or weights or
            logits that are not finite.
    """
    device = find_device(spec.device)
    place = str(bundled_folder(spec.dtype, cache_dir)) if spec.name == BUNDLED_NAME else _place(spec, cache_dir)
    layout = _layout(spec.name, place)
    transformers_logging.disable_progress_bar()
    with _refused(spec.name, "a tokenizer beside the model (tokenizer.json and tokenizer_config.json)"):
        tokenizer = AutoTokenizer.from_pretrained(place)
    with _refused(spec.name, "weights that transformers reads (model.safetensors)"):
        model, loading = _CausalLM.from_pretrained(
            place,
            dtype=getattr(torch, spec.dtype),
            attn_implementation=layout.attention,
            output_loading_info=True,
        )
    if loading["missing_keys"]:
        raise ModelError(
            f"the weights of {spec.name!r} lack {', '.join(sorted(loading['missing_keys'])[:3])}",
            f"all {len(model.state_dict())} tensors of a {model.config.model_type} model",
            "save the whole model again, or download it again",
        )
    opened = language_model(model.to(device), tokenizer)
    check_soundness(opened, spec.name)
    return opened


def _place(spec: LanguageModelSpec, cache_dir: Path | None = None) -> str:
    """The folder a name stands for, or the name itself where it can only be a hub id."""
    name = spec.name
    place = Path(name).expanduser()
    if place.is_dir():
        return str(place)
    if place.is_file() and place.suffix == SUFFIX:
        return str(gguf_folder(place, spec.dtype, cache_dir))
    if place.is_file() or name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip():
        raise ModelError(
            f"there is no folder {name!r}" + (", and as a file it is not GGUF" if place.is_file() else ""),
            f"`{BUNDLED_NAME}`, a folder with config.json, model.safetensors and tokenizer.json, a file *{SUFFIX}, "
            "or a hub id",
            "correct model.name; a relative folder is looked up from where the command is run",
        )
    return name


def _layout(name: str, place: str) -> Layout:
    """The layout by the config's model_type, read before transformers judges whether it knows the type."""
    with _refused(name, f"`{BUNDLED_NAME}`, a folder with a config.json, or a hub id that can be reached"):
        config, _ = PreTrainedConfig.get_config_dict(place)
    if "model_type" not in config:
        raise ModelError(f"the model {name!r} has no model_type in a config.json", "a model saved by transformers")
    return layout_of(config["model_type"])


@contextmanager
def _refused(name: str, expected: str) -> Iterator[None]:
    """Turn what transformers raises into a ModelError."""
    try:
        yield
    except _FAILURES as error:
        reason: Any = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"the model {name!r} cannot be opened: {reason[0]}",
            expected,
            "check the name; for a hub id also the network and, where access is gated, `hf auth login`; "
            "or download the model and name its folder",
        ) from error
