"""What of a run's files is as it was written: their digests, and what of them does not fit together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from safetensors import SafetensorError, safe_open

from consortium.common.errors import RunDirectoryError
from consortium.common.files import sha256
from consortium.records import entries

#: Stands for a key that is not there, in words.
_ABSENT = "not there"
#: What is said of a file of another digest.
DIFFERS = "is damaged: its SHA-256 differs from the one in manifest.json"
#: Bytes of a file that says nothing of its own size: TensorBoard's of one round, and what a run remembers.
_MOST_BYTES = 2**30


def file_digest(folder: Path, name: str) -> str:
    """SHA-256 of a file of a run directory; raises as :func:`consortium.records.entries.reading` does."""
    with entries.reading(folder, name) as file:
        return sha256(file)


def damage(folder: Path, name: str, digests: Sequence[str]) -> str | None:
    """What is wrong with a file of a run directory, in words; None where it has one of the digests."""
    try:
        with entries.reading(folder, name) as file:
            return None if has_digest(file, name, digests) else DIFFERS
    except FileNotFoundError:
        return "is missing"
    except RunDirectoryError as error:
        return f"cannot be read: {error.found.rstrip('.')}"


def has_digest(file: BufferedReader, name: str, digests: Sequence[str]) -> bool:
    """Whether an open file has one of the digests.

    It is not read where its size is not what its own beginning or end says: a terabyte of nothing is made in no time,
    and takes an hour to read.
    """
    if not _has_its_size(file, name):
        return False
    file.seek(0)
    return sha256(file) in digests


def _has_its_size(file: BufferedReader, name: str) -> bool:
    try:
        if name.endswith(".parquet"):
            pq.ParquetFile(file)
        elif name.endswith(".safetensors"):
            with safe_open(entries.path_of_open(file), framework="np"):
                pass
        else:
            return os.fstat(file.fileno()).st_size <= _MOST_BYTES
    except (pa.ArrowException, SafetensorError, OSError):
        return False
    return True


def unlike(path: Path, what: str) -> RunDirectoryError:
    """The error about a file that is not as it was written."""
    return RunDirectoryError(
        f"{path} {what}.",
        "the file as Consortium wrote it.",
        "restore it from a copy, or run the scenario again into another folder (the same seed gives the same run).",
    )


def differing(was: Any, now: Any, path: str = "") -> list[str]:
    """Where two plain values differ, in words: the key, what it was and what it is."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        keys = dict.fromkeys([*was, *now])
        pairs = ((f"{path}.{key}" if path else str(key), was.get(key, _ABSENT), now.get(key, _ABSENT)) for key in keys)
        return [words for key, left, right in pairs for words in differing(left, right, key)]
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        items = enumerate(zip(was, now, strict=True))
        return [words for place, (left, right) in items for words in differing(left, right, f"{path}.{place}")]
    return [] if was == now and type(was) is type(now) else [f"{path} was {was!r}, is {now!r}"]
