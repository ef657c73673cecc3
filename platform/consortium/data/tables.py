"""Tables of records: CSV and Parquet, row by row as plain data.

A cell of a CSV file holds text, and nothing where it is empty; lists and objects stand in it as JSON.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from consortium.common.counting import count
from consortium.common.errors import whole_reason
from consortium.common.reading import (
    MOST_BYTES,
    MOST_PARTS,
    UnreadableError,
    open_file,
    parse_json,
    read_text,
    refuse_many_lines,
)

TextRow = tuple[int | None, dict[str, Any]]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
#: What stands in a comma's place where commas are decimal signs, or where a table was pasted.
_IN_PLACE_OF_A_COMMA = ";\t|"
_ROWS_AT_ONCE = 100
#: Column that pandas writes for the numbers of rows.
_ROW_NUMBERS = re.compile(r"__index_level_\d+__|")


def delimiter_of(path: Path) -> str | None:
    """What separates the cells of a file, by its name; None where it is no such table."""
    inner = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return _DELIMITERS.get(inner.suffix.lower())


def read_delimited(path: Path, delimiter: str) -> Iterator[TextRow]:
    """Line and fields of every row, under the names of the first line.

    Raises:
        UnreadableError: the file cannot be read, or a line is malformed.
    """
    text = read_text(path)
    refuse_many_lines(text)
    return _delimited_rows(text, _delimiter_in(text) if delimiter == "," else delimiter)


def _delimiter_in(text: str) -> str:
    """What separates headings: a comma where there is one, else what stands in its place oftenest, if anything does."""
    headings = text.lstrip().partition("\n")[0]
    if "," in headings:
        return ","
    found = max(_IN_PLACE_OF_A_COMMA, key=headings.count)
    return found if found in headings else ","


def _delimited_rows(text: str, delimiter: str) -> Iterator[TextRow]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if names is None:
                names = _headings([name.strip() for name in row], reader.line_num)
            elif len(row) != len(names):
                raise UnreadableError(
                    f"{count(len(row), 'cell')} under {count(len(names), 'heading')}", reader.line_num
                )
            else:
                yield reader.line_num, _fields(names, row, reader.line_num)
    except csv.Error as error:
        raise UnreadableError(f"no CSV: {error}", reader.line_num) from None


def _headings(names: list[str], line: int) -> list[str]:
    _refuse_twice(names, line)
    return names


def _refuse_twice(names: list[str], line: int | None = None) -> None:
    again = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if again is not None:
        raise UnreadableError(f"the heading {again!r} is there twice", line)


def _fields(names: list[str], row: list[str], line: int) -> dict[str, Any]:
    cells = zip(names, row, strict=True)
    return {name: _value(name, cell, line) for name, cell in cells if not _ROW_NUMBERS.fullmatch(name)}


def _value(name: str, cell: str, line: int) -> Any:
    """A cell's text, None where it is blank, and what it says where it is a list or object in JSON."""
    text = cell.strip()
    if not text:
        return None
    if not re.match(r"\[\s*[\]\[{\"']|\{\s*[\"']", text):
        return cell
    try:
        return parse_json(text)
    except UnreadableError as error:
        why = f"field `{name}`: a list or an object that is no JSON ({error}): {text[:60]}"
        raise UnreadableError(why, line) from None


def read_parquet(path: Path) -> Iterator[TextRow]:
    """Fields of every row; a table has no lines.

    Raises:
        UnreadableError: the file cannot be read, is no Parquet, or holds more than is read; a few bytes of Parquet
            can say the same thing a thousand million times.
    """
    import pyarrow.parquet  # type: ignore[import-untyped]

    with open_file(path) as file:
        try:
            table, num_bytes = pyarrow.parquet.ParquetFile(file), 0
            _refuse_large(table.metadata)
            _refuse_twice(table.schema_arrow.names)
            for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE):
                num_bytes += batch.nbytes
                if num_bytes > MOST_BYTES:
                    raise UnreadableError(f"holds more than {MOST_BYTES:,} bytes, and no more are read")
                for row in batch.to_pylist():
                    yield None, {name: value for name, value in row.items() if not _ROW_NUMBERS.fullmatch(name)}
        except UnreadableError:
            raise
        except Exception as error:  # of arrow, of its codecs, of dates that Python does not have
            raise UnreadableError(f"cannot be read as Parquet: {whole_reason(error)}") from error


def _refuse_large(metadata: Any) -> None:
    """Refuse a Parquet file by what it says of itself, before anything is unpacked."""
    if metadata.num_rows > MOST_PARTS:
        raise UnreadableError(f"has {metadata.num_rows:,} rows, and {MOST_PARTS:,} are read at most")
    num_bytes = sum(metadata.row_group(place).total_byte_size for place in range(metadata.num_row_groups))
    if num_bytes > MOST_BYTES:
        raise UnreadableError(f"holds {num_bytes:,} bytes when unpacked, and {MOST_BYTES:,} are read at most")
