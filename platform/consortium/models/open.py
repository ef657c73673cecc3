"""Opening a causal language model: by hub id, local folder, GGUF file, or the bundled name ``smollm2-135m``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from consortium.common.counting import count
from consortium.common.errors import ModelError, whole_reason
from consortium.common.reading import expanded, is_file, is_folder, why_no_file
from consortium.models.bundled import bundled_folder
from consortium.models.context import Reading, reading_of
from consortium.models.description import BUNDLED_NAME, ModelDescription
from consortium.models.device import find_device
from consortium.models.folder import CONFIG, INDEX, check_folder, refuse_code, shapes, weight_files
from consortium.models.gguf import SUFFIX, gguf_folder
from consortium.models.language import LanguageModel, check_is_causal, language_model
from consortium.models.layouts import ModelLayout, layout_of
from consortium.models.sizes import check_sizes
from consortium.models.soundness import check_soundness
from consortium.models.vocabulary import check_tokens
from consortium.scenario.schema import LanguageModelSpec

#: Transformers types its factories in part only.
_CausalLM: Any = AutoModelForCausalLM

#: Tensors that files hold beside the model's own and that it computes itself: masks, and frequencies of rotations.
_COMPUTED = re.compile(r"\.(attn\.(masked_)?bias|rotary_emb\.inv_freq)$")


def describe_model(spec: LanguageModelSpec) -> ModelDescription:
    """Sizes of a model from its config alone; no weights are read.

    A GGUF file is unpacked, if it has not been before: reading its config alone takes about as long.

    Raises:
        ModelError: there is no such model, or its architecture is not known or not causal.
    """
    place = _place(spec)
    layout = _layout(spec.name, place)
    model = _empty(spec.name, place)
    check_is_causal(model.config)
    if Path(place).is_dir() and _has_weights(Path(place)):
        _check_shapes(Path(place), model)
    blocks = model.get_submodule(layout.blocks)
    weight = blocks[0].get_submodule(layout.projection).weight
    value_width, key_width = reversed(weight.shape) if layout.transposed else weight.shape
    hidden_width = model.config.get_text_config().hidden_size
    return ModelDescription(model.config.model_type, len(blocks), key_width, value_width, hidden_width)


def read_reading(spec: LanguageModelSpec) -> Reading:
    """How long a text a model reads, from its config alone; the bundled model is not unpacked for it
    (:func:`consortium.models.description.describe_reading`).

    Raises:
        ModelError: there is no such model, or its architecture is not known.
    """
    with _refused(spec.name, "a config.json that transformers reads"):
        return reading_of(AutoConfig.from_pretrained(_place(spec), trust_remote_code=False))


def open_tokenizer(spec: LanguageModelSpec, cache_dir: Path | None = None) -> PreTrainedTokenizerBase:
    """A model's tokenizer.

    Args:
        spec: the model's name; with the dtype in which the bundled model or a GGUF file is unpacked.
        cache_dir: where that is done, as for :func:`open_model`.

    Raises:
        ModelError: there is none, or none that transformers reads.
    """
    place = _unpacked(spec, cache_dir)
    with _refused(spec.name, "a tokenizer beside the model (tokenizer.json and tokenizer_config.json)"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    return tokenizer


def _unpacked(spec: LanguageModelSpec, cache_dir: Path | None) -> str:
    """The folder or hub id of a model, the bundled one or a GGUF file unpacked if it has not been before."""
    return str(bundled_folder(spec.dtype, cache_dir)) if spec.name == BUNDLED_NAME else _place(spec, cache_dir)


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
    place = _unpacked(spec, cache_dir)
    layout = _layout(spec.name, place)
    transformers_logging.disable_progress_bar()
    tokenizer = open_tokenizer(spec, cache_dir)
    if Path(place).is_dir():
        _check_shapes(Path(place), _empty(spec.name, place))
    with _refused(spec.name, "weights that transformers reads (model.safetensors)"):
        # Transformers asks a service of the hub to convert pickled weights otherwise, and waits for it.
        os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
        model, loading = _CausalLM.from_pretrained(
            place,
            dtype=getattr(torch, spec.dtype),
            attn_implementation=layout.attention,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    _check_loading(spec.name, model, loading)
    check_tokens(spec.name, tokenizer, model)
    opened = language_model(model.to(device), tokenizer)
    check_soundness(opened, spec.name)
    return opened


def _empty(name: str, place: str) -> Any:
    """A model by its configuration alone, without memory behind it: it costs milliseconds, and has all shapes."""
    with _refused(name, "a config.json that transformers reads"):
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        with torch.device("meta"):
            return _CausalLM.from_config(config, trust_remote_code=False)


def _has_weights(folder: Path) -> bool:
    """Whether a folder holds files of weights, of whatever kind; a description needs none."""
    return any(
        path.suffix in (".safetensors", ".bin", ".pt", ".pth") or path.name == INDEX for path in folder.iterdir()
    )


def _check_shapes(folder: Path, model: Any) -> None:
    """Refuse weights whose shapes are others than the configuration says, by the headers of their files."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for path in weight_files(folder):
        for name, shape in shapes(path).items():
            if name in expected and shape != expected[name]:
                raise ModelError(
                    f"{path}: tensor {name} has the shape {list(shape)}",
                    f"{list(expected[name])}, by {folder / CONFIG}",
                    "use the configuration that belongs to the weights",
                )


def _check_loading(name: str, model: Any, loading: dict[str, Any]) -> None:
    """Refuse a model some of whose weights are not in the files, and files with weights that it has no place for."""
    missing = sorted(loading["missing_keys"])
    if missing:
        raise ModelError(
            f"the weights of {name!r} lack {', '.join(missing[:3])}{_and_more(missing)}",
            f"all {count(len(model.state_dict()), 'tensor')} of a {model.config.model_type} model",
            "save the whole model again, or download it again",
        )
    mismatched = sorted(str(each) for each in loading.get("mismatched_keys", ()))
    if mismatched:
        raise ModelError(
            f"weights of {name!r} have other shapes than its config.json says: {mismatched[0]}",
            "a configuration and weights of one model",
            "use the configuration that belongs to the weights",
        )
    unknown = sorted(key for key in loading["unexpected_keys"] if not _COMPUTED.search(key))
    if unknown:
        raise ModelError(
            f"the files of {name!r} hold weights that a {model.config.model_type} model of its config.json has no "
            f"place for: {', '.join(unknown[:3])}{_and_more(unknown)}",
            f"the {count(len(model.state_dict()), 'tensor')} of such a model and no others",
            "correct model_type or the number of layers in config.json, or save the language model alone",
        )


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 3} more" if len(names) > 3 else ""


def _place(spec: LanguageModelSpec, cache_dir: Path | None = None) -> str:
    """The folder a name stands for, or the name itself where it can only be a hub id."""
    name = spec.name
    place = expanded(name)
    if is_folder(place):
        return str(place)
    if is_file(place) and place.suffix == SUFFIX:
        return str(gguf_folder(place, spec.dtype, cache_dir))
    if (
        is_file(place)
        or why_no_file(place) is not None
        or name.startswith((".", "/", "~"))
        or name.count("/") > 1
        or not name.strip()
    ):
        raise ModelError(
            f"there is no folder {name!r}" + (", and as a file it is not GGUF" if is_file(place) else ""),
            f"`{BUNDLED_NAME}`, a folder with config.json, model.safetensors and tokenizer.json, a file *{SUFFIX}, "
            "or a hub id",
            "correct model.name; a relative folder is looked up from where the command is run",
        )
    return name


def _layout(name: str, place: str) -> ModelLayout:
    """The layout by the config's model_type, read before transformers judges whether it knows the type."""
    if Path(place).is_dir():
        check_folder(Path(place))
    with _refused(name, f"`{BUNDLED_NAME}`, a folder with a config.json, or a hub id that can be reached"):
        config, _ = PreTrainedConfig.get_config_dict(place)
    where = str(Path(place) / CONFIG) if Path(place).is_dir() else f"the config.json of {name!r}"
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        found = f"the model {name!r} has no model_type in a config.json"
        raise ModelError(
            found if model_type is None else f"{where}, field `model_type`: {model_type!r:.60}",
            "the name of an architecture, in a model saved by transformers",
            f"save the model with save_pretrained, or set model.name to {BUNDLED_NAME} or another folder",
        )
    refuse_code(config, where, model_type)
    layout = layout_of(model_type)
    check_sizes(config, where)
    return layout


@contextmanager
def _refused(name: str, expected: str) -> Iterator[None]:
    """Turn what transformers raises into a ModelError: of many kinds, for what is absent, damaged or unknown to it."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"the model {name!r} cannot be opened: {whole_reason(error)}",
            expected,
            "check the name; for a hub id also the network and, where access is gated, `hf auth login`; "
            "or download the model and name its folder",
        ) from error
