"""Checkpoints: edited weights and history of every lane after a round, as safetensors.

Shapes: K key width, V value width. Tensors: ``layer.<n>.weight`` [V, K] float32, ``layer.<n>.history`` [K, K] float64.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from consortium.errors import RunDirectoryError
from consortium.files import replacing, sha256
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
    tensors |= {f"layer.{n}.history": np.ascontiguousarray(each, np.float64) for n, each in state.history.items()}
    with replacing(folder / path_of(state.lane, state.round)) as temporary:
        save_file(tensors, temporary, metadata={"lane": state.lane, "round": str(state.round)})
        return sha256(temporary)


def load(path: Path, digest: str) -> LaneState:
    """Read a checkpoint; raises RunDirectoryError when the file is missing or is not what was written."""
    if not path.exists():
        raise _damaged(path, "is missing")
    if sha256(path) != digest:
        raise _damaged(path, "is damaged: its SHA-256 differs from the one in manifest.json")
    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = file.metadata()
    except SafetensorError as error:
        raise _damaged(path, f"cannot be read: {error}") from error
    return LaneState(
        lane=metadata["lane"],
        round=int(metadata["round"]),
        weights=_by_layer(tensors, "weight"),
        history=_by_layer(tensors, "history"),
    )


def _by_layer(tensors: dict[str, NDArray[Any]], what: str) -> dict[int, NDArray[Any]]:
    names = {int(name.split(".")[1]): name for name in tensors if name.endswith(what)}
    return {layer: tensors[names[layer]] for layer in sorted(names)}


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
