"""The summary as JSON and as the terminal's table."""

from __future__ import annotations

import json

import pytest
from consortium.report.summary import result_table, summary


def test_summary_is_json_and_holds_the_tables_numbers(finished):
    run, report = finished, finished.report_path
    found = json.loads(json.dumps(summary(run)))
    assert (found["status"], found["name"], found["rounds"], found["num_edits"]) == ("done", "invented", 3, 24)
    assert (found["out"], found["report"]) == (str(run.path), str(report))
    assert list(found["arms"]) == ["global", "collabedit", "task_arithmetic", "simple_average", "ties"]
    arm = found["arms"]["ties"]
    last = next(row for row in run.table("rounds").to_pylist() if (row["round"], row["arm"]) == (3, "ties"))
    assert (arm["weights_distance"], arm["update_distance"]) == (last["weights_distance"], last["update_distance"])
    assert arm["bytes_per_party"] == {"least": 17e6, "median": 17e6, "most": 17e6}
    assert arm["seconds"]["targets"] == pytest.approx(43.0 + 44.0 + 45.0)
    efficacy = [r for r in run.table("metrics").to_pylist() if (r["arm"], r["metric"]) == ("ties", "efficacy")][-1]
    assert arm["metrics"]["efficacy"]["success"] == efficacy["success"]
    assert arm["metrics"]["efficacy"]["after_round"] == 3


def test_summary_of_a_run_without_rounds_is_json_too(invent):
    found = json.loads(json.dumps(summary(invent(rounds=2, done=-1))))
    assert (found["rounds"], found["report"], found["unedited"]) == (0, None, {})
    assert found["arms"]["ties"]["bytes_per_party"] is None
    assert result_table(found).rows[0][0] == "global"


def test_table_has_a_row_for_each_arm_and_for_the_unedited_model(finished):
    found = summary(finished)
    table = result_table(found)
    assert table.columns == (
        "method",
        "score",
        "efficacy",
        "paraphrase",
        "neighborhood",
        "retention",
        "distance from global",
    )
    assert [row[0] for row in table.rows] == [*found["arms"], "unedited", "questions", "+/- at most"]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert table.rows[1][2] == f"{found['arms']['collabedit']['metrics']['efficacy']['success']:.1f}"
    assert (table.rows[0][-1], table.rows[1][-1]) == ("reference", "9.3 × 10⁻⁸")


def test_table_without_a_global_arm_has_no_distances(invent):
    table = result_table(summary(invent(rounds=1, methods=["collabedit"])))
    assert "distance from global" not in table.columns
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_parts_of_a_metric_are_left_to_the_report(invent):
    found = summary(invent(rounds=1, methods=["collabedit"]))
    measure = found["arms"]["collabedit"]["metrics"]["efficacy"]
    found["arms"]["collabedit"]["metrics"] |= dict.fromkeys(("portability", "portability_alias"), measure)
    columns = result_table(found).columns
    assert "portability" in columns
    assert "portability alias" not in columns
