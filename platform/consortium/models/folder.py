"""A model's folder, looked at before transformers opens it: nothing in it runs, and nothing outside it is read.

Weights are read from safetensors alone, whose header says names and shapes without unpacking anything. Pickled weights
can run code when they are read; so can files that ``auto_map`` names. Neither is ever opened.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consortium.common.errors import ModelError
from consortium.common.reading import UnreadableError, open_file, parse_json, read_text

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

_MOST_JSON_BYTES = 1 << 26
_MOST_HEADER_BYTES = 1 << 24
#: Of a tokenizer's file; those of the largest vocabularies have about 35 million.
_MOST_OTHER_BYTES = 1 << 28
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_CONVERT = (
    "convert it, if you trust who made it, in a process of its own: "
    "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(FOLDER)"
)


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds no model as this one reads it.

    Raises:
        ModelError: files that lead out of the folder, code that would have to run, adapters, or damaged JSON.
    """
    config = read_json_object(folder / CONFIG)
    if (folder / TOKENIZER_CONFIG).exists():
        refuse_code(
            read_json_object(folder / TOKENIZER_CONFIG), str(folder / TOKENIZER_CONFIG), config.get("model_type")
        )
    refuse_code(config, str(folder / CONFIG), config.get("model_type"))
    if "transformers_weights" in config:
        raise ModelError(
            f"{folder / CONFIG}: transformers_weights names a file of weights",
            f"weights in {WEIGHTS}, or in the files of {INDEX}",
            "rename the file, and remove the field",
        )
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder} holds an adapter (adapter_config.json) for another model",
            "a whole model",
            "merge the adapter into its model (peft: merge_and_unload) and save that",
        )
    for path in folder.iterdir():
        if path.suffix in (".json", ".safetensors", ".model", ".txt", ".jinja"):
            _refuse_outside(folder, path, "")
            if path.suffix != ".safetensors":
                _refuse_large(path)


def weight_files(folder: Path) -> list[Path]:
    """The files of a folder's weights, in order.

    Raises:
        ModelError: there are none that are safetensors, or the index names others than files of the folder.
    """
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        return _indexed(folder)
    pickled = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickled:
        raise ModelError(
            f"the weights in {folder} are pickled ({pickled[0]}), and reading such a file can run code",
            f"weights as safetensors ({WEIGHTS}, or files and {INDEX})",
            _CONVERT,
        )
    raise ModelError(
        f"{folder} holds no weights",
        f"{WEIGHTS}, or files and {INDEX}",
        "save the whole model there, or download it again",
    )


def _indexed(folder: Path) -> list[Path]:
    place = folder / INDEX
    names = read_json_object(place).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(f"{place}: no weight_map from tensors to files", "an index that transformers saved", _AGAIN)
    files = [folder / name for name in dict.fromkeys(names.values())]
    for path, name in zip(files, dict.fromkeys(names.values()), strict=True):
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise _outside(f"{place} names {name!r}")
        if path.suffix != ".safetensors":
            raise ModelError(f"{place} names {name!r}, which is no safetensors file", "files *.safetensors", _CONVERT)
        if not path.exists():
            raise ModelError(f"{place} names {name!r}, which is not there", "every file of the index", _AGAIN)
        _refuse_outside(folder, path, f"{place} names {name!r}: ")
    return files


_AGAIN = "save the whole model again, or download it again"


def _refuse_outside(folder: Path, path: Path, before: str) -> None:
    """Links may lead into the folder, or, in the hub's cache, into the blobs that its snapshots are made of."""
    inside = [folder.resolve()]
    if inside[0].parent.name == "snapshots":
        inside.append(inside[0].parent.parent / "blobs")
    if not any(path.resolve().is_relative_to(each) for each in inside):
        raise _outside(f"{before}{path} leads to {path.resolve()}")


def _refuse_large(path: Path) -> None:
    """Libraries read what is no tensor as a whole; a file of any length is made in no time."""
    size = path.stat().st_size if path.exists() else 0
    if size > _MOST_OTHER_BYTES:
        raise ModelError(
            f"{path} has {size:,} bytes, and {_MOST_OTHER_BYTES:,} are read at most",
            "a file that transformers saved",
            _AGAIN,
        )


def _outside(found: str) -> ModelError:
    return ModelError(
        f"{found}, which is outside the model's folder", "files of the folder itself", "copy them into the folder"
    )


def refuse_code(config: Mapping[str, Any], place: str, model_type: Any) -> None:
    """Refuse a configuration by which transformers would have to run code that comes with the model.

    A ``auto_map`` that names the classes transformers itself has for the architecture asks for nothing: those are used.
    """
    auto_map = config.get("auto_map")
    if not auto_map:
        return
    named = list(auto_map.values()) if isinstance(auto_map, dict) else [auto_map]
    if isinstance(auto_map, dict) and set(auto_map) <= {"AutoConfig", "AutoModel", "AutoModelForCausalLM"}:
        own = _own_classes(model_type)
        if all(isinstance(each, str) and each.rpartition(".")[2] in own for each in named):
            return
    raise ModelError(
        f"{place}: auto_map names code that comes with the model ({json.dumps(named)[:100]}); it is never run",
        "a model and a tokenizer of transformers' own classes",
        "choose a model that needs no code of its own; or, where transformers has its classes, remove auto_map",
    )


def _own_classes(model_type: Any) -> set[str]:
    from transformers.models.auto import configuration_auto, modeling_auto

    tables = [
        getattr(configuration_auto, "CONFIG_MAPPING_NAMES", {}),
        getattr(modeling_auto, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", {}),
        getattr(modeling_auto, "MODEL_MAPPING_NAMES", {}),
    ]
    found = [table.get(model_type) for table in tables] if isinstance(model_type, str) else []
    return {name for name in found if isinstance(name, str)}


def read_json_object(path: Path) -> dict[str, Any]:
    """A file that is one JSON object.

    Raises:
        ModelError: it is not there, or something else.
    """
    try:
        value = parse_json(read_text(path, _MOST_JSON_BYTES))
    except UnreadableError as error:
        place = f"{path}" if error.line is None else f"{path}, line {error.line}, column {error.column}"
        raise ModelError(f"{place} cannot be opened: {error}", "a file that transformers saved", _AGAIN) from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} cannot be opened: it is no JSON object", "a file that transformers saved", _AGAIN)
    return value


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a safetensors file's tensors, by its header; the file is as long as that says.

    Raises:
        ModelError: it is no such file, damaged, or cut off.
    """
    try:
        with open_file(path, 1 << 45) as file:
            size = path.stat().st_size
            first = file.read(8)
            length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
            if not 0 < length <= min(_MOST_HEADER_BYTES, size - 8):
                raise UnreadableError(f"its header says a length of {length:,} bytes, in a file of {size:,}")
            header = parse_json(file.read(length).decode("utf-8"))
        return _parsed(header, size - 8 - length)
    except (UnreadableError, UnicodeDecodeError, OSError) as error:
        raise ModelError(
            f"{path} cannot be opened: {error}", f"weights as safetensors, such as {WEIGHTS}", _AGAIN
        ) from None


def _parsed(header: Any, num_bytes: int) -> dict[str, tuple[int, ...]]:
    if not isinstance(header, dict):
        raise UnreadableError("its header is no JSON object")
    found: dict[str, tuple[int, ...]] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        entry = entry if isinstance(entry, dict) else {}
        shape, offsets = _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
        if shape is None or offsets is None or len(offsets) != 2:
            raise UnreadableError(f"its header has no shape and place of tensor {name!r}")
        if not offsets[0] <= offsets[1] <= num_bytes:
            raise UnreadableError(f"it is cut off: tensor {name!r} ends at byte {offsets[1]:,} of {num_bytes:,}")
        found[name] = shape
    return found


def _counts(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list) or not all(type(each) is int and each >= 0 for each in value):
        return None
    return tuple(value)
