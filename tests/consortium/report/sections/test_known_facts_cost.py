"""The report's comparison of an arm that leaves out what is held with one that sends everything."""

import pytest
from consortium.loading.prepare import prepare
from consortium.report.page import run_of
from consortium.report.results import read_results
from consortium.report.sections import known_facts
from consortium.report.sections.known_facts_cost import comparison, pairs_of
from support.report import texts
from support.scenarios import associative_scenario

SENDS_ALL = {"name": "collabedit", "label": "sends-all", "skip_known": "none"}
LOOKS = {"skip_known": "residual", "threshold": 0.2}


def arms_in_pairs(methods, **changes):
    scenario = associative_scenario(merge={"methods": methods}, **changes)
    return [(ours.arm, theirs.arm) for ours, theirs in pairs_of(scenario)]


@pytest.mark.parametrize(
    ("other", "is_a_pair"),
    [
        ({}, True),
        ({"exchange": "layer"}, True),
        ({"history_weight": 1}, True),
        ({"skip_known": "residual"}, False),
        ({"exchange": "round"}, False),
        ({"history_weight": 0}, False),
        ({"name": "global"}, False),
    ],
)
def test_a_pair_differs_in_nothing_else(other, is_a_pair):
    """A default that is written out is no difference."""
    found = arms_in_pairs(["collabedit", SENDS_ALL | other], overlap=LOOKS)
    assert found == [("collabedit", "sends-all")] * is_a_pair


def test_parameters_count_and_their_defaults_are_no_difference():
    ties = {"name": "ties", "skip_known": "residual"}
    assert arms_in_pairs([ties, {"name": "ties", "label": "b", "density": 0.2}]) == [("ties", "b")]
    assert arms_in_pairs([ties, {"name": "ties", "label": "b", "density": 0.3}]) == []


def test_the_shipped_scenario_has_a_pair():
    assert [(a.arm, b.arm) for a, b in pairs_of(prepare("repeats").scenario)] == [("collabedit", "sends-all")]


@pytest.fixture(scope="module")
def run(finished_run):
    scenario = associative_scenario(
        model={"key_width": 256, "value_width": 32},
        stream={"rounds": 4, "overlap": 0, "conflict": 0, "repeat": 0.5},
        merge={"methods": ["collabedit", SENDS_ALL]},
        editor={"covariance_weight": 0.01},
        overlap=LOOKS,
    )
    return finished_run(scenario)


def test_the_numbers_are_those_of_the_tables(run):
    """112 edits were asked for, 42 of them held: 37.5 percent of the edits, and as much of the bytes of factors."""
    _, table = comparison(run, read_results(run))
    shown = {row[0]: row[1:] for row in texts(table)}
    assert shown["edits sent"] == ["70", "112", "−42 (−37.5 %)", "–"]
    assert shown["bytes sent"][2].endswith("(−37.5 %)")
    metrics = run.table("metrics").to_pylist()
    for metric in ("efficacy", "paraphrase", "neighborhood"):
        own = [row for row in metrics if row["metric"] == metric and row["of_round"] == row["round"]]
        ours, theirs = ([row["success"] for row in own if row["arm"] == each] for each in ("collabedit", "sends-all"))
        assert shown[metric][:2] == [f"{ours[-1]:.1f}", f"{theirs[-1]:.1f}"]
        differences = [a - b for a, b in zip(ours, theirs, strict=True)]
        assert [float(each.replace("−", "-")) for each in shown[metric][2:]] == pytest.approx(
            [differences[-1], sum(differences) / 4], abs=0.051
        )
    assert {"score", "retention"} < shown.keys()


def test_the_section_has_it_and_arms_that_send_all_are_not_said_to_leave_out(run):
    left_out, pair = known_facts.section(run_of(run)).tables
    assert [row[0] for row in texts(left_out)] == ["collabedit"]
    assert texts(pair)[0][0] == "edits sent"


def test_without_a_pair_one_sentence_says_how_to_get_one(finished_run):
    scenario = associative_scenario(merge={"methods": ["collabedit", "ties"]}, overlap=LOOKS)
    run = finished_run(scenario)
    (text,) = comparison(run, read_results(run))
    assert "add {name: collabedit, label: sends-all, skip_known: none} to merge.methods" in text
