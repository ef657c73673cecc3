"""Gauges of a run, for whoever watches the cluster with Prometheus: rounds, cohorts, hosts, bytes, refusals.

Ray exports them from its nodes' agents, beside its own, where the package ``ray[default]`` is installed; elsewhere they
are set in vain. One tag, the scenario's name, and no value for each party, cohort or host: a run of ten thousand
parties has as many time series as one of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from ray.util.metrics import Gauge

from consortium_ray.nodes.scaling_policy import Standing

_TAG = "scenario"
_MEANINGS = {
    "round": "the round that hosts work on; 0 before the first",
    "rounds_committed": "rounds that are written down",
    "cohorts_awaited": "answers that the coordinator waits for: a cohort's each",
    "bytes_sent": "bytes of parties' messages since this coordinator started",
    "parties_refused": "parties kept out at the door since this coordinator started, in each lane and round",
    "hosts_ready": "hosts that wait for a call or have one",
    "hosts_starting": "hosts that are starting",
    "hosts_wanted": "hosts that would find something to do, within the scenario's bounds",
}


@dataclass(frozen=True)
class Glance:
    """How a run stands, in a few numbers; their meanings are those of the gauges."""

    round: int
    rounds_committed: int
    cohorts_awaited: int
    bytes_sent: int
    parties_refused: int


class Gauges:
    """One gauge for each of the meanings above, named ``ray_consortium_…`` by the time Prometheus sees it.

    Args:
        scenario: the scenario's name.
    """

    def __init__(self, scenario: str) -> None:
        self._gauges = {name: Gauge(f"consortium_{name}", meaning, (_TAG,)) for name, meaning in _MEANINGS.items()}
        self._tags = {_TAG: scenario}

    def show(self, glance: Glance, hosts: Sequence[Standing], num_wanted: int) -> None:
        """Set all gauges."""
        num_starting = sum(host.is_starting for host in hosts)
        values = {each.name: getattr(glance, each.name) for each in fields(glance)}
        values |= {
            "hosts_ready": len(hosts) - num_starting,
            "hosts_starting": num_starting,
            "hosts_wanted": num_wanted,
        }
        for name, gauge in self._gauges.items():
            gauge.set(float(values[name]), self._tags)
