"""What must hold on real Ray, in the quick tier: the same bits, also after a killed worker, and after an
interruption."""

import pytest
from consortium.common.errors import RunError
from consortium.engine import serial
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium_ray import runtime
from support.scenarios import associative_scenario, difference

pytestmark = pytest.mark.usefixtures("ray_here")


def small(*faults):
    workers = {"min": 1, "max": 1, "cpus": 0.1}
    return associative_scenario(
        merge={"methods": ["global", "ties"]}, cluster={"workers": workers}, faults=list(faults)
    )


@pytest.fixture(scope="module")
def whole(finished_run):
    return finished_run(small())


def end_on_ray(directory, report_progress=lambda progress: None):
    """Run what is left of a run; returns its events."""
    runtime.run_on_ray(directory.scenario, directory, open_facts(directory.scenario), report_progress)
    assert directory.status == "done"
    return directory.table("events").to_pylist()


def assert_same(whole, path):
    directory = RunDirectory.open(path)
    assert difference(whole.arm_states(), directory.arm_states()) == []
    for table in ("edits", "parties", "metrics"):
        assert directory.table(table).equals(whole.table(table)), table


def test_a_run_on_ray_has_the_serial_bits(whole, tmp_path):
    told = []
    with RunDirectory.create(tmp_path / "run", small()) as directory:
        events = end_on_ray(directory, told.append)
    assert_same(whole, tmp_path / "run")
    shares = [progress.share_done for progress in told]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert {row["worker"] for row in events if row["kind"] == "collect"} == {"worker-0"}


def test_a_worker_that_is_killed_changes_nothing(whole, tmp_path):
    with RunDirectory.create(tmp_path / "run", small({"round": 2, "during": "collect"})) as directory:
        events = end_on_ray(directory)
    assert_same(whole, tmp_path / "run")
    (lost,) = [row for row in events if row["kind"] == "worker-lost"]
    assert lost["round"] == 2
    assert lost["detail"].startswith("ActorDiedError")


def test_an_interrupted_run_is_resumed(whole, tmp_path):
    def stop(progress):
        if (progress.phase, progress.round) == ("targets", 2):
            raise RunError("found", "expected", "remedy")

    with RunDirectory.create(tmp_path / "run", small()) as directory, pytest.raises(RunError, match="found"):
        serial.run_serial(directory.scenario, directory, open_facts(directory.scenario), stop)
    with RunDirectory.open(tmp_path / "run") as directory:
        events = end_on_ray(directory)
    assert_same(whole, tmp_path / "run")
    assert [row["detail"] for row in events if row["kind"] == "resumed"] == ["after round 1"]
