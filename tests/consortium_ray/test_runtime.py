"""Runs on real Ray: the same bits, whoever is killed, and errors that a person can read.

A worker takes seconds to start, so runs are few and each shows several things.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial

import pytest
import ray
from consortium.cli import main
from consortium.common.errors import ClusterError, ModelError, RunDirectoryError, RunError
from consortium.engine import serial
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium_ray import runtime
from support.machines import listening
from support.scenarios import ALL_METHODS, associative_scenario, difference, pico_scenario

WORKERS = {"min": 1, "cpus": 0.1}


def quiet(progress):
    pass


def run_on_ray(scenario, path, report_progress=quiet):
    with RunDirectory.create(path, scenario) as directory:
        runtime.run_on_ray(scenario, directory, open_facts(scenario), report_progress)
        assert directory.status == "done"
    return RunDirectory.open(path)


@contextmanager
def no_actor_left():
    """Every actor that a block makes is gone soon after it."""
    yield
    give_up = time.monotonic() + 10
    while alive := _num_workers():
        assert time.monotonic() < give_up, f"{alive} actors are left"
        time.sleep(0.2)


def _num_workers():
    """What actors hold of the CPUs: workers are the only ones that reserve any."""
    return round(10 * (ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0)))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
class TestRuns:
    def test_three_workers_that_are_killed_in_every_phase_give_the_serial_bits(self, pico, finished_run, tmp_path):
        faults = [{"round": 2, "during": phase} for phase in ("targets", "collect", "evaluate")]
        scenario = pico_scenario(
            pico["llama"],
            parties={"count": 5},
            stream={"rounds": 2, "overlap": 0.5},
            merge={"methods": ALL_METHODS},
            cluster={"parties_per_batch": 1, "workers": {**WORKERS, "max": 3}},
            faults=faults,
        )
        with no_actor_left():
            directory = run_on_ray(scenario, tmp_path / "ray")
        whole = finished_run(scenario)
        assert difference(whole.arm_states(), directory.arm_states()) == []
        assert directory.table("metrics").equals(whole.table("metrics"))
        events = directory.table("events").to_pylist()
        lost = [row for row in events if row["kind"] == "worker-lost"]
        assert [row["round"] for row in lost] == [2, 2, 2]
        assert all(row["detail"].startswith("ActorDiedError") for row in lost)
        assert len({row["worker"] for row in events if row["worker"]}) >= 4, "three were lost, and another one finished"

    def test_workers_that_are_killed_while_parties_announce_give_the_serial_bits(self, finished_run, tmp_path):
        scenario = associative_scenario(
            stream={"rounds": 2, "sharing_group_size": 3},
            overlap={"duplicates": "count_once"},
            conflicts={"policy": "priority", "num_paraphrases": 1},
            evaluate={"metrics": ["efficacy", "retention", "conflict_score", "conflict_magnitude"]},
            cluster={"parties_per_batch": 1, "workers": {**WORKERS, "max": 2}},
            faults=[{"round": number, "during": "announce"} for number in (1, 2)],
        )
        with no_actor_left():
            directory = run_on_ray(scenario, tmp_path / "ray")
        whole = finished_run(scenario)
        assert difference(whole.arm_states(), directory.arm_states()) == []
        for table in ("edits", "parties", "metrics"):
            assert directory.table(table).equals(whole.table(table)), table
        events = directory.table("events").to_pylist()
        assert [row["round"] for row in events if row["kind"] == "worker-lost"] == [1, 2]

    def test_the_run_is_held_at_every_moment(self, tmp_path):
        """A thread looks every few milliseconds, as another command would, while the coordinator comes and goes."""
        scenario = associative_scenario(cluster={"workers": {**WORKERS, "max": 1}})
        path, ended, seen = tmp_path / "run", threading.Event(), set()

        def look():
            while not ended.wait(0.005):
                with (path / "run.lock").open() as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                        seen.add("free")
                    except BlockingIOError:
                        seen.add("held")
                seen.add(RunDirectory.open(path).status)

        with RunDirectory.create(path, scenario) as directory:
            watcher = threading.Thread(target=look)
            watcher.start()
            try:
                runtime.run_on_ray(scenario, directory, open_facts(scenario), quiet)
            finally:
                ended.set()
                watcher.join()
        assert seen - {"done"} == {"held", "running"}

    def test_a_coordinator_that_dies_is_told_and_the_run_goes_on_from_there(self, finished_run, tmp_path):
        on_failure = {"coordinator": "stop"}
        cluster = {"workers": {**WORKERS, "max": 1}, "on_failure": on_failure}
        scenario = associative_scenario(stream={"rounds": 3}, cluster=cluster)
        path = tmp_path / "run"

        def kill_in_round_2(progress):
            if progress.round == 2:
                # The lock names the process that writes the run directory: the coordinator's.
                writer = int((path / "writer.lock").read_text().split()[1])
                assert writer != os.getpid()
                os.kill(writer, signal.SIGKILL)

        with RunDirectory.create(path, scenario) as directory:
            with no_actor_left(), pytest.raises(RunError, match="the coordinator is gone: ActorDied") as caught:
                runtime.run_on_ray(scenario, directory, open_facts(scenario), kill_in_round_2)
            assert "\n" not in caught.value.found
            directory.mark_failed(caught.value)
        with RunDirectory.open(path) as directory:
            assert directory.committed_round >= 1
            serial.run_serial(
                scenario, directory, open_facts(scenario), quiet
            )  # either can go on where the other stopped
        whole = finished_run(scenario)
        again = RunDirectory.open(path)
        assert difference(whole.arm_states(), again.arm_states()) == []
        assert again.table("metrics").equals(whole.table("metrics"))

    def test_a_users_error_inside_a_worker_comes_out_as_itself(self, tmp_path):
        scenario = pico_scenario(tmp_path / "no-model", cluster={"workers": {**WORKERS, "max": 1}})
        with RunDirectory.create(tmp_path / "run", scenario) as directory:
            with no_actor_left(), pytest.raises(ModelError) as caught:
                runtime.run_on_ray(scenario, directory, open_facts(scenario), quiet)
            assert type(caught.value) is ModelError
            assert "Traceback" not in str(caught.value)
            assert caught.value.remedy
            directory.mark_failed(caught.value)  # the lock is back

    def test_an_error_of_the_coordinators_opening_comes_out_as_itself(self, tmp_path):
        scenario = associative_scenario(cluster={"workers": {**WORKERS, "max": 1}})
        path = tmp_path / "run"
        with RunDirectory.create(path, scenario) as directory:
            (path / "scenario.yaml").write_text("name: [")
            with pytest.raises(RunDirectoryError, match=r"scenario\.yaml is missing or damaged"):
                runtime.run_on_ray(scenario, directory, open_facts(scenario), quiet)

    def test_more_workers_than_the_cluster_can_give_are_refused_first(self, tmp_path, monkeypatch, capsys):
        """Before the coordinator starts, so before any worker or model; the command line answers 2."""
        monkeypatch.setattr(runtime, "_drive", lambda *_: pytest.fail("the run was started"))
        scenario = associative_scenario(cluster={"workers": {"min": 1000, "max": 1000}})
        file = tmp_path / "greedy.yaml"
        file.write_text(json.dumps(scenario.model_dump(mode="json")))
        assert main.main(["run", str(file), "--out", str(tmp_path / "run")]) == 2
        assert not (tmp_path / "run").exists(), "a refused run leaves nothing behind"
        err = capsys.readouterr().err
        assert "cluster.workers: at least 1000 workers at 1 CPU" in err
        assert "Traceback" not in err

    def test_a_connection_that_was_there_is_used_and_left(self):
        with runtime.connected(None):
            assert ray.is_initialized()
        assert ray.is_initialized()


def test_no_cluster_at_an_address_is_the_users_error(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", _refuse)
    monkeypatch.setattr(runtime, "checked_address", lambda address: address)
    with (
        pytest.raises(ClusterError, match=r"no connection to Ray at 10\.0\.0\.1:6379"),
        runtime.connected("10.0.0.1:6379"),
    ):
        pass


def _refuse(**settings):
    raise ConnectionError("nobody there")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_run_that_can_be_resumed(number, tmp_path):
    """As typed in a terminal, or sent by a batch system: to the whole group, Ray's own processes among them."""
    scenario = associative_scenario(stream={"rounds": 40}, cluster={"workers": {**WORKERS, "max": 1}})
    file, path = tmp_path / "long.yaml", tmp_path / "run"
    file.write_text(json.dumps(scenario.model_dump(mode="json")))
    command = [sys.executable, "-m", "consortium.cli", "run", str(file), "--out", str(path)]
    # A shell that starts tests in the background has them ignore the signal, and children inherit that.
    heed = partial(signal.signal, number, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed)
    give_up = time.monotonic() + 300
    while _committed(path) < 1:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.1)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert f"Interrupted; to go on: consortium resume {path}" in err
    assert "Traceback" not in err
    with RunDirectory.open(path) as directory:
        assert directory.status == "interrupted"
        committed = directory.committed_round
        assert 1 <= committed < 40
        directory.lock()  # nobody writes any more


def test_a_ray_that_does_not_start_is_tried_twice_and_then_told(monkeypatch):
    """Ray raises a bare Exception where its processes do not come up in time."""
    asked = []

    def init(**settings):
        asked.append(settings["address"])
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(runtime, "checked_address", lambda address: address)
    with (
        pytest.raises(ClusterError, match="Ray does not start on this machine: The current node"),
        runtime.connected(None),
    ):
        pass
    assert asked == ["local", "local"]
    with (
        pytest.raises(ClusterError, match=r"no connection to Ray at 10\.0\.0\.1:6379"),
        runtime.connected("10.0.0.1:6379"),
    ):
        pass
    assert asked[2:] == ["10.0.0.1:6379"]


def test_what_is_waited_for_is_said_before_ray_is(tmp_path, monkeypatch):
    """Starting Ray or reaching a cluster may take minutes, in which nothing else could be said."""
    said = []

    @contextmanager
    def joined(address):
        yield said.append(address)

    def refuse(*_):
        raise ClusterError("found", "expected", "remedy")

    monkeypatch.setattr(runtime, "_joined", joined)
    monkeypatch.setattr(runtime, "present", refuse)
    scenario = associative_scenario()
    for address, place in ((None, "Ray on this machine"), ("10.0.0.1:6379", "Ray at 10.0.0.1:6379")):
        said.clear()
        path = tmp_path / place.replace(":", "-")
        with RunDirectory.create(path, scenario) as directory, pytest.raises(ClusterError):
            runtime.run_on_ray(scenario, directory, open_facts(scenario), said.append, address)
        assert (said[0].waiting_for, said[0].num_rounds, said[1]) == (place, scenario.stream.rounds, address)


@pytest.mark.slow
def test_a_run_of_its_own_listens_on_the_loopback_address_alone(tmp_path):
    """Whoever is on the network must have no port to try; the token that Ray asks for comes second."""
    scenario = associative_scenario(stream={"rounds": 40}, cluster={"workers": {**WORKERS, "max": 1}})
    file, path = tmp_path / "long.yaml", tmp_path / "run"
    file.write_text(json.dumps(scenario.model_dump(mode="json")))
    command = [sys.executable, "-m", "consortium.cli", "run", str(file), "--out", str(path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        give_up = time.monotonic() + 300
        while _committed(path) < 1:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < give_up
            time.sleep(0.1)
        addresses = listening(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert len(addresses) >= 4  # the driver, Ray's two services and the workers
    assert all(each.is_loopback for each in addresses)


def _committed(path):
    try:
        return RunDirectory.open(path).committed_round or 0
    except RunDirectoryError:
        return 0
