"""The report's section on what was settled: its numbers are those of the tables."""

import re
from html import unescape

import pyarrow as pa
import pytest
from consortium.report.page import build_report
from consortium.report.results import read_results
from consortium.report.sections.conflicts import fates_of, settled
from consortium.report.style import lane_styles
from support.scenarios import associative_scenario, run_serially

CONFLICTS = ["efficacy", "conflict", "conflict_magnitude"]


def section(directory):
    results = read_results(directory)
    return settled(directory, results, lane_styles([(lane.lane, lane.method) for lane in results.lanes]))


def rows_of(text):
    """The cells of each table row, without their tags."""
    rows = re.findall(r"<tr>(.*?)</tr>", text)
    return [[unescape(re.sub(r"<[^>]*>", "", cell)) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    scenario = associative_scenario(
        stream={"rounds": 2, "partners": 3},
        overlap={"weigh": "once"},
        conflicts={"policy": "majority", "augment": 2},
        merge={"methods": ["collabedit", "ties"]},
        evaluate={"metrics": CONFLICTS},
    )
    return run_serially(scenario, tmp_path_factory.mktemp("settled") / "run")


def test_every_round_says_what_became_of_its_edits(run):
    edits = run.table("edits").to_pylist()
    rows = rows_of(section(run))
    for number in (1, 2):
        mine = [row for row in edits if row["round"] == number]
        asked, withdrawn, weighed_down, weight, copies = next(row for row in rows if row[0] == str(number))[1:]
        assert int(asked) == len(mine) == 28
        assert int(withdrawn) == sum(row["fate"] == "withdrawn" for row in mine) > 0
        assert int(weighed_down) == sum(0 < row["weight"] < 1 for row in mine) > 0
        assert float(weight) == pytest.approx(sum(row["weight"] for row in mine), rel=1e-3)
        assert int(copies) == sum(row["num_augmented"] for row in mine) > 0


def test_score_and_magnitude_are_those_of_the_table_of_metrics(run):
    rows = [row for row in rows_of(section(run)) if row[0] in ("collabedit", "ties")]
    assert len(rows) == 2 * 2
    measured = {(r["lane"], r["round"], r["metric"]): r for r in run.table("metrics").to_pylist()}
    for lane, number, score, magnitude, cases in rows:
        for metric, shown in (("conflict", score), ("conflict_magnitude", magnitude)):
            row = measured[lane, int(number), metric]
            assert (shown, cases) == (f"{row['success']:.1f}", str(row["num_edits"]))


def test_the_section_says_in_words_what_the_policy_was(run):
    text = section(run)
    assert "An edit that several parties ask for weighs once; of contradicting answers the one that most" in text
    assert "asked again in up to 2 other wordings" in text
    assert text in build_report(run).read_text(encoding="utf-8")


def test_a_losing_answer_that_rose_is_drawn_below_zero(tmp_path):
    scenario = associative_scenario(
        stream={"rounds": 1, "overlap": 0, "conflict": 0.5, "repeat": 0},
        merge={"methods": ["collabedit"]},
        evaluate={"sample": None, "metrics": CONFLICTS},
    )
    directory = run_serially(scenario, tmp_path / "run")
    text = section(directory)
    assert "Nothing was settled" in text
    (row,) = [row for row in rows_of(text) if row[0] == "collabedit"]
    assert float(row[3]) < -50
    assert "−100" in build_report(directory).read_text(encoding="utf-8")


def test_a_run_without_either_has_no_such_section(invent):
    assert section(invent(rounds=1)) == ""


def test_tables_of_older_runs_are_read():
    assert fates_of(pa.table({"round": [1], "kind": ["fresh"]})) == {}
