"""What of a run's files is as it was written: their digests, and what of them does not fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consortium.errors import RunDirectoryError
from consortium.files import sha256
from consortium.records import entries

#: Stands for a key that is not there, in words.
_ABSENT = "not there"


def digest_of(folder: Path, name: str) -> str:
    """SHA-256 of a file of a run directory; raises as :func:`consortium.records.entries.reading` does."""
    with entries.reading(folder, name) as file:
        return sha256(file)


def damage(folder: Path, name: str, digests: Sequence[str]) -> str | None:
    """What is wrong with a file of a run directory, in words; None where it has one of the digests."""
    try:
        found = digest_of(folder, name)
    except FileNotFoundError:
        return "is missing"
    except RunDirectoryError as error:
        return f"cannot be read: {error.found}"
    return None if found in digests else "is damaged: its SHA-256 differs from the one in manifest.json"


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
