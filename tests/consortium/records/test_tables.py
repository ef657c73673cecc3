"""Tables that grow: a run of an earlier version goes on under a schema with more columns."""

import pyarrow.parquet as pq
import pytest
from consortium.common.errors import RunDirectoryError
from consortium.records import tables
from consortium.records.rows import EventRow, in_batches, schema, to_arrow


def written_before(folder, missing):
    """An events table with one row, as a version without one of the columns wrote it."""
    row = EventRow(1.0, "merge", 0, "ties", None, None, None, 0.5, None, None)
    path = tables.table_path(folder, "events")
    path.parent.mkdir(parents=True)
    pq.write_table(to_arrow("events", [row]).drop_columns([missing]), path)


def test_rows_without_a_new_column_have_null_in_it(tmp_path):
    written_before(tmp_path, "round_trip_s")
    new = EventRow(2.0, "targets", 1, "ties", 5, 0, "worker-0", 1.5, None, None, 1.6)
    tables.append(tmp_path, "events", [to_arrow("events", [new])], 1)
    table = tables.read_table(tmp_path, "events", 1)
    assert table.schema.equals(schema("events"))
    assert [row["round_trip_s"] for row in table.to_pylist()] == [None, 1.6]
    assert [row["seconds"] for row in table.to_pylist()] == [0.5, 1.5]


def test_a_column_that_must_be_there_is_missed(tmp_path):
    written_before(tmp_path, "kind")
    with pytest.raises(RunDirectoryError, match="is not the table events: it has no column kind"):
        tables.append(tmp_path, "events", [], 1)


def event(number, round):
    return EventRow(float(number), "merge", round, None, None, number, None, None, None, None)


def test_rows_are_written_batch_after_batch(tmp_path):
    """However many rows a round has, only a batch of them is made at a time, and the table is the same."""
    tables.create_table(tmp_path, "events")
    alive = most = 0

    def made():
        nonlocal alive, most
        for number in range(10):
            alive += 1
            most = max(most, alive)
            yield event(number, 1)

    def counted(batches):
        nonlocal alive
        for batch in batches:
            yield batch
            alive -= len(batch)

    tables.append(tmp_path, "events", counted(in_batches("events", made(), size=3)), 1)
    assert most == 3
    assert tables.read_table(tmp_path, "events", 1)["party_batch"].to_pylist() == list(range(10))


def test_some_columns_are_read_alone(tmp_path):
    tables.create_table(tmp_path, "events")
    tables.append(tmp_path, "events", in_batches("events", [event(4, 1), event(5, 2)]), 1)
    table = tables.read_table(tmp_path, "events", 1, ["party_batch", "not-there-yet"])
    assert table.to_pylist() == [{"round": 1, "party_batch": 4}]
