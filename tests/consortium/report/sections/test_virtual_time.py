"""The report's section on virtual time: numbers of the tables, and nothing where there is none."""

import pytest
from consortium.records.rows import RoundRow, RoundRows, ScheduleRow
from consortium.records.scalars import scalars
from consortium.report.page import run_of
from consortium.report.results import read_results
from consortium.report.sections import virtual_time
from consortium.report.summary import summary
from support.report import texts
from support.scenarios import associative_scenario


@pytest.fixture(scope="module")
def run(finished_run):
    scenario = associative_scenario(
        stream={"rounds": 4, "overlap": 0, "conflict": 0, "repeat": 0},
        virtual_time={
            "devices": {"speed": {"lognormal": {"median": 1, "sigma": 1}}, "jitter": 1.0},
            "schedule": {"deadline_s": 8},
        },
        merge={"methods": ["collabedit", "ties"]},
        evaluate={"edits": "all", "metrics": ["efficacy"]},
    )
    return finished_run(scenario)


def rows_of(run):
    return [ScheduleRow(**row) for row in run.table("schedule").to_pylist()]


def section_of(run):
    return virtual_time.section(run_of(run))


def test_the_section_says_what_the_tables_say(run):
    rows, said = rows_of(run), section_of(run)
    later = sum(row.num_carried for row in rows)
    assert later > 0
    assert "4 rounds took" in said.text
    assert f"Of 112 edits asked for, {sum(row.num_edits for row in rows):,} were merged, {later:,} of them" in said.text
    assert f"and {rows[-1].num_waiting:,} still wait." in said.text
    assert [each.title for each in said.figures] == [
        *("answers", "edits", "age of edits", "efficacy over virtual time", "asked for and held"),
    ]
    assert not any(each.drawing.failure for each in said.figures)
    assert [row[3:8] for row in texts(said.tables[0])] == [
        [f"{n:,}" for n in (row.num_available, row.num_asked, row.num_in_time, row.num_late, row.num_edits)]
        for row in rows
    ]


def test_what_holds_of_all_counts_what_was_not_merged(run):
    """In percent of everything asked for: never above efficacy, and at the times of the rounds' ends."""
    results, rows = read_results(run), rows_of(run)
    held = virtual_time.held_of_all(results, rows)
    for arm in results.arms:
        efficacy = dict(arm.curve("efficacy"))
        points = held[arm.arm]
        assert [time_s for time_s, _ in points] == [row.end_s for row in rows]
        num_merged = 0
        for row, (_, percent) in zip(rows, points, strict=True):
            num_merged += row.num_edits
            assert percent == pytest.approx(efficacy[row.round] * num_merged / (28 * row.round))


def test_the_summary_has_the_virtual_seconds(run, finished):
    assert summary(run)["virtual_s"] == rows_of(run)[-1].end_s
    assert summary(finished)["virtual_s"] is None


def test_a_run_without_virtual_time_says_nothing_of_it(finished):
    assert section_of(finished) is None


def test_many_rounds_have_a_table_of_the_first(run, monkeypatch):
    monkeypatch.setattr(virtual_time, "_MOST_ROWS", 3)
    assert "And 1 round more." in section_of(run).text


def test_scalars_of_virtual_time_are_in_every_arm():
    rounds = [RoundRow(1, arm, 2, 2, 9, 1.0, 1.0, 1.0, 1.0, None, None, 0.1) for arm in ("a", "b")]
    row = ScheduleRow(1, 0.0, 5.5, 2, 2, 2, 1, 1, 2, 0, None, None, 0, 1)
    found = scalars(RoundRows(rounds=rounds, schedule=[row]))
    assert [found[arm]["virtual_time/end_s"] for arm in ("a", "b")] == [5.5, 5.5]
    assert "virtual_time/age_rounds" not in found["a"], "null where nothing is merged"
    assert not [tag for tag in scalars(RoundRows(rounds=rounds))["a"] if tag.startswith("virtual_time")]
