"""Raw records out of files and datasets, each with the place it stands at.

Files are read by the end of their names: ``.parquet``, ``.csv`` and ``.tsv`` as tables, everything else as JSON or JSON
lines; a further ``.gz`` unpacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from consortium.common.errors import FactsError, whole_reason
from consortium.common.reading import UnreadableError, is_file, is_folder, parse_json, read_text, refuse_many_lines
from consortium.data.formats.record import Record, shorten
from consortium.data.tables import delimiter_of, read_delimited, read_parquet

FILE_KINDS = "JSON, JSON lines, CSV (*.csv, *.tsv) or Parquet (*.parquet)"

_JSON_SHAPE = "one JSON object per line, or a file that is one JSON object or array of objects"


def read_file(path: Path) -> Iterator[Record]:
    """Records of a table, of a JSON array, of JSON lines, or the one record of a file that is one JSON object.

    Raises:
        FactsError: the file cannot be read, or a part of it is malformed; names the place.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return _numbered(read_parquet(path), str(path))
        delimiter = delimiter_of(path)
        if delimiter is not None:
            return _numbered(read_delimited(path, delimiter), str(path))
        text = read_text(path)
        refuse_many_lines(text)
    except UnreadableError as error:
        raise FactsError(
            f"{path}: {error}", f"a file of {FILE_KINDS}, in UTF-8", "convert it, or name another"
        ) from None
    return _json_records(text, str(path))


def read_files(paths: Iterable[Path]) -> Iterator[Record]:
    """Records of several files, one after the other; they are numbered through."""
    number = 0
    for path in paths:
        for record in read_file(path):
            number += 1
            yield Record(record.fields, record.source, number, record.line)


def _json_records(text: str, source: str) -> Iterator[Record]:
    """The array is told by its first character; blank lines between JSON lines count for nothing."""
    if text.lstrip().startswith("{") and (whole := _one_object(text)) is not None:
        yield _record(whole, source, 1, None if "\n" in text.strip() else 1)
        return
    if text.lstrip().startswith("["):
        for number, value in enumerate(_parse_json(text, source, 0), start=1):
            yield _record(value, source, number, None)
        return
    number = 0
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            number += 1
            yield _record(_parse_json(content, source, line - 1), source, number, line)


def _numbered(rows: Iterator[tuple[int | None, dict[str, Any]]], source: str) -> Iterator[Record]:
    """Records of a table's rows; its faults carry the file's name."""
    number = 0
    try:
        for line, fields in rows:
            number += 1
            yield Record(fields, source, number, line)
    except UnreadableError as error:
        place = source if error.line is None else f"{source}, line {error.line}"
        raise FactsError(f"{place}: {error}", f"a file of {FILE_KINDS}, in UTF-8", "correct the file") from None


def read_hub(name: str, config: str | None, split: str) -> Iterator[Record]:
    """Records of one split of a dataset that ``datasets.load_dataset`` opens: a hub id or a local folder."""
    for number, value in enumerate(_hub_rows(name, config, split), start=1):
        yield _record(value, f"hub:{name} ({split})", number, None)


def _hub_rows(name: str, config: str | None, split: str) -> Iterator[Any]:
    # Imported here: it takes seconds, and only this source needs it.
    import datasets  # type: ignore[import-untyped]

    source = f"hub:{name}"
    try:
        yield from datasets.load_dataset(name, config, split=split)
    except (ConnectionError, TimeoutError) as error:
        raise _unreachable(source, error) from error
    except Exception as error:
        # Builders of many kinds raise errors of many kinds.
        named = "" if config is None else f", config {config!r}"
        raise FactsError(
            f"{source}{named}, split {split!r}, cannot be opened: {whole_reason(error)}",
            "an existing dataset, configuration and split, whose files all have the same columns",
            "correct facts.source, facts.config or facts.split; name single files of it in facts.files where their "
            "columns differ; or see that the dataset is in the local cache when offline",
        ) from error


def hub_files(name: str, files: Sequence[str]) -> Iterator[Path]:
    """Named files of a dataset as local files: those of a local folder, or of a hub id, fetched one after the other.

    Raises:
        FactsError: a file is not there, cannot be fetched, or is not inside the folder.
    """
    for file in files:
        if Path(file).is_absolute() or ".." in Path(file).parts or not file.strip():
            raise FactsError(f"facts.files: {file!r} is not inside hub:{name}", "files of the dataset", "name others")
    for file in files:
        yield _in_folder(Path(name), file) if is_folder(Path(name)) else _fetched(name, file)


def _in_folder(folder: Path, file: str) -> Path:
    if is_file(folder / file):
        return folder / file
    there = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    raise FactsError(
        f"facts.files: {folder} has no file {file!r}", f"files such as {', '.join(there[:20])}", "correct facts.files"
    )


def _fetched(name: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, file, repo_type="dataset"))
    except (ConnectionError, TimeoutError) as error:
        raise _unreachable(f"hub:{name}", error) from error
    except Exception as error:
        raise FactsError(
            f"hub:{name}: the file {file!r} cannot be had: {whole_reason(error)}",
            "a file of an existing dataset, or of a local folder",
            "correct facts.source or facts.files, or see that the file is in the local cache when offline",
        ) from error


def _unreachable(source: str, error: Exception) -> FactsError:
    return FactsError(
        f"{source} cannot be reached: {whole_reason(error)}",
        "a hub that answers, or a dataset that is in the local cache",
        "check the network, or name a local file instead",
    )


def _one_object(text: str) -> Any:
    """The object that a whole file is, over as many lines as it likes; None for a file of JSON lines."""
    try:
        return parse_json(text)
    except UnreadableError:
        return None


def _parse_json(text: str, source: str, lines_before: int) -> Any:
    try:
        return parse_json(text)
    except UnreadableError as error:
        place = f"{source}, line {lines_before + (error.line or 1)}"
        place += "" if error.column is None else f", column {error.column}"
        raise FactsError(f"{place}: {error}", _JSON_SHAPE, "correct the file") from error


def _record(value: Any, source: str, number: int, line: int | None) -> Record:
    if not isinstance(value, dict):
        place = Record({}, source, number, line).place
        raise FactsError(f"{place}: {shorten(value)} is not an object", _JSON_SHAPE, "correct the record")
    return Record(value, source, number, line)
