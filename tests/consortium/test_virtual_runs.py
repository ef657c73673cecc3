"""Whole runs in virtual time: the same weights where nobody is late, an audit of every edit where somebody is."""

import json
from collections import Counter

import numpy as np
import pytest
from consortium.engine import serial
from consortium.features.registry import open_stream
from consortium.features.virtual_time.stream import message_sizes
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium.scenario.schema import Scenario
from support.pico import pico_folder
from support.scenarios import associative_scenario, difference, pico_scenario
from support.tiers import one_quick

SPREAD = {"speed": {"lognormal": {"median": 1, "sigma": 1}}, "upload": 1e4, "download": 1e5, "jitter": 1.0}
CARRY = {"deadline_s": 8, "select": 0.8, "over_select": 1.2}
ROUNDS = {"rounds": 4}
TWO = {"methods": ["collabedit", "ties"]}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return pico_folder(tmp_path_factory.mktemp("llama"), "llama", num_layers=4)


@pytest.fixture(scope="module")
def plain(finished_run):
    return finished_run(associative_scenario(stream=ROUNDS, merge=TWO))


@pytest.mark.parametrize(
    ("devices", "schedule"),
    one_quick([(SPREAD, {"deadline_s": 0.1, "late": "wait"}), (SPREAD, {"deadline_s": 1e9}), ({}, {"late": "wait"})]),
)
def test_who_waits_for_all_gets_the_weights_of_a_run_without_virtual_time(plain, finished_run, devices, schedule):
    timed = finished_run(
        associative_scenario(stream=ROUNDS, virtual_time={"devices": devices, "schedule": schedule}, merge=TWO)
    )
    assert difference(plain.arm_states(), timed.arm_states()) == []
    for table in ("parties", "metrics", "residuals"):
        assert timed.table(table).equals(plain.table(table)), table
    assert timed.table("edits").drop(["asked_in"]).equals(plain.table("edits").drop(["asked_in"]))
    assert timed.table("schedule")["num_carried"].to_pylist() == [0] * 4


def test_a_run_without_virtual_time_has_none_in_its_tables(plain):
    assert len(plain.table("schedule")) == len(plain.table("participation")) == 0
    assert plain.table("edits")["asked_in"].null_count == len(plain.table("edits"))


@pytest.fixture(scope="module")
def carried(finished_run):
    """Four rounds in which some are late, some are not asked, and everything else happens that can happen."""
    scenario = associative_scenario(
        stream=ROUNDS,
        virtual_time={"devices": SPREAD, "schedule": CARRY},
        merge=TWO,
        conflicts={"policy": "majority"},
        evaluate={"edits": "all", "metrics": ["efficacy", "paraphrase", "neighborhood", "retention", "conflict_score"]},
    )
    return finished_run(scenario)


def test_the_audit_of_edits_has_each_once(carried):
    """By the tables alone: party, round of asking and fact are in one row at most, and the others still wait."""
    edits, schedule = carried.table("edits").to_pylist(), carried.table("schedule").to_pylist()
    came = Counter((row["party"], row["asked_in"], row["fact_id"]) for row in edits)
    assert set(came.values()) == {1}
    assert len(came) + schedule[-1]["num_waiting"] == 7 * 4 * 4
    assert sum(row["num_carried"] for row in schedule) == sum(row["asked_in"] < row["round"] for row in edits) > 0
    assert [row["num_edits"] for row in schedule] == [
        sum(row["round"] == number for row in edits) for number in (1, 2, 3, 4)
    ]


def test_rows_of_participation_add_up_to_those_of_the_schedule(carried):
    participation, schedule = carried.table("participation").to_pylist(), carried.table("schedule").to_pylist()
    for turn in schedule:
        rows = [row for row in participation if row["round"] == turn["round"]]
        outcomes = Counter(row["outcome"] for row in rows)
        assert len(rows) == turn["num_asked"]
        assert (outcomes["merged"], outcomes["carried"]) == (turn["num_in_time"], turn["num_late"])
        assert sum(row["num_edits"] for row in rows if row["outcome"] == "merged") == turn["num_edits"]
        lasted_s = turn["end_s"] - turn["start_s"]
        assert all((row["answer_s"] <= lasted_s + 1e-9) == (row["outcome"] == "merged") for row in rows)
    assert [turn["start_s"] for turn in schedule[1:]] == [turn["end_s"] for turn in schedule[:-1]]


def test_the_virtual_message_weighs_what_the_real_one_does(carried):
    """The bytes by which the clock goes are those that the parties of collabedit send in the run."""
    sizes = message_sizes(carried.scenario)
    plain = {**json.loads(carried.scenario.model_dump_json()), "conflicts": {"policy": "none"}}
    assert message_sizes(Scenario.model_validate_json(json.dumps(plain))) == sizes
    rejected = {
        (row["round"], row["party"]) for row in carried.table("edits").to_pylist() if row["status"] == "rejected"
    }
    rows = [row for row in carried.table("parties").to_pylist() if row["arm"] == "collabedit"]
    rows = [row for row in rows if (row["round"], row["party"]) not in rejected]
    assert {row["num_edits"] for row in rows} > {4}
    for row in rows:
        assert row["bytes_sent"] == sizes.upload_bytes(_array(row["num_edits"]))[0]


def _array(number):
    return np.array([number])


@pytest.mark.parametrize("statistics", ["dense", "factored"])
def test_messages_of_other_forms_weigh_the_same_too(finished_run, statistics):
    scenario = associative_scenario(
        parties={"count": 2, "edits_per_round": 30},
        virtual_time={"devices": SPREAD},
        merge={"statistics": statistics},
        stream={"rounds": 1},
    )
    rows = finished_run(scenario).table("parties").to_pylist()
    expected = message_sizes(scenario).upload_bytes(_array(30))[0]
    assert {row["bytes_sent"] for row in rows if row["arm"] == "collabedit"} == {expected}


@pytest.mark.usefixtures("own_cache")
def test_tuned_weights_weigh_what_they_weigh(finished_run, llama):
    scenario = pico_scenario(
        llama,
        editor={"method": "ft", "layers": [1, 2], "steps": 1},
        merge={"methods": ["simple_average"], "exchange": "round"},
        virtual_time={"devices": SPREAD},
    )
    rows = finished_run(scenario).table("parties").to_pylist()
    assert {row["bytes_sent"] for row in rows} == {int(message_sizes(scenario).upload_bytes(_array(2))[0])}


def test_a_run_that_is_resumed_goes_on_in_the_same_virtual_time(carried, tmp_path):
    scenario = carried.scenario
    told = []

    def stop(progress):
        told.append(progress)
        if progress.round == 3:
            raise KeyboardInterrupt

    with RunDirectory.create(tmp_path / "run", scenario) as directory, pytest.raises(KeyboardInterrupt):
        serial.run_serial(scenario, directory, open_facts(scenario), stop)
    with RunDirectory.open(tmp_path / "run") as directory:
        assert directory.committed_round == 2
        serial.run_serial(scenario, directory, open_facts(scenario), lambda progress: None)
    again = RunDirectory.open(tmp_path / "run")
    assert difference(carried.arm_states(), again.arm_states()) == []
    for table in ("edits", "parties", "metrics", "schedule", "participation"):
        assert again.table(table).equals(carried.table(table)), table


def test_rounds_without_edits_leave_the_weights_alone(finished_run):
    """Nobody is there: nothing is merged, nothing is probed, and the run goes on to its end."""
    scenario = associative_scenario(
        virtual_time={"devices": {"speed": 1, "availability": 0}, "schedule": {"deadline_s": 5}},
        evaluate={"edits": "all"},
    )
    run = finished_run(scenario)
    assert len(run.table("edits")) == len(run.table("metrics")) == 0
    assert all(row["update_norm"] == 0 for row in run.table("rounds").to_pylist())


def test_carrying_merges_what_dropping_loses():
    """Of edits that are late in some round, most come in a later one."""
    came = {}
    for late in ("drop", "carry"):
        scenario = associative_scenario(
            stream=ROUNDS, virtual_time={"devices": SPREAD, "schedule": {"deadline_s": 8, "late": late}}
        )
        stream = open_stream(scenario, open_facts(scenario).relations())
        came[late] = sum(stream.num_requests(number) for number in (1, 2, 3, 4))
        assert (
            came[late] + stream.timeline.turns[-1].num_waiting + sum(t.num_lost for t in stream.timeline.turns) == 112
        )
    assert came["drop"] < came["carry"]
