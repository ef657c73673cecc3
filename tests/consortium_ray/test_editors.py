"""Every editor over workers: the bits of the serial twin, also when workers are lost and when a run is resumed."""

import pytest
from consortium.engine import serial
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium.scenario.editor import EDITORS
from consortium_ray import runtime
from support.pools import LocalPool, run_on
from support.scenarios import ALL_METHODS, associative_scenario, difference, pico_scenario
from support.tiers import one_quick

INJECTED_FAULT = {"losses": {"targets": 0.1, "collect": 0.1, "evaluate": 0.1}, "duplicates": 0.3, "late": 0.5}


def make_scenario(model, pico, name, methods=ALL_METHODS, **changes):
    suits = EDITORS[name].merges or ALL_METHODS
    changes |= {"merge": {"methods": [method for method in methods if method in suits], "exchange": "round"}}
    changes |= {"editor": {"method": name} | ({"steps": 4, "learning_rate": 0.01} if name == "ft" else {})}
    return associative_scenario(**changes) if model == "associative" else pico_scenario(pico[model], **changes)


def assert_same(found, whole):
    assert difference(whole.arm_states(), found.arm_states()) == []
    for table in ("edits", "parties", "metrics"):
        assert found.table(table).equals(whole.table(table)), table


@pytest.mark.parametrize("model", one_quick(["associative", "llama"]))
@pytest.mark.parametrize("name", EDITORS)
def test_workers_that_are_lost_leave_no_trace(name, model, pico, finished_run, tmp_path):
    scenario = make_scenario(model, pico, name, stream={"rounds": 2})
    whole = finished_run(scenario)
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        run_on(LocalPool(scenario, open_facts(scenario), size=3, seed=1, **INJECTED_FAULT), directory)
    assert_same(RunDirectory.open(tmp_path / "run"), whole)


class _EnoughError(Exception):
    pass


@pytest.mark.parametrize("name", EDITORS)
def test_a_run_that_was_killed_ends_with_the_same_bits(name, finished_run, tmp_path):
    """Killed in round 2, whose updates are solved against round 1's history."""
    scenario = make_scenario("associative", None, name, stream={"rounds": 3})

    def watch(progress):
        if (progress.phase, progress.round) == ("evaluate", 2):
            raise _EnoughError

    directory = RunDirectory.create(tmp_path / "run", scenario)
    with pytest.raises(_EnoughError):
        serial.run_serial(scenario, directory, open_facts(scenario), watch)
    directory.close()
    with RunDirectory.open(tmp_path / "run") as again:
        serial.run_serial(again.scenario, again, open_facts(again.scenario), lambda progress: None)
    assert_same(RunDirectory.open(tmp_path / "run"), finished_run(scenario))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize(("name", "methods"), [("alphaedit", ["collabedit"]), ("ft", ["ties"])])
def test_on_ray_as_serially(name, methods, finished_run, tmp_path):
    """The two editors whose workers need other things than MEMIT's: the key covariance, to project by, though no party
    solves;
    and no key covariance at all.
    """
    cluster = {"workers": {"min": 1, "max": 2, "cpus": 0.1}}
    scenario = make_scenario("associative", None, name, methods, stream={"rounds": 2}, cluster=cluster)
    with RunDirectory.create(tmp_path / "ray", scenario) as directory:
        runtime.run_on_ray(scenario, directory, open_facts(scenario), lambda progress: None)
    assert_same(RunDirectory.open(tmp_path / "ray"), finished_run(scenario))
