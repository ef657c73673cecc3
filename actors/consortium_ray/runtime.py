"""Running a scenario on Ray: connects, starts the coordinator, and steps it until the run is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
import torch
from consortium.errors import ClusterError, ConsortiumError, RunError
from consortium.facts.edit import FactSet
from consortium.progress import Progress, ReportProgress
from consortium.records.directory import RunDirectory
from consortium.scenario.schema import Scenario
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from consortium_ray.coordinator import Coordinator
from consortium_ray.pool import RayPool

#: Longest time that one step waits for hosts before it tells how things stand.
STEP_S = 0.5


def run(
    scenario: Scenario,
    directory: RunDirectory,
    facts: FactSet,
    report_progress: ReportProgress,
    address: str | None = None,
) -> None:
    """Run a scenario from where its directory stands to its end.

    Args:
        scenario: the scenario as resolved.
        directory: its run directory; written by the coordinator while the run goes on.
        facts: its facts.
        report_progress: told how the run stands, about twice a second.
        address: address of a running Ray cluster (or ``auto``); None starts one on this machine for this run.

    Raises:
        ClusterError: the cluster cannot give the hosts asked for, or cannot be reached.
        ConsortiumError: the run cannot go on.
    """
    with _connected(address):
        size = _num_hosts(scenario, ray.cluster_resources())  # type: ignore[no-untyped-call]
        # The coordinator writes the run directory from now on, so this process lets go of its lock.
        directory.mark_running()
        directory.close()
        try:
            _drive(scenario, str(directory.path), facts, size, report_progress)
        finally:
            directory.lock()
        directory.mark_done()


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A connection to Ray; a cluster that was started here ends here."""
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        settings |= {"address": "local", "include_dashboard": False}
    else:
        settings["address"] = address
    try:
        _connect(settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ClusterError(
            f"no connection to Ray at {address or 'this machine'}: {error}",
            "a running cluster of the same Ray version",
            "check --address (and RAY_AUTH_MODE), or leave it out to start Ray on this machine",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _connect(settings: dict[str, Any]) -> None:
    try:
        ray.init(**settings)
    except RuntimeError:
        # A machine that reads Ray from disk for the first time can outlast Ray's own patience with its processes.
        ray.shutdown()
        ray.init(**settings)


def _num_hosts(scenario: Scenario, resources: dict[str, float]) -> int:
    """How many hosts to start: never more than there are cohorts or than the cluster has room for.

    Raises:
        ClusterError: the cluster has no room for ``cluster.hosts.min`` hosts.
    """
    hosts = scenario.cluster.hosts
    asked = {"CPU": hosts.cpus, "GPU": hosts.gpus}
    room = min([int(resources.get(name, 0) / share + 1e-9) for name, share in asked.items() if share] or [hosts.max])
    if room < hosts.min:
        has = ", ".join(f"{resources.get(name, 0):g} {name}" for name in asked)
        raise ClusterError(
            f"cluster.hosts.min: {hosts.min} hosts at {hosts.cpus:g} CPU and {hosts.gpus:g} GPU each",
            f"at most {room}: the cluster has {has}",
            "lower cluster.hosts.min, or give each host less (cluster.hosts.cpus may be a fraction)",
        )
    return min(hosts.max, room, max(scenario.num_cohorts, hosts.min))


def _drive(scenario: Scenario, path: str, facts: FactSet, size: int, report_progress: ReportProgress) -> None:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options: dict[str, Any] = {"num_cpus": 0, "max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": here}
    make: Any = ray.remote(**options)(CoordinatorActor)
    coordinator = make.remote(scenario, path, facts, size)
    try:
        while True:
            is_done, told = ray.get(coordinator.step.remote(STEP_S))
            for progress in told:
                report_progress(progress)
            if is_done:
                return
    except RayTaskError as error:
        raise error.cause if isinstance(error.cause, ConsortiumError) else error from None
    except RayActorError as error:
        raise RunError(
            f"the coordinator is gone: {error}",
            "a coordinator that lives as long as the run",
            "look at the memory of this machine; `consortium resume` goes on from the last committed round",
        ) from error
    finally:
        _end(coordinator)


def _end(coordinator: Any) -> None:
    with suppress(RayActorError, RayTaskError, GetTimeoutError):
        ray.get(coordinator.close.remote(), timeout=10)
    ray.kill(coordinator)


class CoordinatorActor:
    """The coordinator as an actor: a shell that holds the state machine and steps it.

    Args:
        scenario: the scenario as resolved.
        path: the run directory, on this machine.
        facts: all facts.
        size: number of hosts.
    """

    def __init__(self, scenario: Scenario, path: str, facts: FactSet, size: int) -> None:
        torch.set_num_threads(scenario.cluster.threads)
        self.directory = RunDirectory.open(path)
        self.directory.lock()
        self.pool = RayPool(scenario, facts, size)
        self.coordinator = Coordinator(scenario, self.directory, facts, self.pool)

    def step(self, timeout_s: float) -> tuple[bool, list[Progress]]:
        """One step; whether the run is done, and what there is to tell."""
        told = self.coordinator.step(timeout_s)
        return self.coordinator.is_done, told

    def close(self) -> None:
        """End the hosts and let go of the run directory."""
        self.pool.close()
        self.directory.close()
