"""A party finds by itself that somebody taught the model something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from consortium.editing.known_facts import is_contradicted
from consortium.features.conflicts.earlier_rounds import EarlierRounds
from consortium.loading.prepare import open_facts
from consortium.models.queries import Answer
from consortium.party.data import PartyDataset
from consortium.records.directory import RunDirectory
from consortium.report.page import run_of
from consortium.report.sections.contradictions import counts_of, section
from consortium.scenario.schema import OverlapSpec, Scenario
from support.pico import pico_folder
from support.report import texts
from support.scenarios import associative_scenario, difference, pico_scenario
from support.shared_runs import SharedRuns

OVERLAP = OverlapSpec(threshold=0.1)
WANTED = (1, 2, 3)


def answer(said: tuple[int, ...], chances: tuple[float, ...] = (0.9, 0.9, 0.9)) -> Answer:
    return Answer(said, WANTED, said == WANTED, chances)


@pytest.mark.parametrize(
    ("now", "unedited", "expected"),
    [
        (answer((9, 2, 3)), answer((8, 2, 3)), True),
        (answer((1, 9, 3)), answer((8, 2, 3)), True),  # the same beginning, as of New York and New Delhi
        (answer((9, 2, 3)), answer((9, 2, 3)), False),  # it always said so
        (answer((9, 7, 3)), answer((9, 2, 3)), False),  # what it would say after a token that it does not say
        (answer((9, 2, 3), (0.5, 0.9, 0.9)), answer((8, 2, 3)), False),  # it is not sure
        (answer(WANTED), answer((8, 2, 3)), False),  # it was taught the same
    ],
)
def test_the_first_token_that_differs_decides(now: Answer, unedited: Answer, expected: bool) -> None:
    assert is_contradicted(now, unedited, 0.5, OVERLAP) is expected


def test_what_is_held_is_not_contradicted() -> None:
    now, unedited = answer((9, 2, 3)), answer((8, 2, 3))
    assert is_contradicted(now, unedited, 0.1, OVERLAP)
    assert not is_contradicted(now, unedited, 0.09, OVERLAP)


def contradicting(**changes: Any) -> Scenario:
    """Three rounds in a memory with room for all; from the second on half contradicts and a quarter is repeated."""
    plain: dict[str, Any] = {
        "model": {"key_width": 256, "value_width": 24, "num_objects": 30},
        "stream": {"rounds": 3, "overlap": 0, "conflict": {"round": 0.5}, "repeat": 0.25},
        "conflicts": {"detect": "model_answer"},
        "merge": {"methods": ["collabedit"]},
        "evaluate": {"sample": None, "metrics": ["efficacy", "conflict_score"]},
    }
    return associative_scenario(**plain | changes)


@pytest.fixture(scope="module")
def run(finished_run: SharedRuns) -> RunDirectory:
    return finished_run(contradicting())


def test_in_a_roomy_memory_all_are_found_and_nothing_else(run: RunDirectory) -> None:
    """7 parties, 2 of 4 edits in rounds 2 and 3."""
    found = counts_of(run)["collabedit"]
    assert (found.num_edits, found.num_contradicting) == (7 * 4 * 3, 7 * 2 * 2)
    assert (found.num_detected, found.num_missed, found.num_false) == (28, 0, 0)
    by_kind = {row["kind"]: row["num_detected"] for row in run.table("residuals").to_pylist() if row["round"] == 3}
    assert by_kind == {"fresh": 0, "repeat": 0, "conflict-round": 14}


def test_counting_changes_no_bit(run: RunDirectory, finished_run: SharedRuns) -> None:
    plain = finished_run(contradicting(conflicts={}))
    assert difference(run.arm_states(), plain.arm_states()) == []
    assert plain.table("residuals")["num_detected"].to_pylist() == [None] * len(plain.table("residuals"))
    assert counts_of(plain) == {}


def test_who_yields_leaves_the_earlier_answer(run: RunDirectory, finished_run: SharedRuns) -> None:
    stream = {"rounds": 2, "overlap": 0, "conflict": {"round": 0.5}, "repeat": 0.25}
    yielding = contradicting(conflicts={"detect": "model_answer", "on_detect": "skip"}, stream=stream)
    kept = finished_run(yielding)
    assert [row["num_skipped"] for row in kept.table("parties").to_pylist()] == [0] * 7 + [2] * 7
    assert _score(run) > 90
    assert _score(kept) < 10


def _score(directory: RunDirectory) -> float:
    rows = directory.table("metrics").to_pylist()
    (found,) = [r for r in rows if (r["round"], r["arm"], r["metric"]) == (2, "collabedit", "conflict_score")]
    return float(found["success"])


def test_the_truth_is_what_others_had_merged_before() -> None:
    """Written out over the whole stream: the last earlier round about a fact, and whether anybody wanted another."""
    scenario = contradicting(stream={"rounds": 4, "overlap": 0.25, "conflict": 0.5, "repeat": 0.25})
    private = PartyDataset(scenario, open_facts(scenario))
    before = EarlierRounds(private)
    asked = [
        each for number in range(1, 5) for party_batch in range(4) for each in private.requests(number, party_batch)
    ]
    for request in reversed(asked):
        earlier = [each for each in asked if each.fact == request.fact and each.round < request.round]
        last = max((each.round for each in earlier), default=0)
        answers = {private.edit(each).target_new for each in earlier if each.round == last}
        assert before.contradicts(request) == bool(answers - {private.edit(request).target_new})


def test_copies_in_other_words_follow_their_edit(finished_run: SharedRuns) -> None:
    conflicts = {"detect": "model_answer", "on_detect": "skip", "policy": "latest", "num_paraphrases": 2}
    directory = finished_run(contradicting(conflicts=conflicts))
    rows = [row for row in directory.table("parties").to_pylist() if row["round"] == 2]
    assert {row["num_skipped"] for row in rows} == {2 * 3}
    found = [row for row in directory.table("residuals").to_pylist() if row["round"] == 2]
    assert sum(row["num_detected"] for row in found) == 7 * 2


def test_the_report_has_the_counts(run: RunDirectory) -> None:
    said = section(run_of(run))
    assert said is not None
    assert texts(said.tables[0]) == [["collabedit", "84", "28", "28", "28", "0", "0"]]


def test_a_language_model_is_asked_too(finished_run: SharedRuns, tmp_path: Path) -> None:
    """A pico model is sure of nothing; it is asked all the same, and party batches make no difference to what is
    counted."""
    folder = pico_folder(tmp_path / "pico", "llama", num_layers=4)
    found = []
    for size in (1, 3):
        scenario = pico_scenario(
            folder,
            stream={"rounds": 2, "conflict": {"party": 0, "round": 0.5}},
            conflicts={"detect": "model_answer", "on_detect": "skip"},
            evaluate={"metrics": ["efficacy"]},
            cluster={"parties_per_batch": size},
        )
        found.append(counts_of(finished_run(scenario)))
    assert found[0] == found[1]
    assert found[0]["collabedit"].num_contradicting == 3
