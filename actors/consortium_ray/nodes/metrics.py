"""Gauges of a run, for whoever watches the cluster with Prometheus: rounds, party batches, workers, bytes, refusals.

Ray exports them from its nodes' agents, beside its own, where the package ``ray[default]`` is installed; elsewhere they
are set in vain. One tag, the scenario's name, and no value for each party, party batch or worker: a run of ten thousand
parties has as many time series as one of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from ray.util.metrics import Gauge

from consortium_ray.nodes.scaling_policy import WorkerCounts

_TAG = "scenario"
_MEANINGS = {
    "round": "the round that workers work on; 0 before the first",
    "rounds_committed": "rounds that are written down",
    "party_batches_awaited": "answers that the coordinator waits for: a party batch's each",
    "bytes_sent": "bytes of parties' messages since this coordinator started",
    "parties_rejected": "parties kept out by screening since this coordinator started, in each arm and round",
    "workers_ready": "workers that wait for a call or have one",
    "workers_starting": "workers that are starting",
    "workers_wanted": "workers that would find something to do, within the scenario's bounds",
}


@dataclass(frozen=True)
class RunStatus:
    """How a run stands, in a few numbers; their meanings are those of the gauges."""

    round: int
    rounds_committed: int
    party_batches_awaited: int
    bytes_sent: int
    parties_rejected: int


class RunMetrics:
    """One gauge for each of the meanings above, named ``ray_consortium_…`` by the time Prometheus sees it.

    Args:
        scenario: the scenario's name.
    """

    def __init__(self, scenario: str) -> None:
        self._run_metrics = {name: Gauge(f"consortium_{name}", meaning, (_TAG,)) for name, meaning in _MEANINGS.items()}
        self._tags = {_TAG: scenario}

    def show(self, status: RunStatus, workers: Sequence[WorkerCounts], num_wanted: int) -> None:
        """Set all gauges."""
        num_starting = sum(worker.is_starting for worker in workers)
        values = {each.name: getattr(status, each.name) for each in fields(status)}
        values |= {
            "workers_ready": len(workers) - num_starting,
            "workers_starting": num_starting,
            "workers_wanted": num_wanted,
        }
        for name, gauge in self._run_metrics.items():
            gauge.set(float(values[name]), self._tags)
