"""Files that are whole or absent: written beside their place, synced, and renamed into it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save


def cache_folder() -> Path:
    """Where things are kept that can be made again: ``$CONSORTIUM_CACHE``, or ``~/.cache/consortium``."""
    named = os.environ.get("CONSORTIUM_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "consortium"


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically; folders are made. A reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as safetensors, atomically."""
    write_bytes(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """Arrays of a safetensors file; None when it is not there or damaged (it can be made again)."""
    try:
        return dict(load_file(path))
    except (FileNotFoundError, SafetensorError):
        return None
