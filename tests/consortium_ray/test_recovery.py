"""What breaks on purpose on real Ray, and how runs get over it. A worker takes seconds to start, so runs are few."""

import os
import signal
from collections import Counter
from contextlib import suppress

import pytest
from consortium.common.errors import ClusterError, RunError
from consortium.engine import audit
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium_ray import runtime
from support.scenarios import associative_scenario, difference

WORKERS = {"min": 1, "cpus": 0.1}
METHODS = ["global", "collabedit"]


def small(*faults, workers=1, **cluster):
    return associative_scenario(
        merge={"methods": METHODS}, faults=list(faults), cluster={"workers": {**WORKERS, "max": workers}, **cluster}
    )


def run_on_ray(scenario, path, report_progress=lambda progress: None):
    with RunDirectory.create(path, scenario) as directory:
        runtime.run_on_ray(scenario, directory, open_facts(scenario), report_progress)
    return RunDirectory.open(path)


@pytest.fixture(scope="module")
def whole(finished_run):
    return finished_run(small())


def assert_same(whole, directory):
    assert difference(whole.arm_states(), directory.arm_states()) == []
    for table in ("edits", "parties", "metrics"):
        assert directory.table(table).equals(whole.table(table)), table
    assert audit.verify(directory) == ()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
class TestRecovery:
    def test_a_coordinator_that_dies_is_followed_by_another_which_goes_on(self, whole, tmp_path):
        faults = [
            {"round": 1, "during": "commit", "action": "kill", "what": "coordinator"},
            {"round": 2, "during": "evaluate", "action": "kill", "what": "coordinator"},
        ]
        directory = run_on_ray(small(*faults), tmp_path / "run")
        assert_same(whole, directory)
        events = directory.table("events").to_pylist()
        lost = [row for row in events if row["kind"] == "coordinator-lost"]
        assert [row["round"] for row in lost] == [1, 2]
        assert all(row["detail"].startswith("ActorDiedError") for row in lost)
        assert [row["detail"] for row in events if row["kind"] == "resumed"] == ["after round 0", "after round 1"]
        assert directory.manifest.resumed == (), "nobody had to resume it"

    def test_coordinators_that_die_without_end_stop_the_run(self, tmp_path):
        path = tmp_path / "run"

        def kill(progress):
            # The lock names the process that writes the run directory: the coordinator's.
            writer = int((path / "writer.lock").read_text().split()[1])
            if writer != os.getpid():  # between two coordinators it is this process
                with suppress(ProcessLookupError):
                    os.kill(writer, signal.SIGKILL)

        scenario = small(on_failure={"max_losses": 1})
        with RunDirectory.create(path, scenario) as directory:
            with pytest.raises(RunError, match=r"coordinator is gone: .*, 2 times without a committed round") as caught:
                runtime.run_on_ray(scenario, directory, open_facts(scenario), kill)
            assert "\n" not in caught.value.found
            directory.mark_failed(caught.value)  # the lock is back

    def test_damaged_answers_are_asked_for_again_and_late_ones_waited_for(self, whole, tmp_path):
        """An answer is late, or damaged; how a worker that answers too late is given up has a test beside this one."""
        faults = [
            {"round": 1, "during": "evaluate", "action": "delay", "seconds": 0.2, "max": 2},
            {"round": 2, "during": "targets", "action": "corrupt_answer", "max": 2},
        ]
        directory = run_on_ray(small(*faults, workers=2), tmp_path / "run")
        assert_same(whole, directory)
        events = directory.table("events").to_pylist()
        assert Counter(row["detail"] for row in events if row["kind"] == "fault") == {
            "delay 0.2": 2,
            "corrupt_answer": 2,
        }
        assert [row["round"] for row in events if row["kind"] == "answer-refused"] == [2, 2]
        assert {row["num_attempts"] for row in directory.table("audit").to_pylist()} == {1}, "none of a merge"

    def test_a_full_disk_is_waited_for(self, whole, tmp_path):
        scenario = small({"round": 2, "action": "disk_full"}, on_failure={"wait_s": 0.1})
        directory = run_on_ray(scenario, tmp_path / "run")
        assert_same(whole, directory)

    def test_a_node_is_not_killed_where_there_is_only_one(self, tmp_path):
        scenario = small({"action": "kill", "what": "node"})
        with (
            RunDirectory.create(tmp_path / "run", scenario) as directory,
            pytest.raises(ClusterError, match=r"faults\.0: kill node"),
        ):
            runtime.run_on_ray(scenario, directory, open_facts(scenario), lambda progress: None)
