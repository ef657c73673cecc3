"""The tables' schema, its documentation, and the choice of the row that stands for a metric."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest
from consortium.records.rows import ROW_TYPES, EventRow, MetricRow, headline, schema, to_arrow

DOCUMENT = Path(__file__).parents[3] / "docs" / "run-directory.md"


@pytest.mark.parametrize("table", ROW_TYPES)
def test_every_row_survives_the_way_through_arrow(table, rows):
    """Values, also null, text beyond ASCII and large numbers, come back as they were."""
    for round in (0, 3):
        given = rows(round).of(table)
        assert [ROW_TYPES[table](**each) for each in to_arrow(table, given).to_pylist()] == list(given)


def test_column_types_and_nullability_follow_from_the_annotations():
    columns = schema("events")
    assert (columns.field("time_s").type, columns.field("time_s").nullable) == (pa.float64(), False)
    assert (columns.field("layer").type, columns.field("layer").nullable) == (pa.int64(), True)
    assert columns.field("seconds").metadata[b"unit"] == b"s"


def test_a_value_of_another_type_is_refused():
    row = EventRow("soon", "commit", 1, None, None, None, None, None, None, None)
    with pytest.raises((pa.ArrowInvalid, TypeError)):
        to_arrow("events", [row])


@pytest.mark.parametrize("table", ROW_TYPES)
def test_the_documentation_lists_every_column_with_its_unit(table):
    section = DOCUMENT.read_text(encoding="utf-8").partition(f"## `tables/{table}.parquet`")[2].partition("\n## ")[0]
    listed = [line for line in section.splitlines() if line.startswith("| `")]
    assert listed == [
        f"| `{each.name}` | {each.type}{' or null' if each.nullable else ''} | "
        f"{each.metadata[b'unit'].decode()} | {each.metadata[b'meaning'].decode()} |"
        for each in schema(table)
    ]


def metric(of_round: int | None, success: float, num_edits: int = 1, strict: float | None = None) -> MetricRow:
    return MetricRow(3, "a", "retention", of_round, success, strict, num_edits, num_edits)


def test_headline_prefers_the_row_over_all_rounds_then_the_only_one():
    both = [metric(1, 10.0), metric(3, 30.0), metric(None, 17.0)]
    assert headline(both)[3, "a", "retention"].success == 17.0
    assert headline(both[1:2])[3, "a", "retention"].success == 30.0


def test_headline_of_earlier_rounds_is_their_mean_weighted_by_edits():
    """(3 · 100 + 1 · 20) / 4 = 80; strict likewise, and null as soon as one is."""
    found = headline([metric(1, 100.0, 3, 40.0), metric(2, 20.0, 1, 0.0)])[3, "a", "retention"]
    assert asdict(found) == asdict(metric(None, 80.0, 4, 30.0))
    assert headline([metric(1, 100.0, 3, 40.0), metric(2, 20.0)])[3, "a", "retention"].strict is None
