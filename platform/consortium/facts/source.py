"""Raw records out of files and datasets, each with the place it stands at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from consortium.errors import FactsError
from consortium.facts.record import Record, shorten

_JSON_SHAPE = "one JSON object per line, or a file that is one JSON object or array of objects"


def read_file(path: Path) -> Iterator[Record]:
    """Records of a JSON array, of JSON lines, or the one record of a file that is one JSON object.

    The array is told by its first character; blank lines between JSON lines count for nothing.
    """
    text = _read_text(path)
    if text.lstrip().startswith("{") and (whole := _one_object(text)) is not None:
        yield _record(whole, str(path), 1, None if "\n" in text.strip() else 1)
        return
    if text.lstrip().startswith("["):
        for number, value in enumerate(_parse_json(text, str(path), 0), start=1):
            yield _record(value, str(path), number, None)
        return
    number = 0
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            number += 1
            yield _record(_parse_json(content, str(path), line - 1), str(path), number, line)


def read_hub(name: str, split: str) -> Iterator[Record]:
    """Records of one split of a dataset that ``datasets.load_dataset`` opens: a hub id or a local folder."""
    # Imported here: it takes seconds, and only this source needs it.
    import datasets  # type: ignore[import-untyped]

    source = f"hub:{name}"
    try:
        dataset = datasets.load_dataset(name, split=split)
    except (ConnectionError, TimeoutError) as error:
        raise FactsError(
            f"{source} cannot be reached: {_first_line(error)}",
            "a hub that answers, or a dataset that is in the local cache",
            "check the network, or name a local file instead",
        ) from error
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise FactsError(
            f"{source}, split {split!r}, cannot be opened: {_first_line(error)}",
            "an existing dataset and split",
            "correct facts.source or facts.split, or see that the dataset is in the local cache when offline",
        ) from error
    for number, value in enumerate(dataset, start=1):
        yield _record(value, f"{source} ({split})", number, None)


def _one_object(text: str) -> Any:
    """The object that a whole file is, over as many lines as it likes; None for a file of JSON lines."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FactsError(f"{path}: byte {error.start} is not UTF-8", "a text file in UTF-8", "convert it") from error
    except OSError as error:
        raise FactsError(f"{path} cannot be read: {error.strerror}", "a readable file", "name another file") from error


def _parse_json(text: str, source: str, lines_before: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{source}, line {lines_before + error.lineno}, column {error.colno}"
        raise FactsError(f"{place}: invalid JSON: {error.msg}", _JSON_SHAPE, "correct the file") from error


def _record(value: Any, source: str, number: int, line: int | None) -> Record:
    if not isinstance(value, dict):
        place = Record({}, source, number, line).place
        raise FactsError(f"{place}: {shorten(value)} is not an object", _JSON_SHAPE, "correct the record")
    return Record(value, source, number, line)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
