"""The report's section on what was decided: its numbers are those of the tables."""

from typing import get_args

import pytest
from consortium.features.conflicts.resolution import EditStatus
from consortium.report.page import run_of
from consortium.report.sections.conflicts import STATUS_MEANINGS, section
from support.report import texts
from support.scenarios import associative_scenario, run_serially

CONFLICTS = ["efficacy", "conflict_score", "conflict_magnitude"]


@pytest.fixture(scope="module")
def run(finished_run):
    scenario = associative_scenario(
        stream={"rounds": 2, "sharing_group_size": 3},
        overlap={"duplicates": "count_once"},
        conflicts={"policy": "majority", "num_paraphrases": 2},
        merge={"methods": ["collabedit", "ties"]},
        evaluate={"metrics": CONFLICTS},
    )
    return finished_run(scenario)


def test_every_round_says_what_became_of_its_edits(run):
    edits = run.table("edits").to_pylist()
    rows = texts(section(run_of(run)).tables[0])
    for number in (1, 2):
        mine = [row for row in edits if row["round"] == number]
        asked, rejected, weighed_down, weight, copies = next(row for row in rows if row[0] == str(number))[1:]
        assert int(asked) == len(mine) == 28
        assert int(rejected) == sum(row["status"] == "rejected" for row in mine) > 0
        assert int(weighed_down) == sum(0 < row["weight"] < 1 for row in mine) > 0
        assert float(weight) == pytest.approx(sum(row["weight"] for row in mine), rel=1e-3)
        assert int(copies) == sum(row["num_paraphrases"] for row in mine) > 0


def test_score_and_magnitude_are_those_of_the_table_of_metrics(run):
    rows = texts(section(run_of(run)).tables[1])
    assert len(rows) == 2 * 2
    measured = {(r["arm"], r["round"], r["metric"]): r for r in run.table("metrics").to_pylist()}
    for arm, number, score, magnitude, cases in rows:
        for metric, shown in (("conflict_score", score), ("conflict_magnitude", magnitude)):
            row = measured[arm, int(number), metric]
            assert (shown, cases) == (f"{row['success']:.1f}", str(row["num_edits"]))


def test_the_section_says_in_words_what_the_policy_was(run):
    text = section(run_of(run)).text
    assert "An edit that several parties ask for weighs once; of contradicting answers the one that most" in text
    assert "asked again in up to 2 other wordings" in text


def test_a_losing_answer_that_rose_is_drawn_below_zero(tmp_path):
    scenario = associative_scenario(
        stream={"rounds": 1, "overlap": 0, "conflict": 0.5, "repeat": 0},
        merge={"methods": ["collabedit"]},
        evaluate={"sample": None, "metrics": CONFLICTS},
    )
    directory = run_serially(scenario, tmp_path / "run")
    said = section(run_of(directory))
    assert "Nothing was decided" in said.text
    (row,) = texts(said.tables[-1])
    assert (row[0], float(row[3]) < -50) == ("collabedit", True)
    assert "−100" in list(said.figures)[-1].drawing.svg


def test_a_run_without_either_has_no_such_section(invent):
    assert section(run_of(invent(rounds=1))) is None


def test_every_status_has_a_meaning():
    assert set(STATUS_MEANINGS) == set(get_args(EditStatus))
