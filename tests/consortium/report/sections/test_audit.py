"""The report's sentence on the audit."""

from __future__ import annotations

import pyarrow as pa
from consortium.records.directory import RunDirectory
from consortium.report.page import run_of
from consortium.report.sections.audit import section
from consortium.report.words import plain
from support.scenarios import associative_scenario, run_serially


def test_the_report_says_that_each_edit_is_in_one_merge_and_where_it_is_not(tmp_path, monkeypatch):
    """7 parties × 4 edits × 1 round; 2 arms × 3 layers; 4 party batches."""
    scenario = associative_scenario(stream={"rounds": 1}, merge={"methods": ["global", "collabedit"]})
    run = run_serially(scenario, tmp_path / "run")
    assert (
        "Each of the 28 accepted edits is in exactly one merge of every arm and layer, by 24 entries in the audit of "
        "6 merges; 0 calls had to be asked again, and 0 answers that came twice or too late were dropped."
    ) in section(run_of(run)).text
    whole = run.table("audit")
    short = pa.Table.from_pylist(whole.to_pylist()[1:], schema=whole.schema)
    real = run.table

    def with_a_short_audit(name, *columns, **checks):
        return short if name == "audit" else real(name, *columns, **checks)

    monkeypatch.setattr(run, "table", with_a_short_audit)
    text = plain(section(run_of(run)).text)
    assert "The audit does not add up in 2 places" in text
    assert "merge of round 1, arm global, layer 0: party batch 0 is in it 0 times" in text


def test_nothing_is_said_before_the_first_merge(tmp_path):
    with RunDirectory.create(tmp_path / "run", associative_scenario()) as run:
        assert section(run_of(run)) is None
