"""Checkpoints: edited weights, and history or retained sum, of every arm after a round, as safetensors.

Shapes: K key width, V value width, N columns. Tensors: ``layer.<n>.weight`` [V, K] float32; of a history, as it is
(:mod:`consortium.merging.history`), ``layer.<n>.history.base.<round>`` [K, K] and
``layer.<n>.history.columns.<round>`` [K, N], float64; of a retained sum (:mod:`consortium.merging.retained_sum`)
``layer.<n>.retained.<array>``, float64, with what else there is to say of it as JSON in the metadata ``retained.<n>``.
Refusals at the arm's screening are JSON, too: ``rejected``, a list of [round, party].
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from consortium.common.errors import RunDirectoryError
from consortium.common.files import sha256
from consortium.merging.arm_state import ArmState
from consortium.merging.history import GramHistory
from consortium.merging.retained_sum import Live, retained_arrays, retained_from
from consortium.records import entries
from consortium.records.digests import damage

CHECKPOINT_FOLDER = "checkpoints"
#: Names of a checkpoint's tensors.
_TENSOR = re.compile(r"layer\.[0-9]+\.(weight|history\.(base|columns)\.[0-9]+|retained\..+)")


def folder_of(round: int) -> str:
    """Path of a round's checkpoints, relative to the run directory."""
    return f"{CHECKPOINT_FOLDER}/round-{round:04d}"


def checkpoint_path(arm: str, round: int) -> str:
    """Path of a checkpoint, relative to the run directory."""
    return f"{folder_of(round)}/{arm}.safetensors"


def save(folder: Path, state: ArmState) -> str:
    """Write an arm's checkpoint into the run directory ``folder``; returns the file's SHA-256."""
    tensors = {f"layer.{n}.weight": np.ascontiguousarray(each, np.float32) for n, each in state.weights.items()}
    tensors |= {name: array for n, each in state.history.items() for name, array in _history_tensors(n, each).items()}
    metadata = {"arm": state.arm, "round": str(state.round)}
    if state.rejected:
        metadata["rejected"] = json.dumps(state.rejected)
    for layer, retained in state.retained.items():
        header, arrays = retained_arrays(retained)
        metadata[f"retained.{layer}"] = json.dumps(header)
        tensors |= {f"layer.{layer}.retained.{name}": np.ascontiguousarray(array) for name, array in arrays.items()}
    with entries.replacing_entry(folder, checkpoint_path(state.arm, state.round)) as temporary:
        save_file(tensors, temporary, metadata=metadata)
        with temporary.open("rb") as file:
            return sha256(file)


def load(folder: Path, name: str, digest: str, layer_shapes: Mapping[int, tuple[int, int]] | None = None) -> ArmState:
    """Read a checkpoint by its path in a run directory.

    Raises RunDirectoryError when the file is missing or is not what was written.

    It is what was written if it has the digest, and is of the arm and round that its path says. With
    ``layer_shapes``, layer → (V, K), its arrays must have the sizes that follow from them.
    """
    path = folder / name
    what = damage(folder, name, [digest])
    if what is not None:
        raise _damaged(path, what)
    try:
        with entries.reading(folder, name) as opened, safe_open(entries.path_of_open(opened), framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise _damaged(path, f"cannot be read: {error}") from error
    if checkpoint_path(metadata.get("arm", ""), _number(metadata.get("round", ""))) != name:
        arm, round = metadata.get("arm"), metadata.get("round")
        raise _damaged(path, f"is of another arm or round: it says arm {arm}, round {round}")
    strange = [tensor for tensor in tensors if not _TENSOR.fullmatch(tensor)]
    if strange:
        raise _damaged(path, f"holds other tensors than a checkpoint: {strange[0]}")
    try:
        state = _state_of(metadata, tensors)
    except (KeyError, ValueError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"holds other tensors than a checkpoint: {type(error).__name__}: {error}") from error
    misfit = None if layer_shapes is None else _misfit(state, layer_shapes)
    if misfit is not None:
        raise _damaged(path, misfit)
    return state


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else -1


def _state_of(metadata: Mapping[str, str], tensors: dict[str, NDArray[Any]]) -> ArmState:
    return ArmState(
        arm=metadata["arm"],
        round=int(metadata["round"]),
        weights=_weights_of(tensors),
        history=_histories_of(metadata["arm"], tensors),
        retained=_retained_of(metadata, tensors),
        rejected=tuple((int(number), int(party)) for number, party in json.loads(metadata.get("rejected", "[]"))),
    )


def _misfit(state: ArmState, layer_shapes: Mapping[int, tuple[int, int]]) -> str | None:
    """What of a state cannot belong to the run, in words: layers, shapes, types, or numbers that are not finite."""
    shapes = {layer: weight_VK.shape for layer, weight_VK in state.weights.items()}
    if shapes != dict(layer_shapes):
        return f"holds weights {_named(shapes)}, where the run has {_named(layer_shapes)}"
    if not {*state.history, *state.retained} <= {*layer_shapes}:
        return "holds a history of a layer that the run does not edit"
    arrays: list[tuple[NDArray[Any], type]] = [(each, np.float32) for each in state.weights.values()]
    for layer, history in state.history.items():
        width = layer_shapes[layer][1]
        if history.base_KK is not None and history.base_KK.shape != (width, width):
            return f"holds a history of shape {history.base_KK.shape} for layer {layer}, whose keys have width {width}"
        if any(columns_KN.ndim != 2 or columns_KN.shape[0] != width for columns_KN in history.columns.values()):
            return f"holds columns of another width than {width}, that of the keys of layer {layer}"
        base = [] if history.base_KK is None else [history.base_KK]
        arrays += [(each, np.float64) for each in (*base, *history.columns.values())]
    for layer, retained in state.retained.items():
        for name, array in retained_arrays(retained)[1].items():
            if not _fits(name.rpartition("_")[2], array.shape, layer_shapes[layer]):
                return f"holds a retained sum {name} of shape {array.shape} for layer {layer}"
            arrays.append((array, np.float64))
    if any(array.dtype != kind for array, kind in arrays):
        return "holds numbers of another type than it was written in"
    return None if all(np.isfinite(array).all() for array, _ in arrays) else "holds numbers that are not finite"


def _fits(letters: str, shape: Sequence[int], widths: tuple[int, int]) -> bool:
    """Whether an array has the shape that the letters at the end of its name say; V and K are the layer's widths."""
    sizes = dict(zip("VK", widths, strict=True))
    return len(letters) == len(shape) and all(
        sizes.get(letter, size) == size for letter, size in zip(letters, shape, strict=True)
    )


def _named(shapes: Mapping[int, Sequence[int]]) -> str:
    return (
        ", ".join(f"{'×'.join(map(str, shape))} of layer {layer}" for layer, shape in sorted(shapes.items())) or "none"
    )


def _weights_of(tensors: dict[str, NDArray[Any]]) -> dict[int, NDArray[Any]]:
    names = {int(name.split(".")[1]): name for name in tensors if name.endswith("weight")}
    return {layer: tensors[names[layer]] for layer in sorted(names)}


def _history_tensors(layer: int, history: GramHistory) -> dict[str, NDArray[Any]]:
    base = {} if history.base_KK is None else {f"base.{history.base_round}": history.base_KK}
    columns = {f"columns.{number}": columns_KN for number, columns_KN in history.columns.items()}
    return {f"layer.{layer}.history.{name}": np.ascontiguousarray(each) for name, each in (base | columns).items()}


def _histories_of(arm: str, tensors: dict[str, NDArray[Any]]) -> dict[int, GramHistory]:
    found: dict[int, GramHistory] = {}
    # Numbers as numbers: round 10 comes after round 9, and a base before the columns added to it.
    parts = [name.split(".") for name in tensors if ".history." in name]
    for layer, what, number in sorted((int(part[1]), part[3], int(part[4])) for part in parts):
        array = tensors[f"layer.{layer}.history.{what}.{number}"]
        history = found.get(layer, GramHistory(arm))
        if what == "base":
            found[layer] = replace(history, base_round=number, base_KK=array)
        else:
            found[layer] = replace(history, columns={**history.columns, number: array})
    return found


def _retained_of(metadata: Mapping[str, str], tensors: dict[str, NDArray[Any]]) -> dict[int, Live]:
    headers = {
        int(key.partition(".")[2]): json.loads(text) for key, text in metadata.items() if key.startswith("retained.")
    }
    arrays: dict[int, dict[str, NDArray[Any]]] = {layer: {} for layer in sorted(headers)}
    for layer, name in (name.removeprefix("layer.").split(".retained.") for name in tensors if ".retained." in name):
        arrays[int(layer)][name] = tensors[f"layer.{layer}.retained.{name}"]
    return {layer: retained_from(headers[layer], own) for layer, own in arrays.items()}


def keep_only(folder: Path, paths: Iterable[str]) -> None:
    """Remove checkpoint folders of rounds of which no file is among ``paths``."""
    kept = {Path(path).parent.name for path in paths}
    for each in entries.names(folder, CHECKPOINT_FOLDER):
        if each.startswith("round-") and each not in kept:
            entries.remove_entry(folder, f"{CHECKPOINT_FOLDER}/{each}")


def _damaged(path: Path, what: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"The checkpoint {path} {what}.",
        "the file as Consortium wrote it.",
        "restore it from a copy, or run the scenario again into another folder (the same seed gives the same run).",
    )
