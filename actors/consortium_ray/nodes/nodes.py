"""What the cluster is made of, as Ray says: its nodes, the nodes it can start, and telling it what is wanted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import ray
import yaml
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.autoscaler.sdk import request_resources
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.core.generated.autoscaler_pb2 import NodeStatus  # type: ignore[attr-defined]
from ray.exceptions import RayError
from ray.experimental.internal_kv import _internal_kv_get

from consortium_ray.nodes.placement import FIXED, Growth, Node, NodeType

#: What is raised while the cluster cannot be asked, for a moment or for ever.
UNREACHABLE = (RayError, RuntimeError, OSError)
#: Where Ray's autoscaler writes how it stands.
_STATUS_KEY = b"__autoscaling_status"
#: Where Ray's cluster launcher leaves the cluster's file on the head.
LAUNCHERS_FILE = Path("~/ray_bootstrap_config.yaml")
#: What the autoscaler of a cluster that does not grow calls its nodes' types.
_NO_TYPE = re.compile(r"node_[0-9a-f]+$")


@cache
def _client(address: str) -> Any:
    return GcsClient(address=address)


def present() -> list[Node]:
    """All nodes that are alive, in an order that does not change while they are."""
    state = get_cluster_resource_state(_client(ray.get_runtime_context().gcs_address))
    found = [
        Node(
            each.node_id.hex(),
            dict(each.total_resources),
            dict(each.available_resources),
            each.ray_node_type_name,
            is_leaving=each.status == NodeStatus.DRAINING,
        )
        for each in state.node_states
        if each.status != NodeStatus.DEAD
    ]
    return sorted(found, key=lambda node: (node.type, node.id))


def growth_of_cluster() -> Growth:
    """How the cluster that this process is connected to can grow.

    A cluster of Ray's launcher has its file on the head; where another one grows, as on Kubernetes, nobody says by
    what.
    """
    if not _is_autoscaled():
        return FIXED
    path = LAUNCHERS_FILE.expanduser()
    if not path.is_file():
        return Growth(is_known=False)
    return growth_of_file(yaml.safe_load(path.read_text(encoding="utf-8")))


def _is_autoscaled() -> bool:
    if is_autoscaler_v2():
        return True
    status = _internal_kv_get(_STATUS_KEY)
    report = json.loads(status).get("autoscaler_report") if status else None
    return any(_NO_TYPE.match(name) is None for name in (report or {}).get("active_nodes", {}))


def growth_of_file(cluster: Mapping[str, Any]) -> Growth:
    """How a cluster can grow by its launcher's file; its types are worth what they say of their resources."""
    types = cluster["available_node_types"]
    most = cluster.get("max_workers", 2)
    workers = {name: kind for name, kind in types.items() if name != cluster["head_node_type"]}
    return Growth(
        [NodeType(name, kind.get("resources", {}), kind.get("max_workers", most)) for name, kind in workers.items()],
        max_nodes=most,
        is_known=all("resources" in kind for kind in workers.values()),
    )


def tell_demand(bundles: Sequence[Mapping[str, float]]) -> None:
    """Tell the autoscaler what shall fit into the cluster, whatever uses it now; nothing removes what was told."""
    request_resources(bundles=[dict(bundle) for bundle in bundles])
