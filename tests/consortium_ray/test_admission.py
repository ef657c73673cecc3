"""Refused parties on hosts: the serial twin's bits, whatever order answers come in and whatever hosts are lost."""

import pytest
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from support.pools import LocalPool, run_on
from support.scenarios import ALL_METHODS, associative_scenario, difference

ATTACKS = [
    {"kind": "nan", "parties": [1], "rounds": [1, 1]},
    {"kind": "huge", "parties": [4], "rounds": [2, 3]},
    {"kind": "flip", "parties": [6]},
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("quarantine", ["round", 2])
def test_as_the_serial_twin_in_any_order_of_answers(seed, quarantine, finished_run, tmp_path):
    scenario = associative_scenario(
        stream={"rounds": 3}, merge={"methods": ALL_METHODS}, attacks=ATTACKS, admission={"quarantine": quarantine}
    )
    serial = finished_run(scenario)
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        losses = {"targets": 0.1, "collect": 0.1}
        run_on(LocalPool(scenario, open_facts(scenario), 3, seed, losses=losses, duplicates=0.3, late=0.5), directory)
    run = RunDirectory.open(tmp_path / "run")
    assert difference(serial.lane_states(), run.lane_states()) == []
    assert {lane: state.refused for lane, state in run.lane_states().items()} == {
        lane: state.refused for lane, state in serial.lane_states().items()
    }
    for table in ("edits", "parties", "metrics"):
        assert run.table(table).equals(serial.table(table)), table
    refused = [
        [row["detail"] for row in each.table("events").to_pylist() if row["kind"] == "refused"]
        for each in (run, serial)
    ]
    assert sorted(refused[0]) == sorted(refused[1])
    assert len(refused[0]) == (3 if quarantine == "round" else 2) * len(ALL_METHODS)


def test_what_is_taken_back_after_a_refusal(finished_run, tmp_path):
    scenario = associative_scenario(
        stream={"rounds": 3, "leave": [{"round": 3, "parties": [2]}]},
        merge={"methods": ["global", "collabedit"], "anchor": "base", "exchange": "round"},
        attacks=[{"kind": "nan", "parties": [2], "rounds": [1, 1]}],
    )
    serial = finished_run(scenario)
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        run_on(LocalPool(scenario, open_facts(scenario), 2), directory)
    assert difference(serial.lane_states(), RunDirectory.open(tmp_path / "run").lane_states()) == []
