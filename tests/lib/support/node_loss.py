"""A run on a cluster of three nodes, of which one dies or is cut off: python -m support.node_loss DIR WHAT.

A program of its own, since a process is connected to one Ray at a time. Writes down, as JSON, how many nodes ended of
their own accord, and which processes of these were left then, and which of all after the cluster.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium.scenario.schema import Scenario
from consortium_ray import runtime
from consortium_ray.faults import node_cut
from consortium_ray.local_cluster.ray_node import RayNode
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from support.machines import SILENCE_COUNTS, family, left_of, ray_nodes
from support.scenarios import associative_scenario

#: What befalls a node. That one does not answer is noticed before the long cut is over, and not within the short one.
FAULTS: dict[str, dict[str, Any]] = {
    "dies": {"action": "kill", "what": "node"},
    "short-cut": {"action": "partition", "seconds": 3.0},
    "long-cut": {"action": "partition", "seconds": 30.0},
}
_PATIENCE_S = 90.0


def scenario_of(what: str) -> Scenario:
    """Workers of one CPU each, on a node each; there is another node for one in place of one that is lost.

    One whose node is cut off is alone, since a second one would take over its work within seconds.
    """
    num_workers = 1 if "cut" in what else 2
    return associative_scenario(
        merge={"methods": ["collabedit"]},
        faults=[{"round": 2, "during": "collect", **FAULTS[what]}] if what in FAULTS else [],
        cluster={
            "parties_per_batch": 1,
            "reduce_fanout": 2,
            "workers": {"min": num_workers, "max": num_workers, "cpus": 1},
        },
    )


def main(path: Path, what: str) -> None:
    """Run it, and end the cluster."""
    scenario, processes = scenario_of(what), _Processes()
    silence = SILENCE_COUNTS if what == "long-cut" else {}
    with ray_nodes(*[{"num_cpus": 1}] * 3, **silence) as (address, nodes):
        with RunDirectory.create(path, scenario) as directory:
            runtime.run_on_ray(
                scenario, directory, open_facts(scenario), lambda progress: processes.see(nodes), address
            )
        processes.see(nodes)
        raylets = {str(_raylet(node)) for node in nodes}
        ended = _ended_by_themselves(nodes, number=what != "short-cut")
        left = [each for node in ended for each in left_of(processes.of(node), _PATIENCE_S)]
    everybody = [each for node in nodes for each in processes.of(node)]
    found = {
        "num_ended": len(ended),
        "left": _words(left),
        "left_of_all": _words(left_of(everybody, _PATIENCE_S)) + _cutting(raylets),
    }
    path.with_suffix(".json").write_text(json.dumps(found), encoding="utf-8")


class _Processes:
    """All processes that nodes had at any time."""

    def __init__(self) -> None:
        self._seen: dict[RayNode, set[psutil.Process]] = {}

    def see(self, nodes: list[RayNode]) -> None:
        for node in nodes:
            with suppress(psutil.NoSuchProcess):
                self._seen.setdefault(node, set()).update([psutil.Process(_raylet(node)), *family(_raylet(node))])

    def of(self, node: RayNode) -> list[psutil.Process]:
        return list(self._seen[node])


def _raylet(node: RayNode) -> int:
    pid: int = node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid
    return pid


def _ended_by_themselves(nodes: list[RayNode], number: int) -> list[RayNode]:
    """The nodes whose processes have ended: as soon as there are so many, or after a while."""
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        ended = [node for node in nodes if not node.remaining_processes_alive()]
        if len(ended) >= number or time.monotonic() > give_up:
            return ended
        time.sleep(0.2)


def _words(processes: list[psutil.Process]) -> list[str]:
    return [str(process) for process in processes]


def _cutting(raylets: set[str]) -> list[str]:
    """Programs that cut off the nodes of these raylets."""
    lines = [each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"])]
    return [" ".join(line) for line in lines if node_cut.__file__ in line and raylets & set(line)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
