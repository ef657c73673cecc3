"""Whole runs in which a policy reaches over rounds: a later request may have to be rejected."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from consortium.data.party_batch import PartyBatch
from consortium.engine import audit, serial
from consortium.loading.prepare import open_facts
from consortium.party.data import PartyDataset
from consortium.records.directory import RunDirectory
from consortium.report.page import build_report
from consortium.scenario.schema import ConflictsSpec, Scenario
from support.scenarios import associative_scenario, difference
from support.shared_runs import SharedRuns, copy_of
from support.tiers import one_quick

METRICS = ["efficacy", "retention", "conflict_score", "conflict_magnitude"]
#: Groups of three contradict each other in all they ask for in round 1, and come back to it in other rounds.
STREAM = {
    "rounds": 4,
    "overlap": 0,
    "conflict": {"party": 0.25, "round": 0.5},
    "repeat": 0.25,
    "sharing_group_size": 3,
    "phases": [{"rounds": [1, 1], "conflict": {"party": 1.0, "round": 0}, "repeat": 0}],
}


def contradicting(scope: str, policy: str = "majority", **changes: Any) -> Scenario:
    plain: dict[str, Any] = {
        "model": {"key_width": 128, "num_objects": 30},
        "parties": {"count": 6},
        "stream": STREAM,
        "conflicts": {"policy": policy, "scope": scope},
        "merge": {"methods": ["collabedit"]},
        "evaluate": {"sample": None, "metrics": METRICS},
    }
    return associative_scenario(**plain | changes)


@pytest.fixture(scope="module")
def run(finished_run: SharedRuns) -> RunDirectory:
    return finished_run(contradicting("run"))


def test_the_audit_knows_what_stands_over_rounds(run: RunDirectory) -> None:
    """Which edits must be in each merge follows from all rounds so far, not from the round alone."""
    assert audit.verify(run) == ()
    by_itself = run.scenario.model_copy(update={"conflicts": ConflictsSpec(policy="majority")})
    assert audit.verify(RunDirectory(run.path, by_itself, run.manifest)) != ()


def edits(directory: RunDirectory, **wanted: Any) -> list[dict[str, Any]]:
    found = directory.table("edits").to_pylist()
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]


def measured(directory: RunDirectory, metric: str) -> dict[tuple[int, int], dict[str, Any]]:
    """(After, of round) → the arm's row."""
    rows = directory.table("metrics").to_pylist()
    arm = directory.scenario.merge.methods[0].arm
    return {(r["round"], r["of_round"]): r for r in rows if (r["arm"], r["metric"]) == (arm, metric)}


def stands_after(directory: RunDirectory, number: int) -> dict[str, str]:
    """Fact → the answer that was merged last: whatever is not rejected in its round stands from then on."""
    rows = sorted(edits(directory), key=lambda row: row["round"])
    return {row["fact_id"]: row["target_new"] for row in rows if row["round"] <= number and row["status"] != "rejected"}


def lost_to_earlier_rounds(directory: RunDirectory) -> list[dict[str, Any]]:
    """Withdrawn requests about which nobody wants another answer in the same round."""
    lost = edits(directory, status="rejected")
    return [row for row in lost if len({each["target_new"] for each in _of_the_same(directory, row)}) == 1]


def _of_the_same(directory: RunDirectory, row: dict[str, Any]) -> list[dict[str, Any]]:
    return edits(directory, round=row["round"], fact_id=row["fact_id"])


def test_later_requests_are_withdrawn_against_earlier_ones(run: RunDirectory) -> None:
    assert len(lost_to_earlier_rounds(run)) > 3
    assert {row["weight"] for row in edits(run, status="rejected")} == {0.0}
    for number in (2, 3, 4):
        (row,) = [row for row in run.table("rounds").to_pylist() if row["round"] == number]
        assert row["num_edits"] == 24 - len(edits(run, round=number, status="rejected"))


def test_withdrawn_requests_are_not_probed(run: RunDirectory) -> None:
    for number in (1, 2, 3, 4):
        kept = [row for row in edits(run, round=number) if row["status"] != "rejected"]
        assert measured(run, "efficacy")[number, number]["num_edits"] == len(kept) < 24


def test_what_stands_is_what_is_to_be_retained(run: RunDirectory) -> None:
    for number in (2, 3, 4):
        stands = stands_after(run, number)
        for earlier in range(1, number):
            rows = [row for row in edits(run, round=earlier) if row["status"] != "rejected"]
            expected = sum(stands[row["fact_id"]] == row["target_new"] for row in rows)
            assert measured(run, "retention")[number, earlier]["num_edits"] == expected


def test_an_earlier_answer_that_stands_is_still_to_be_retained_though_it_was_contradicted(run: RunDirectory) -> None:
    lost = edits(run, status="rejected", kind="conflict-round")
    stood = [row for row in lost if _before(run, row) == stands_after(run, row["round"])[row["fact_id"]]]
    assert stood


def _before(directory: RunDirectory, row: dict[str, Any]) -> str | None:
    """What the party asked for before about the same."""
    own = edits(directory, party=row["party"], fact_id=row["fact_id"])
    return next((each["target_new"] for each in reversed(own) if each["round"] < row["round"]), None)


def test_scores_take_the_side_that_was_settled(run: RunDirectory) -> None:
    """Cases are contradictions between two answers of which one stands; most of these hold in a roomy memory."""
    for number in (2, 3, 4):
        stands = stands_after(run, number)
        cases = 0
        for row in edits(run, round=number):
            lost_to_its_own = row["status"] == "rejected" and _before(run, row) == stands[row["fact_id"]]
            if row["kind"] == "conflict-party":
                cases += 1
            elif row["kind"] == "conflict-round":
                cases += row["status"] != "rejected" or lost_to_its_own
        score = measured(run, "conflict_score")[number, number]
        assert score["num_edits"] == cases == measured(run, "conflict_magnitude")[number, number]["num_edits"]
        assert score["success"] > 80


def test_without_reach_the_later_request_overrules(finished_run: SharedRuns) -> None:
    apart = finished_run(contradicting("round"))
    assert edits(apart, status="rejected")
    assert not lost_to_earlier_rounds(apart)


@pytest.mark.parametrize(("priorities", "status"), [([], "rejected"), ([1], "accepted")])
def test_with_priorities_the_higher_rank_holds_over_rounds(
    priorities: list[int], status: str, finished_run: SharedRuns
) -> None:
    """Party 1 contradicts in round 2 what the group had in round 1, in which its leader ranks first, or it does."""
    conflicts = {"policy": "priority", "scope": "run", "priorities": priorities}
    stream = {"rounds": 2, "overlap": 0, "repeat": 0, "sharing_group_size": 3, "conflict": 0}
    stream["phases"] = [
        {"rounds": [1, 1], "conflict": {"party": 1.0, "round": 0}},
        {"rounds": [2, 2], "conflict": {"party": 0, "round": 1.0}},
    ]
    directory = finished_run(contradicting("run", conflicts=conflicts, stream=stream))
    assert {row["status"] for row in edits(directory, party=1, round=2)} == {status}


def test_the_latest_is_the_same_with_reach_but_told_that_it_won(finished_run: SharedRuns) -> None:
    near, far = (finished_run(contradicting(scope, "latest")) for scope in ("round", "run"))
    assert difference(near.arm_states(), far.arm_states()) == []
    told = Counter((a["status"], b["status"]) for a, b in zip(edits(near), edits(far), strict=True) if a != b)
    assert set(told) == {("unique", "accepted"), ("duplicate", "accepted")} or set(told) == {("unique", "accepted")}


class _EnoughError(Exception):
    pass


@pytest.mark.parametrize(("phase", "round_number"), one_quick([("targets", 3), ("evaluate", 4)]))
def test_killed_and_resumed(run: RunDirectory, phase: str, round_number: int, tmp_path: Path) -> None:
    """What earlier rounds resolved is resolved again from their keyed digests."""

    def watch(progress: Any) -> None:
        if (progress.phase, progress.round) == (phase, round_number) and progress.done:
            raise _EnoughError

    with RunDirectory.create(tmp_path / "run", run.scenario) as directory, pytest.raises(_EnoughError):
        serial.run_serial(run.scenario, directory, open_facts(run.scenario), watch)
    with RunDirectory.open(tmp_path / "run") as directory:
        serial.run_serial(run.scenario, directory, open_facts(run.scenario), lambda progress: None)
    again = RunDirectory.open(tmp_path / "run")
    assert difference(run.arm_states(), again.arm_states()) == []
    for table in ("edits", "parties", "metrics"):
        assert again.table(table).equals(run.table(table)), table


def test_a_worker_can_be_asked_about_rounds_in_any_order(run: RunDirectory) -> None:
    """Parties' answers of an earlier round that a slow worker gives late do not depend on what it has seen since."""
    party_data, fresh = (PartyDataset(run.scenario, open_facts(run.scenario)) for _ in range(2))
    request = next(each for party_batch in range(3) for each in party_data.requests(1, party_batch))
    late = [party_data.stands(party_data.edit(request), number) for number in (4, 2, 3, 1)]
    assert late == [fresh.stands(fresh.edit(request), number) for number in (4, 2, 3, 1)]
    assert party_data.resolver(range(1, 3), 3, range(6)) == fresh.resolver(range(1, 3), 3, range(6))
    assert party_data.merged(PartyBatch(2, 0)) == fresh.merged(PartyBatch(2, 0))


def test_the_report_says_how_far_the_policy_reaches(run: RunDirectory, tmp_path: Path) -> None:
    page = build_report(copy_of(run, tmp_path / "run"))
    assert "over the requests of all rounds so far" in page.path.read_text(encoding="utf-8")
