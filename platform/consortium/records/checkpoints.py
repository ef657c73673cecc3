"""Checkpoints: edited weights, and history or live sums, of every lane after a round, as safetensors.

Shapes: K key width, V value width, N columns. Tensors: ``layer.<n>.weight`` [V, K] float32; of a history, as it is
(:mod:`consortium.merging.history`), ``layer.<n>.history.base.<round>`` [K, K] and
``layer.<n>.history.columns.<round>`` [K, N], float64; of a live sum (:mod:`consortium.merging.live`)
``layer.<n>.live.<array>``, float64, with what else there is to say of it as JSON in the metadata ``live.<n>``.
Refusals at the lane's door are JSON, too: ``refused``, a list of [round, party].
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from consortium.errors import RunDirectoryError
from consortium.files import replacing, sha256
from consortium.merging.history import GramHistory
from consortium.merging.live import Live, live_arrays, live_from
from consortium.state import LaneState

FOLDER = "checkpoints"


def folder_of(round: int) -> str:
    """Path of a round's checkpoints, relative to the run directory."""
    return f"{FOLDER}/round-{round:04d}"


def path_of(lane: str, round: int) -> str:
    """Path of a checkpoint, relative to the run directory."""
    return f"{folder_of(round)}/{lane}.safetensors"


def save(folder: Path, state: LaneState) -> str:
    """Write a lane's checkpoint into the run directory ``folder``; returns the file's SHA-256."""
    tensors = {f"layer.{n}.weight": np.ascontiguousarray(each, np.float32) for n, each in state.weights.items()}
    tensors |= {name: array for n, each in state.history.items() for name, array in _history_tensors(n, each).items()}
    metadata = {"lane": state.lane, "round": str(state.round)}
    if state.refused:
        metadata["refused"] = json.dumps(state.refused)
    for layer, live in state.live.items():
        header, arrays = live_arrays(live)
        metadata[f"live.{layer}"] = json.dumps(header)
        tensors |= {f"layer.{layer}.live.{name}": np.ascontiguousarray(array) for name, array in arrays.items()}
    with replacing(folder / path_of(state.lane, state.round)) as temporary:
        save_file(tensors, temporary, metadata=metadata)
        return sha256(temporary)


def damage(path: Path, digest: str) -> str | None:
    """What is wrong with a checkpoint, in words; None where it is what was written."""
    try:
        found = sha256(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if found == digest else "is damaged: its SHA-256 differs from the one in manifest.json"


def load(path: Path, digest: str) -> LaneState:
    """Read a checkpoint; raises RunDirectoryError when the file is missing or is not what was written."""
    what = damage(path, digest)
    if what is not None:
        raise _damaged(path, what)
    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = file.metadata()
    except SafetensorError as error:
        raise _damaged(path, f"cannot be read: {error}") from error
    return LaneState(
        lane=metadata["lane"],
        round=int(metadata["round"]),
        weights=_weights_of(tensors),
        history=_histories_of(metadata["lane"], tensors),
        live=_live_of(metadata, tensors),
        refused=tuple((number, party) for number, party in json.loads(metadata.get("refused", "[]"))),
    )


def _weights_of(tensors: dict[str, NDArray[Any]]) -> dict[int, NDArray[Any]]:
    names = {int(name.split(".")[1]): name for name in tensors if name.endswith("weight")}
    return {layer: tensors[names[layer]] for layer in sorted(names)}


def _history_tensors(layer: int, history: GramHistory) -> dict[str, NDArray[Any]]:
    base = {} if history.base_KK is None else {f"base.{history.base_round}": history.base_KK}
    columns = {f"columns.{number}": columns_KN for number, columns_KN in history.columns.items()}
    return {f"layer.{layer}.history.{name}": np.ascontiguousarray(each) for name, each in (base | columns).items()}


def _histories_of(lane: str, tensors: dict[str, NDArray[Any]]) -> dict[int, GramHistory]:
    found: dict[int, GramHistory] = {}
    # Numbers as numbers: round 10 comes after round 9, and a base before the columns added to it.
    parts = [name.split(".") for name in tensors if ".history." in name]
    for layer, what, number in sorted((int(part[1]), part[3], int(part[4])) for part in parts):
        array = tensors[f"layer.{layer}.history.{what}.{number}"]
        history = found.get(layer, GramHistory(lane))
        if what == "base":
            found[layer] = replace(history, base_round=number, base_KK=array)
        else:
            found[layer] = replace(history, columns={**history.columns, number: array})
    return found


def _live_of(metadata: dict[str, str], tensors: dict[str, NDArray[Any]]) -> dict[int, Live]:
    headers = {int(key.partition(".")[2]): json.loads(text) for key, text in metadata.items() if key[:5] == "live."}
    arrays: dict[int, dict[str, NDArray[Any]]] = {layer: {} for layer in sorted(headers)}
    for layer, name in (name.removeprefix("layer.").split(".live.") for name in tensors if ".live." in name):
        arrays[int(layer)][name] = tensors[f"layer.{layer}.live.{name}"]
    return {layer: live_from(headers[layer], own) for layer, own in arrays.items()}


def keep_only(folder: Path, paths: Iterable[str]) -> None:
    """Remove checkpoint folders of rounds of which no file is among ``paths``."""
    kept = {Path(path).parent.name for path in paths}
    for each in (folder / FOLDER).glob("round-*"):
        if each.name not in kept:
            shutil.rmtree(each)


def _damaged(path: Path, what: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"The checkpoint {path} {what}.",
        "the file as Consortium wrote it.",
        "restore it from a copy, or run the scenario again into another folder (the same seed gives the same run).",
    )
