"""Coordinators that are lost in every way that Ray has a name for, that stand still, or are merely busy."""

import inspect
import os
import signal
import time

import pytest
import ray
from consortium.common.errors import ClusterError, ConsortiumError, RunError
from consortium.loading.prepare import open_facts
from consortium.records.code_version import this_code
from consortium.records.directory import RunDirectory
from consortium_ray import runtime
from consortium_ray.coordinator import coordinator_process
from consortium_ray.coordinator.coordinator_process import CoordinatorLostError, CoordinatorProcess
from consortium_ray.nodes import same_code
from consortium_ray.workers.worker_actor import WorkerActor
from ray import exceptions
from ray.exceptions import RayError, RayTaskError
from support.scenarios import associative_scenario, difference, run_serially

WORKERS = {"min": 1, "max": 1, "cpus": 0.1}
#: What ``ray.get`` raises of an answer that will never come.
LOST = [
    kind
    for _, kind in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(kind, RayError) and not issubclass(kind, RayTaskError)
]


def asked(monkeypatch, error):
    """What a driver makes of an error in place of an answer."""

    class Handle:
        def __getattr__(self, name):
            return type("Method", (), {"remote": lambda self, *arguments: name})()

    def get(ref):
        raise error

    coordinator = CoordinatorProcess.__new__(CoordinatorProcess)
    coordinator._handle, coordinator._is_lost = Handle(), False
    monkeypatch.setattr(coordinator_process.ray, "wait", lambda refs, timeout: (refs, []))
    monkeypatch.setattr(coordinator_process.ray, "get", get)
    with pytest.raises(Exception) as caught:  # noqa: PT011  (which one is what is tested)
        coordinator.ask("go on", "step")
    return caught.value


@pytest.mark.parametrize("kind", LOST)
def test_whatever_ray_calls_it_the_coordinator_is_lost(kind, monkeypatch):
    """The memory monitor's is no error of an actor: ``OutOfMemoryError`` is a ``RayError`` alone."""
    error = kind.__new__(kind)
    Exception.__init__(error, "why")
    monkeypatch.setattr(kind, "__str__", lambda self: "why", raising=False)
    found = asked(monkeypatch, error)
    assert isinstance(found, CoordinatorLostError)
    assert str(found) == f"{kind.__name__}: why"


def task_error(cause):
    return RayTaskError("step", "Traceback", cause)


def test_errors_of_its_own_are_told_apart(monkeypatch):
    own = RunError("numbers went bad")
    assert asked(monkeypatch, task_error(own)) is own
    memory = asked(monkeypatch, task_error(MemoryError("Unable to allocate 29.8 GiB")))
    assert isinstance(memory, RunError)
    assert "Unable to allocate 29.8 GiB" in memory.found
    assert isinstance(asked(monkeypatch, task_error(exceptions.ObjectStoreFullError("full"))), CoordinatorLostError)
    fault = asked(monkeypatch, task_error(KeyError("x")))
    assert isinstance(fault, RayTaskError)
    assert not isinstance(fault, ConsortiumError)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
class TestOnRay:
    def test_one_that_is_stopped_is_ended_and_followed_by_another(self, tmp_path, monkeypatch):
        monkeypatch.setattr(coordinator_process, "SILENCE_S", 4.0)
        monkeypatch.setattr(runtime, "CoordinatorProcess", lambda timeout_s, tell: CoordinatorProcess(4.0, tell))
        scenario = associative_scenario(stream={"rounds": 3}, cluster={"workers": WORKERS})
        path, stopped, waits = tmp_path / "run", [], []

        def stop_in_round_2(progress):
            waits.append(progress.waiting_for)
            if progress.round == 2 and not stopped:
                stopped.append(int((path / "writer.lock").read_text().split()[1]))
                assert stopped[0] != os.getpid()
                os.kill(stopped[0], signal.SIGSTOP)

        with RunDirectory.create(path, scenario) as directory:
            runtime.run_on_ray(scenario, directory, open_facts(scenario), stop_in_round_2)
        with pytest.raises(ProcessLookupError):
            os.kill(stopped[0], signal.SIGCONT)  # it cannot come back and write
        directory = RunDirectory.open(path)
        (lost,) = [row for row in directory.table("events").to_pylist() if row["kind"] == "coordinator-lost"]
        assert "no sign of life for 4 s (cluster.timeout_s), asked to go on with the run" in lost["detail"]
        whole = run_serially(scenario, tmp_path / "serial")
        assert difference(whole.arm_states(), directory.arm_states()) == []

    def test_long_work_is_no_sign_of_death_and_is_told(self, monkeypatch):
        monkeypatch.setattr(coordinator_process, "SILENCE_S", 2.0)
        monkeypatch.setattr(coordinator_process, "WORD_S", 3.0)
        told = []
        coordinator = CoordinatorProcess(2.0, told.append)
        try:
            coordinator.start()
            coordinator.ask("merge", "__ray_call__", lambda actor: time.sleep(8))
        finally:
            coordinator.end()
        assert any(each.startswith("the coordinator, at work for ") for each in told)

    def test_a_node_that_runs_other_code_is_refused_before_anything_starts(self, tmp_path, monkeypatch):
        mine = this_code()
        changed = {**mine, "place": "/patched", "files": {**mine["files"], "consortium/worker.py": "0" * 64}}
        monkeypatch.setattr(same_code, "this_code", lambda: {**changed, "versions": {**mine["versions"], "torch": "9"}})
        monkeypatch.setattr(runtime, "_drive", lambda *_: pytest.fail("the run was started"))
        scenario = associative_scenario(cluster={"workers": WORKERS})
        with (
            RunDirectory.create(tmp_path / "run", scenario) as directory,
            pytest.raises(ClusterError, match=r"\(consortium/worker\.py\)") as caught,
        ):
            runtime.run_on_ray(scenario, directory, open_facts(scenario), lambda progress: None)
        assert "in /patched against" in caught.value.found
        assert mine["place"] in caught.value.found
        assert f"torch 9 against {mine['versions']['torch']}" in caught.value.found
        assert ray.get_runtime_context().get_node_id()


def test_a_worker_that_runs_other_code_says_so_before_it_opens_a_model():
    scenario = associative_scenario()
    worker = WorkerActor(0, scenario, open_facts(scenario), where=lambda: "far")
    theirs = {**this_code(), "files": {}}
    with pytest.raises(ClusterError, match="node far runs other code than the command"):
        worker.open(theirs)
    assert worker.worker is None
    worker.open(this_code())
    assert worker.worker is not None
