"""Virtual time over workers: every process works out the same course, so the bits and the tables are the serial
ones."""

import pytest
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium_ray import runtime
from support.pools import LocalPool, run_on
from support.scenarios import associative_scenario, difference
from support.tiers import one_quick

INJECTED_FAULT = {
    "losses": {"targets": 0.1, "collect": 0.1, "evaluate": 0.1},
    "duplicates": 0.3,
    "late": 0.5,
}
TABLES = ("edits", "parties", "metrics", "schedule", "participation")


def late_scenario(**changes):
    return associative_scenario(
        stream={"rounds": 3},
        virtual_time={
            "devices": {"speed": {"lognormal": {"median": 1, "sigma": 1}}, "upload": 1e4, "jitter": 1.0},
            "schedule": {"deadline_s": 8, "select": 0.8, "over_select": 1.2, "edits_per_answer": 6},
        },
        merge={"methods": ["global", "collabedit", "ties"]},
        **changes,
    )


@pytest.fixture(scope="module")
def serial_run(finished_run):
    run = finished_run(late_scenario())
    assert sum(run.table("schedule")["num_carried"].to_pylist()) > 0, "nobody is late, which shows nothing"
    return run


def assert_same(directory, expected):
    assert difference(expected.arm_states(), directory.arm_states()) == []
    for table in TABLES:
        assert directory.table(table).equals(expected.table(table)), table


@pytest.mark.parametrize(("size", "injected_fault"), one_quick([(3, INJECTED_FAULT), (1, {}), (3, {})]))
def test_workers_that_answer_in_any_order_or_not_at_all_give_the_serial_bits(
    serial_run, tmp_path, size, injected_fault
):
    with RunDirectory.create(tmp_path / "run", serial_run.scenario) as directory:
        run_on(
            LocalPool(serial_run.scenario, open_facts(serial_run.scenario), size, seed=5, **injected_fault), directory
        )
    assert_same(RunDirectory.open(tmp_path / "run"), serial_run)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_two_workers_on_ray_give_the_serial_bits(serial_run, tmp_path):
    scenario = late_scenario(cluster={"workers": {"min": 1, "max": 2, "cpus": 0.1}})
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        runtime.run_on_ray(scenario, directory, open_facts(scenario), lambda progress: None)
    assert_same(RunDirectory.open(tmp_path / "run"), serial_run)
