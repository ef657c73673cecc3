"""Tables as single Parquet files that grow by whole rounds.

Growing rewrites the file batch by batch beside the old one, so memory stays that of a batch and of the new rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from consortium.common.errors import RunDirectoryError
from consortium.records import entries
from consortium.records.digests import DIFFERS, has_digest
from consortium.records.rows import schema

TABLE_FOLDER = "tables"
_BATCH_ROWS = 8192


def table_path(folder: Path, table: str) -> Path:
    """Where a table lies in a run directory."""
    return folder / _name(table)


def create_table(folder: Path, table: str) -> None:
    """Write a table without rows."""
    with entries.replacing_entry(folder, _name(table)) as temporary:
        pq.write_table(schema(table).empty_table(), temporary, write_page_checksum=True)


def append(folder: Path, table: str, new: Iterable[pa.Table], round: int, target: Path | None = None) -> None:
    """Rewrite a table: its rows of rounds before ``round``, then those of ``new``, batch after batch.

    It takes the old one's place, unless ``target`` names another file to write to.
    """
    if target is None:
        with entries.replacing_entry(folder, _name(table)) as temporary:
            append(folder, table, new, round, temporary)
        return
    with pq.ParquetWriter(target, schema(table), write_page_checksum=True) as writer:
        for batch in _batches(folder, table):
            writer.write_batch(_completed(batch.filter(pc.less(batch.column("round"), round)), table))
        for each in new:
            writer.write_table(each)


def _completed(batch: pa.RecordBatch, table: str) -> pa.RecordBatch:
    """The batch with nulls in columns that a table had not got yet when its run began."""
    for each in schema(table):
        if each.nullable and each.name not in batch.schema.names:
            batch = batch.append_column(each, pa.nulls(len(batch), each.type))
    columns = [batch.column(name) for name in schema(table).names]
    return pa.RecordBatch.from_arrays(columns, schema=schema(table))  # which may allow nulls where it did not once


def last_round(folder: Path, table: str) -> int | None:
    """The last round of which a table has rows, committed or not; None where it has none."""
    with _opened(folder, table) as file:
        rounds = file.read(columns=["round"])["round"]
    last: int | None = pc.max(rounds).as_py()
    return last


def read_table(
    folder: Path,
    table: str,
    last_round: int | None,
    columns: Sequence[str] | None = None,
    digests: Sequence[str] = (),
) -> pa.Table:
    """Rows up to ``last_round``; none when it is None. Raises RunDirectoryError on a missing or damaged file.

    Args:
        folder: the run directory.
        table: name of the table.
        last_round: last round that counts.
        columns: columns to read; those that the file does not have are left out. None for all.
        digests: SHA-256 digests that the file may have; none to take it as it is.
    """
    wanted = None if columns is None else [*dict.fromkeys(("round", *columns))]
    with _opened(folder, table, digests) as file:
        content = file.read(columns=wanted)
        content.validate(full=True)
    return content.filter(pc.field("round") <= (-1 if last_round is None else last_round))


def _name(table: str) -> str:
    return f"{TABLE_FOLDER}/{table}.parquet"


def _batches(folder: Path, table: str) -> Iterator[pa.RecordBatch]:
    with _opened(folder, table) as file:
        yield from file.iter_batches(_BATCH_ROWS)


@contextmanager
def _opened(folder: Path, table: str, digests: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """A table's file; what is read of it in the block is what was looked at, even if it is replaced meanwhile."""
    path = table_path(folder, table)
    with _naming_damage(path), entries.reading(folder, _name(table)) as file:
        if digests and not has_digest(file, _name(table), digests):
            raise _unlike(path, DIFFERS)
        file.seek(0)
        found = pq.ParquetFile(file, page_checksum_verification=True)
        _check_columns(path, table, found.schema_arrow)
        yield found


def _check_columns(path: Path, table: str, found: pa.Schema) -> None:
    """Refuse a file that is not this table; columns that may be null are missing in tables of earlier versions."""
    for each in schema(table):
        place = found.get_field_index(each.name)
        if found.names.count(each.name) > 1:
            raise _unlike(path, f"is not the table {table}: it has several columns {each.name}")
        if place < 0 and not each.nullable:
            raise _unlike(path, f"is not the table {table}: it has no column {each.name}")
        if place >= 0 and found.field(place).type != each.type:
            raise _unlike(path, f"is not the table {table}: its column {each.name} is {found.field(place).type}")
        if place >= 0 and found.field(place).nullable and not each.nullable:
            raise _unlike(path, f"is not the table {table}: its column {each.name} may hold nulls")


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise _unlike(path, "is missing") from error
    except (pa.ArrowException, OSError) as error:
        raise _unlike(path, f"cannot be read as Parquet: {str(error).rstrip('.')}") from error


def _unlike(path: Path, what: str) -> RunDirectoryError:
    return RunDirectoryError(f"{path} {what}.", "a table as Consortium wrote it.", "restore it from a copy.")
