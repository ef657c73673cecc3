"""Nodes and this process compare the code that they run, before anything is asked of them; workers, their models,
too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from consortium.common.errors import ClusterError
from consortium.records import code_version
from consortium.records.code_version import Code, differences, read_code, this_code
from ray import cloudpickle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

#: Longest wait for nodes to say what they run. Who is later is compared when a worker starts there.
CODE_ANSWER_S = 60.0


def refuse_other_code(nodes: Mapping[str, str]) -> None:
    """Have nodes say which code their processes import.

    Args:
        nodes: id → name of each node.

    Raises:
        ClusterError: it is not this process's.
    """
    # By value: what is asked may not be there, or be another, in the code of who is asked.
    cloudpickle.register_pickle_by_value(code_version)  # type: ignore[no-untyped-call]
    try:
        asked = {_ask(node): name for node, name in nodes.items()}
    finally:
        cloudpickle.unregister_pickle_by_value(code_version)  # type: ignore[no-untyped-call]
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=CODE_ANSWER_S)
    for ref in answered:
        try:
            theirs: Code = ray.get(ref)
        except RayError:  # such a node is noticed when a worker is to start there
            continue
        refuse_difference(theirs, f"node {asked[ref]}")


def _ask(node: str) -> Any:
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    options: dict[str, Any] = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": there}
    return ray.remote(**options)(read_code).remote()


def refuse_difference(theirs: Code, whose: str, mine: Code | None = None) -> None:
    """Raise ClusterError where ``theirs`` is not ``mine``, by default this process's."""
    found = differences(mine or this_code(), theirs)
    if found:
        raise ClusterError(
            f"{whose} runs other code than the command: " + "; ".join(found),
            "the same source files and versions in the command and in all processes of the cluster",
            "install the same on all nodes and start Ray there anew, and call the command from that installation",
        )


def refuse_other_model(theirs: Mapping[str, str], whose: str, expected: Mapping[str, str]) -> None:
    """Raise ClusterError where what a model is made of has other digests than that of the worker that was asked
    first."""
    others = [name for name in expected if theirs.get(name) != expected[name]]
    if others:
        raise ClusterError(
            f"{whose} has another model under the same name than the first worker: other {', '.join(others)}",
            "the same files on all nodes",
            "copy the model's folder and the texts that the scenario names to every node anew, or to storage that all "
            "nodes read; of a model of a hub, have every node download the same version",
        )
