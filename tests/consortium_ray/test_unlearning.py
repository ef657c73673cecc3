"""Edits that are removed over workers: the serial bits, and each subtraction once, whatever goes wrong."""

from collections import Counter

import pytest
from consortium.engine.arms import Arm
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium_ray import runtime
from consortium_ray.coordinator.coordinator import Coordinator
from support.pools import LocalPool, run_on
from support.scenarios import difference, pico_scenario, unlearning_scenario
from support.tiers import one_quick

INJECTED_FAULT = {
    "losses": {"targets": 0.1, "collect": 0.1, "unlearn": 0.3, "evaluate": 0.1},
    "duplicates": 0.4,
    "late": 0.5,
}


@pytest.fixture(scope="module")
def serial_run(finished_run):
    return finished_run(unlearning_scenario())


def run_locally(scenario, path, size=3, **settings):
    with RunDirectory.create(path, scenario) as directory:
        pool = LocalPool(scenario, open_facts(scenario), size, **settings)
        run_on(pool, directory)
    return RunDirectory.open(path), pool


def assert_same(directory, expected):
    assert difference(expected.arm_states(), directory.arm_states()) == []
    for table in ("edits", "parties", "metrics"):
        assert directory.table(table).equals(expected.table(table)), table


@pytest.mark.parametrize(("size", "seed"), one_quick([(3, 1), (1, 0), (3, 2)]))
def test_one_worker_and_three_give_the_serial_bits(serial_run, size, seed, tmp_path):
    directory, _ = run_locally(serial_run.scenario, tmp_path / "run", size, seed=seed)
    assert_same(directory, serial_run)


def test_each_subtraction_counts_once_in_a_run_full_of_injected_fault(serial_run, tmp_path, monkeypatch):
    taken = []
    unlearn = Arm.unlearn

    def watched(arm, gone):
        taken.append((gone.basis, gone.num_edits))
        unlearn(arm, gone)

    monkeypatch.setattr(Arm, "unlearn", watched)
    directory, pool = run_locally(serial_run.scenario, tmp_path / "run", seed=7, **INJECTED_FAULT)
    assert_same(directory, serial_run)
    calls = Counter(call.key for _, call in pool.started if call.method == "unlearn")
    assert max(calls.values()) > 1, "no call was lost and made again, which shows nothing"
    found = sorted((basis.arm, basis.round, basis.layer, number) for basis, number in taken)
    assert found == sorted(
        (arm, number, layer, {3: 12, 4: 3}[number])
        for arm in ("global", "collabedit")
        for number in (3, 4)
        for layer in (0, 1, 2)
    )
    rows = [row for row in directory.table("events").to_pylist() if row["kind"] == "unlearn"]
    keys = [(row["round"], row["arm"], row["layer"], row["party_batch"]) for row in rows]
    assert len(keys) == len(set(keys)) == 2 * 3 * (3 + 1)
    assert {party_batch for number, _, _, party_batch in keys if number == 3} == {0, 1, 2}


def test_a_run_that_is_killed_while_edits_are_taken_back_goes_on_elsewhere(serial_run, tmp_path):
    """Stopped when the second subtraction of round 3 was asked for, then in round 4, on one, two and three workers."""
    scenario, path = serial_run.scenario, tmp_path / "run"
    RunDirectory.create(path, scenario).close()
    for workers, stop in ((1, 3), (2, 4), (3, None)):
        with RunDirectory.open(path) as directory:
            pool = LocalPool(scenario, open_facts(scenario), workers, seed=workers)
            coordinator = Coordinator(scenario, directory, pool.facts, pool)
            while not coordinator.is_done and _num_asked(pool, stop) < 2:
                coordinator.step(0.0)
    directory = RunDirectory.open(path)
    assert directory.status == "interrupted" or directory.committed_round == 4
    assert_same(directory, serial_run)


def _num_asked(pool, round_number):
    return sum(call.method == "unlearn" and call.arguments[1].round == round_number for _, call in pool.started)


def test_only_party_batches_that_take_something_back_are_asked(serial_run, tmp_path):
    _, pool = run_locally(serial_run.scenario, tmp_path / "run")
    asked = {(call.arguments[1].round, call.party_batch) for _, call in pool.started if call.method == "unlearn"}
    assert asked == {(3, 0), (3, 1), (3, 2), (4, 2)}


@pytest.mark.slow
def test_a_language_model_gives_the_serial_bits_where_targets_are_made_again(pico, finished_run, tmp_path):
    """With workers that are lost all the time, nobody has the targets of round 1 any more when they are removed."""
    scenario = pico_scenario(
        pico["llama"],
        parties={"count": 4},
        stream={"rounds": 2},
        unlearn={"parties": [], "edits": [{"round": 2, "parties": [0, 3], "share": 0.5}]},
        merge={"methods": ["global", "collabedit"], "reference": "initial", "exchange": "round"},
        evaluate={"metrics": ["efficacy", "retention", "removed_efficacy"]},
    )
    expected = finished_run(scenario)
    directory, pool = run_locally(scenario, tmp_path / "run", 2, seed=3, losses={"unlearn": 0.6}, late=0.5)
    assert_same(directory, expected)
    assert max(Counter(call.key for _, call in pool.started if call.method == "unlearn").values()) > 1


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_ray_gives_the_serial_bits(serial_run, tmp_path):
    scenario = unlearning_scenario(cluster={"workers": {"min": 1, "max": 3, "cpus": 0.1}})
    with RunDirectory.create(tmp_path / "ray", scenario) as directory:
        runtime.run_on_ray(scenario, directory, open_facts(scenario), lambda progress: None)
    assert_same(RunDirectory.open(tmp_path / "ray"), serial_run)
