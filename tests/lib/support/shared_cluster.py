"""A run on a cluster that grows, of which another job holds the first node.

    python -m support.shared_cluster SCENARIO.yaml DIR

The cluster is one of this machine that grows to two nodes of one CPU. As on Kubernetes, it is known to grow, and nobody
says by what.
"""

from __future__ import annotations

import sys

import consortium_ray  # noqa: F401  (sets how processes authenticate, before Ray is imported)
import ray
from consortium.loading.prepare import prepare
from consortium.records.directory import RunDirectory
from consortium.scenario.cluster import AutoscaleSpec
from consortium_ray import runtime
from consortium_ray.local_cluster import autoscaling
from consortium_ray.nodes.placement import Growth
from consortium_ray.runtime import connected, run_on_ray

SPEC = AutoscaleSpec(max_nodes=2, node_cpus=1, idle_s=60)


class Other:
    """An actor of another job."""

    def is_here(self) -> bool:
        """Whether it has started."""
        return True


def main(scenario: str, folder: str) -> None:
    """Run a scenario beside the other job."""
    prepared = prepare(scenario, [])
    runtime.growth_of_cluster = lambda: Growth(is_known=False)
    with autoscaling.local_cluster(SPEC) as address, connected(address):
        other = ray.remote(num_cpus=1)(Other).remote()  # type: ignore[attr-defined]
        assert ray.get(other.is_here.remote(), timeout=120)
        with RunDirectory.create(folder, prepared.scenario) as directory:
            run_on_ray(prepared.scenario, directory, prepared.facts, lambda progress: None, address)
        assert ray.get(other.is_here.remote(), timeout=60), "and it is still there"


if __name__ == "__main__":
    main(*sys.argv[1:])
