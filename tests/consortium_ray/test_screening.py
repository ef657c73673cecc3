"""Refused parties on workers: the serial twin's bits, whatever order answers come in and whatever workers are lost."""

import pytest
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from support.pools import LocalPool, run_on
from support.scenarios import ALL_METHODS, associative_scenario, difference
from support.tiers import one_quick

ATTACKS = [
    {"kind": "nan", "parties": [1], "rounds": [1, 1]},
    {"kind": "oversized", "parties": [4], "rounds": [2, 3]},
    {"kind": "sign_flip", "parties": [6]},
]


@pytest.mark.parametrize("seed", one_quick(range(3)))
@pytest.mark.parametrize("exclusions", ["round", 2])
def test_as_the_serial_twin_in_any_order_of_answers(seed, exclusions, finished_run, tmp_path):
    scenario = associative_scenario(
        stream={"rounds": 3}, merge={"methods": ALL_METHODS}, attacks=ATTACKS, screening={"exclude_for": exclusions}
    )
    serial = finished_run(scenario)
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        losses = {"targets": 0.1, "collect": 0.1}
        run_on(LocalPool(scenario, open_facts(scenario), 3, seed, losses=losses, duplicates=0.3, late=0.5), directory)
    run = RunDirectory.open(tmp_path / "run")
    assert difference(serial.arm_states(), run.arm_states()) == []
    assert {arm: state.rejected for arm, state in run.arm_states().items()} == {
        arm: state.rejected for arm, state in serial.arm_states().items()
    }
    for table in ("edits", "parties", "metrics"):
        assert run.table(table).equals(serial.table(table)), table
    rejected = [
        [row["detail"] for row in each.table("events").to_pylist() if row["kind"] == "rejected"]
        for each in (run, serial)
    ]
    assert sorted(rejected[0]) == sorted(rejected[1])
    assert len(rejected[0]) == (3 if exclusions == "round" else 2) * len(ALL_METHODS)


def test_what_is_taken_back_after_a_refusal(finished_run, tmp_path):
    scenario = associative_scenario(
        stream={"rounds": 3},
        unlearn={"parties": [{"round": 3, "parties": [2]}]},
        merge={"methods": ["global", "collabedit"], "reference": "initial", "exchange": "round"},
        attacks=[{"kind": "nan", "parties": [2], "rounds": [1, 1]}],
    )
    serial = finished_run(scenario)
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        run_on(LocalPool(scenario, open_facts(scenario), 2), directory)
    assert difference(serial.arm_states(), RunDirectory.open(tmp_path / "run").arm_states()) == []
