"""Tables that grow: a run of an earlier version goes on under a schema with more columns."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from consortium.records import tables
from consortium.records.rows import EventRow, schema, to_arrow


def written_before(folder, missing):
    """An events table with one row, as a version without one of the columns wrote it."""
    row = EventRow(1.0, "merge", 0, "ties", None, None, None, 0.5, None, None)
    path = tables.path_of(folder, "events")
    path.parent.mkdir(parents=True)
    pq.write_table(to_arrow("events", [row]).drop_columns([missing]), path)


def test_rows_without_a_new_column_have_null_in_it(tmp_path):
    written_before(tmp_path, "round_trip_s")
    new = EventRow(2.0, "targets", 1, "ties", 5, 0, "host-0", 1.5, None, None, 1.6)
    tables.append(tmp_path, "events", to_arrow("events", [new]), 1)
    table = tables.read(tmp_path, "events", 1)
    assert table.schema.equals(schema("events"))
    assert [row["round_trip_s"] for row in table.to_pylist()] == [None, 1.6]
    assert [row["seconds"] for row in table.to_pylist()] == [0.5, 1.5]


def test_a_column_that_must_be_there_is_missed(tmp_path):
    written_before(tmp_path, "kind")
    with pytest.raises((KeyError, pa.ArrowException)):
        tables.append(tmp_path, "events", schema("events").empty_table(), 1)
