"""A run on a cluster of two nodes on this machine, of which the scenario kills one: python -m support.node_loss DIR.

A program of its own, since a process is connected to one Ray at a time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ray
from consortium.records.directory import RunDirectory
from consortium.scenario.prepare import open_facts
from consortium_ray import runtime
from ray.cluster_utils import Cluster
from support.scenarios import associative_scenario

#: Two hosts of one CPU each: one on the head, one on the node that dies; there is room for another on the head.
SCENARIO = associative_scenario(
    merge={"methods": ["collabedit"]},
    faults=[{"round": 2, "during": "collect", "kill": "node"}],
    cluster={"cohort_size": 1, "hosts": {"min": 2, "max": 2, "cpus": 1}},
)


def main(path: Path) -> None:
    """Run it, and end the cluster."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        with RunDirectory.create(path, SCENARIO) as directory:
            runtime.run(SCENARIO, directory, open_facts(SCENARIO), lambda progress: None)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
