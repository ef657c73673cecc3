"""The coordinator's process: an actor around the state machine, its pool, and those who watch both."""

from __future__ import annotations

import os
from functools import partial

import psutil  # type: ignore[import-untyped]
import torch
from consortium.common.progress import Progress
from consortium.data.edit import FactSet
from consortium.records.directory import RunDirectory
from consortium.scenario.schema import Scenario

from consortium_ray.coordinator.coordinator import Coordinator
from consortium_ray.nodes.metrics import RunMetrics
from consortium_ray.nodes.node_watch import NodeWatch, see
from consortium_ray.nodes.placement import Growth
from consortium_ray.sendable import errors_that_travel
from consortium_ray.workers.ray_pool import RayPool


class CoordinatorActor:
    """The coordinator as an actor: a shell that holds the state machine and steps it.

    It is opened by a call of its own, since an error in ``__init__`` would reach the caller as a dead actor.
    """

    def __init__(self) -> None:
        self.directory: RunDirectory | None = None
        self.pool: RayPool | None = None
        self.watch: NodeWatch | None = None
        self.run_metrics: RunMetrics | None = None
        self.coordinator: Coordinator | None = None

    def process(self) -> tuple[int, float]:
        """A sign of life: the process's number, and when it began. Comes from another thread than all else."""
        return os.getpid(), float(psutil.Process().create_time())

    def open(self, scenario: Scenario, path: str, permit: str, facts: FactSet, growth: Growth) -> None:
        """Become the one who writes the run directory, which lies on this machine, and make ready to start workers.

        Args:
            scenario: the scenario as resolved.
            path: the run directory.
            permit: what the process that holds the run gave, to write it.
            facts: all facts.
            growth: how the cluster can grow.
        """
        torch.set_num_threads(scenario.cluster.threads)
        with errors_that_travel():
            self.directory = directory = RunDirectory.open(path)
            directory.lock_by(permit)
            self.pool = RayPool(scenario, facts, growth)
            self.watch = NodeWatch(partial(see, scenario.cluster.worker_kinds, self.pool), lambda: directory.worked_s)
            self.run_metrics = RunMetrics(scenario.name)
            self.coordinator = Coordinator(scenario, directory, facts, self.pool, self.watch.take)

    def step(self, timeout_s: float) -> tuple[bool, list[Progress]]:
        """One step; whether the run is done, and what there is to tell."""
        assert self.coordinator is not None, "open comes first"
        assert self.pool is not None
        assert self.run_metrics is not None
        with errors_that_travel():
            told = self.coordinator.step(timeout_s)
        self.run_metrics.show(self.coordinator.status, self.pool.counts_by_kind(), self.pool.num_wanted)
        return self.coordinator.is_done, told

    def close(self) -> None:
        """End the workers and let go of the run directory."""
        if self.watch is not None:
            self.watch.close()
        if self.pool is not None:
            self.pool.close()
        if self.directory is not None:
            self.directory.close()
