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

from consortium.errors import RunDirectoryError
from consortium.files import replacing
from consortium.records.rows import schema

_BATCH_ROWS = 8192


def path_of(folder: Path, table: str) -> Path:
    """Where a table lies in a run directory."""
    return folder / "tables" / f"{table}.parquet"


def create(folder: Path, table: str) -> None:
    """Write a table without rows."""
    with replacing(path_of(folder, table)) as temporary:
        pq.write_table(schema(table).empty_table(), temporary)


def append(folder: Path, table: str, new: Iterable[pa.Table], round: int) -> None:
    """Rewrite a table: its rows of rounds before ``round``, then those of ``new``, batch after batch."""
    path = path_of(folder, table)
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema(table)) as writer:
        for batch in _batches(path):
            writer.write_batch(_completed(batch.filter(pc.less(batch.column("round"), round)), table))
        for each in new:
            writer.write_table(each)


def _completed(batch: pa.RecordBatch, table: str) -> pa.RecordBatch:
    """The batch with nulls in columns that a table had not got yet when its run began."""
    for each in schema(table):
        if each.nullable and each.name not in batch.schema.names:
            batch = batch.append_column(each, pa.nulls(len(batch), each.type))
    return batch.select(schema(table).names)


def drop_from(folder: Path, table: str, round: int) -> None:
    """Rewrite a table without rows of ``round`` and later, where it has any."""
    path = path_of(folder, table)
    with _naming_damage(path):
        rounds = pq.ParquetFile(path).read(columns=["round"])["round"]
    if len(rounds) and pc.max(rounds).as_py() >= round:
        append(folder, table, [], round)


def read(folder: Path, table: str, last_round: int | None, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows up to ``last_round``; none when it is None. Raises RunDirectoryError on a missing or damaged file.

    Args:
        folder: the run directory.
        table: name of the table.
        last_round: last round that counts.
        columns: columns to read; those that the file does not have are left out. None for all.
    """
    path = path_of(folder, table)
    wanted = None if columns is None else [*dict.fromkeys(("round", *columns))]
    with _naming_damage(path):
        content = pq.ParquetFile(path).read(columns=wanted)
    return content.filter(pc.field("round") <= (-1 if last_round is None else last_round))


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with _naming_damage(path):
        yield from pq.ParquetFile(path).iter_batches(_BATCH_ROWS)


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise RunDirectoryError(
            f"{path} cannot be read as Parquet: {error}", "a table as Consortium wrote it.", "restore it from a copy."
        ) from error
