"""Running a scenario on Ray: connects, starts the coordinator, and steps it until the run is done."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any

import ray
from consortium.common.counting import count
from consortium.common.errors import ClusterError, RunDirectoryError, RunError
from consortium.common.interruption import is_interrupted, shielded
from consortium.common.progress import Progress, ReportProgress
from consortium.data.edit import FactSet
from consortium.engine.key_covariance import take_up
from consortium.features.faults.retry import restarts_coordinator
from consortium.records.directory import RunDirectory
from consortium.scenario.schema import Scenario

from consortium_ray.coordinator.coordinator_process import CoordinatorLostError, CoordinatorProcess
from consortium_ray.faults.node_loss import check_nodes
from consortium_ray.local_cluster.autoscaling import cluster_config, local_cluster
from consortium_ray.nodes.address import checked_address
from consortium_ray.nodes.local import prepared_ray_folder
from consortium_ray.nodes.node_watch import see_nodes_end
from consortium_ray.nodes.nodes import UNREACHABLE, growth_of_cluster, growth_of_file, present, tell_demand
from consortium_ray.nodes.placement import FIXED, Growth, refuse_what_cannot_be
from consortium_ray.nodes.same_code import refuse_other_code

#: Longest time that one step waits for workers before it tells how things stand.
STEP_S = 0.5


def run_on_ray(
    scenario: Scenario,
    directory: RunDirectory,
    facts: FactSet,
    report_progress: ReportProgress,
    address: str | None = None,
    *,
    autoscale: bool = False,
) -> None:
    """Run a scenario from where its directory stands to its end.

    Args:
        scenario: the scenario as resolved.
        directory: its run directory; written by the coordinator while the run goes on.
        facts: its facts.
        report_progress: told how the run stands, about twice a second.
        address: address of a running Ray cluster (or ``auto``); None starts one on this machine for this run.
        autoscale: start one on this machine that grows and shrinks, by ``cluster.autoscale``.

    Raises:
        ClusterError: the cluster cannot give the workers asked for, or cannot be reached.
        ConsortiumError: the run cannot go on.
    """
    place = "on this machine" if address is None else f"at {address}"
    report_progress(replace(_start(scenario), waiting_for=f"Ray {place}"))
    with _grown(scenario) if autoscale else _joined(address) as growth:
        refuse_what_cannot_be(scenario.cluster.worker_kinds, present(), growth)
        refuse_other_code({each["NodeID"]: each["NodeName"] for each in ray.nodes() if each["Alive"]})  # type: ignore[no-untyped-call]
        check_nodes(scenario, ray.nodes(), ray.get_runtime_context().get_node_id(), growth)  # type: ignore[no-untyped-call]
        take_up(directory, facts)
        try:
            _drive(scenario, directory, facts, growth, report_progress)
        except BaseException:
            # What went wrong is worth more than a coordinator that does not let go.
            with shielded(), suppress(RunDirectoryError):
                directory.lock()
            raise
        finally:
            if growth.is_possible:
                with shielded(), suppress(*UNREACHABLE):
                    tell_demand([])  # here, since a coordinator may end without a chance to do it
        directory.lock()
        if autoscale:
            directory.add_nodes(see_nodes_end(scenario, directory))
        directory.mark_done()


def _start(scenario: Scenario) -> Progress:
    return Progress("start", 0, scenario.stream.rounds, 0, 0, "steps", 0.0, 0.0)


@contextmanager
def _joined(address: str | None) -> Iterator[Growth]:
    with connected(address):
        yield FIXED if address is None else growth_of_cluster()


@contextmanager
def _grown(scenario: Scenario) -> Iterator[Growth]:
    if ray.is_initialized():
        raise ClusterError(
            "autoscale in a process that is connected to Ray already",
            "a process without a connection, for the cluster that is started",
            "call ray.shutdown() first, or leave autoscale out to use the cluster that is there",
        )
    spec = scenario.cluster.autoscale
    with local_cluster(spec) as own, connected(own):
        yield growth_of_file(cluster_config(spec, ""))


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection to Ray; a cluster that was started here ends here.

    Where the process has a connection already, that one is used, whatever the address, and left as it is.

    Raises:
        ClusterError: there is no cluster at the address, or none can be started.
    """
    if ray.is_initialized():
        yield
        return
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        settings |= {"address": "local", "include_dashboard": False}
    else:
        settings["address"] = checked_address(address)
    with prepared_ray_folder() if address is None else nullcontext():
        try:
            _connect(settings)
            yield
        finally:
            with shielded():
                ray.shutdown()


def _connect(settings: Mapping[str, Any]) -> None:
    address = settings["address"]
    try:
        try:
            ray.init(**settings)
        except Exception:
            if address != "local" or is_interrupted():
                raise
            # A machine that reads Ray from disk for the first time can outlast Ray's own patience with its processes.
            ray.shutdown()
            ray.init(**settings)
    except Exception as error:  # Ray raises nothing more special where its processes do not come up
        if address == "local":
            found = f"Ray does not start on this machine: {error}"
            remedy = (
                f"look whether other work leaves it no time or memory, and at the logs in {os.environ['RAY_TMPDIR']}"
            )
        else:
            found = f"no connection to Ray at {address}: {error}"
            remedy = "check --address (and RAY_AUTH_MODE), or leave it out to start Ray on this machine"
        raise ClusterError(found, "a running cluster of the same Ray version", remedy) from error


def _drive(
    scenario: Scenario, directory: RunDirectory, facts: FactSet, growth: Growth, report_progress: ReportProgress
) -> None:
    """Have coordinators work, each from where the one before it left the run, until it is done.

    Raises:
        RunError: one was lost, and the policy is to stop.
    """
    policy, losses, committed = scenario.cluster.on_failure, 0, directory.committed_round
    while True:
        try:
            # This process goes on holding the run; the coordinator writes it, for as long as it is let.
            permit = directory.hand_over()
            _drive_one(scenario, str(directory.path.absolute()), permit, facts, growth, report_progress)
        except CoordinatorLostError as lost:
            directory.lock()
            losses = losses + 1 if directory.committed_round == committed else 1
            committed = directory.committed_round
            if not restarts_coordinator(policy, losses):
                times = "" if losses == 1 else f", {count(losses, 'time')} without a committed round between"
                raise RunError(
                    f"the coordinator is gone: {lost}{times}",
                    "a coordinator that lives as long as the run",
                    "look at the memory of this machine; `consortium resume` goes on from the last committed round",
                ) from lost
            directory.note("coordinator-lost", str(lost))
            directory.repair()
        else:
            return


def _drive_one(
    scenario: Scenario, path: str, permit: str, facts: FactSet, growth: Growth, report_progress: ReportProgress
) -> None:
    last = _start(scenario)

    def tell(waiting_for: str) -> None:
        report_progress(replace(last.later(time.monotonic() - since), waiting_for=waiting_for))

    since = time.monotonic()
    coordinator = CoordinatorProcess(scenario.cluster.timeout_s, tell)
    try:
        coordinator.start()
        coordinator.ask("open the run", "open", scenario, path, permit, facts, growth)
        is_done = False
        while not is_done:
            is_done, told = coordinator.ask("go on with the run", "step", STEP_S)
            for progress in told:
                report_progress(progress)
                last, since = progress, time.monotonic()
    finally:
        with shielded():
            coordinator.end()
