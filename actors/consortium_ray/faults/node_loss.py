"""Nodes of the cluster: which of them a run can lose, and how one is ended or cut off on purpose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consortium.common.errors import ClusterError
from consortium.scenario.schema import Scenario

from consortium_ray.faults import node_cut
from consortium_ray.nodes.placement import Growth

#: Resource that Ray gives to the head node alone.
_HEAD = "node:__internal_head__"


def expendable(nodes: Sequence[Mapping[str, Any]], here: str) -> set[str]:
    """Names of the nodes that a run survives: alive, neither the head nor the one on which the coordinator runs.

    Args:
        nodes: the cluster's nodes, as ``ray.nodes()`` says.
        here: name of the coordinator's node.
    """
    return {
        node["NodeID"] for node in nodes if node["Alive"] and node["NodeID"] != here and _HEAD not in node["Resources"]
    }


def check_nodes(scenario: Scenario, nodes: Sequence[Mapping[str, Any]], here: str, growth: Growth) -> None:
    """Refuse to kill nodes, or to cut them off, on a cluster that has none to lose, and gets none.

    Raises:
        ClusterError: the scenario does so, and there is only the head, or the one on which the run was started.
    """
    asked = next(((place, fault) for place, fault in enumerate(scenario.faults) if fault.strikes_node), None)
    if asked is None or growth.is_possible or expendable(nodes, here):
        return
    place, fault = asked
    raise ClusterError(
        f"faults.{place}: {fault.words}, on a cluster of {sum(bool(node['Alive']) for node in nodes)} node(s)",
        "a node that is neither the head nor the one on which the run was started",
        "give --autoscale, name a cluster of several nodes with --address, or kill a worker",
    )


def end_node() -> None:
    """End the node on which this worker process runs, as if its machine had died."""
    os.kill(_raylet(), signal.SIGKILL)
    time.sleep(3600)  # the raylet's end is this process's, too; nothing is answered before


def cut_node(seconds: float) -> None:
    """Cut off the node on which this worker process runs, and return when it is back: this process stops with it."""
    command = [sys.executable, "-I", "-S", str(node_cut.__file__), str(_raylet()), repr(seconds)]
    # The program's output is at its end when the cut is over, though its first process has ended long before.
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)


def _raylet() -> int:
    """The raylet of this worker process's node, which is the process's parent."""
    raylet = os.getppid()
    name = Path(f"/proc/{raylet}/comm").read_text(encoding="utf-8").strip()
    assert name == "raylet", f"the parent of a worker is {name}"
    return raylet
