"""Files that are whole or absent: a reader, or the next process after a crash, sees the old file or the new one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

_TEMPORARY = ".writing-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to; when the block ends well it takes the place of ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by the process number alone: machines that share a folder may have equal ones.
    temporary = path.with_name(f"{_TEMPORARY}{uuid4().hex}-{path.name}")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a UTF-8 text file."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file; its folders are made."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as safetensors, atomically."""
    write_bytes(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """Arrays of a safetensors file; None when it is not there, damaged or not readable (it can be made again)."""
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError):
        return None


def remove_temporaries(folder: Path) -> None:
    """Remove what interrupted writers left anywhere under ``folder``."""
    for path in folder.rglob(f"{_TEMPORARY}*"):
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
