"""A cluster on this machine that grows and shrinks: real Ray nodes, started and ended by Ray's own autoscaler.

``consortium run SCENARIO --autoscale`` starts a head without CPUs, on which the coordinator runs, and Ray's monitor
process. The monitor loads :class:`LocalNodes`, and has it start and end nodes as demand says. (Ray's own test cluster,
``ray.cluster_utils.AutoscalingCluster``, needs a file that is not in Ray's wheel. The settings are those of its
``fake_multinode`` provider.) Every process is a child of the head's or of the monitor's and ends with its parent, by
the kernel's word, however that ended.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Any

import psutil  # type: ignore[import-untyped]
import ray
from consortium.common.errors import ClusterError
from consortium.common.interruption import shielded
from consortium.scenario.cluster import AutoscaleSpec
from ray._private.ray_constants import PROCESS_TYPE_MONITOR
from ray.autoscaler import tags as names
from ray.autoscaler.node_provider import NodeProvider
from ray.experimental.internal_kv import internal_kv_get_gcs_client

from consortium_ray.local_cluster.ray_node import RayNode, start_node
from consortium_ray.nodes.local import prepared_ray_folder

HEAD, WORKER = "head", "worker"
#: Share of the machine's memory that all nodes' object stores together may take; Ray's own for a single node.
_STORES_SHARE = 0.3
#: What the launcher of a cluster does to other machines; the autoscaler wants to see that there is nothing of it.
_UNUSED_LISTS = (
    *("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands"),
    *("head_setup_commands", "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"),
)
#: Longest wait for the monitor to end its nodes.
_END_S = 15.0


def cluster_config(spec: AutoscaleSpec, head_id: str) -> dict[str, Any]:
    """What Ray's autoscaler is told: a file as of its cluster launcher.

    Args:
        spec: the nodes' size and number.
        head_id: Ray's id of the head.
    """
    # What identifies a node is its id and not its address, which all of them share.
    provider = {
        "type": "external",
        "module": f"{__name__}.{LocalNodes.__name__}",
        "head_id": head_id,
        "store_bytes": int(_STORES_SHARE * psutil.virtual_memory().total / (spec.max_nodes + 1)),
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    unused = {name: [] for name in _UNUSED_LISTS} | {"file_mounts": {}, "file_mounts_sync_continuously": False}
    resources = {name: amount for name, amount in (("CPU", spec.node_cpus), ("GPU", spec.node_gpus)) if amount}
    return {
        **unused,
        "cluster_name": "consortium",
        "max_workers": spec.max_nodes,
        "upscaling_speed": float(spec.max_nodes),
        "idle_timeout_minutes": spec.idle_s / 60,
        "provider": provider,
        "auth": {},
        "available_node_types": {
            HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            WORKER: {"resources": resources, "node_config": {}, "min_workers": 0, "max_workers": spec.max_nodes},
        },
        "head_node_type": HEAD,
    }


@contextmanager
def local_cluster(spec: AutoscaleSpec) -> Iterator[str]:
    """Start the cluster, yield its address, and end all of its processes.

    Raises:
        ClusterError: its head does not start.
    """
    head_id = ray.NodeID.from_random().hex()
    with prepared_ray_folder(), tempfile.TemporaryDirectory(prefix="consortium-cluster-") as folder:
        path = Path(folder) / "cluster.yaml"
        path.write_text(json.dumps(cluster_config(spec, head_id)), encoding="utf-8")
        head = _start_head(path, head_id)
        try:
            yield head.gcs_address
        finally:
            with shielded():
                _end_monitor(head)
                head.end()


def _start_head(path: Path, head_id: str) -> RayNode:
    params = {
        "num_cpus": 0,
        "num_gpus": 0,
        "include_dashboard": False,
        "autoscaling_config": str(path),
        "env_vars": _identity(head_id, HEAD),
        "object_store_memory": json.loads(path.read_text(encoding="utf-8"))["provider"]["store_bytes"],
    }
    with _environment({"AUTOSCALER_UPDATE_INTERVAL_S": "1"}):
        try:
            return start_node(params, head=True)
        except Exception as error:
            raise ClusterError(
                f"no cluster could be started on this machine: {error}",
                "a machine on which Ray starts",
                "look at the logs in Ray's temporary folder; without --autoscale, one node is started",
            ) from error


def _end_monitor(head: RayNode) -> None:
    """Have the monitor end its nodes while the head can still hear of it."""
    for started in head.all_processes.get(PROCESS_TYPE_MONITOR, []):
        with suppress(ProcessLookupError):
            started.process.send_signal(signal.SIGTERM)
        with suppress(Exception):
            started.process.wait(_END_S)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set what child processes read while they are started."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _identity(node_id: str, kind: str) -> dict[str, str]:
    """What a raylet reads of its own id and type; the id is chosen here, so that both sides know it."""
    return {
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": node_id,
        "RAY_CLOUD_INSTANCE_ID": node_id,
        "RAY_NODE_TYPE_NAME": kind,
    }


class LocalNodes(NodeProvider):
    """Nodes on this machine, for Ray's autoscaler; lives in its monitor process, whose threads call it.

    Args:
        provider_config: the ``provider`` of :func:`cluster_config`.
        cluster_name: the cluster's name.
    """

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._lock = RLock()
        head = {names.TAG_RAY_NODE_KIND: names.NODE_KIND_HEAD, names.TAG_RAY_USER_NODE_TYPE: HEAD}
        self._tags = {provider_config["head_id"]: self._up_to_date(head, "head")}
        self._nodes: dict[str, RayNode] = {}
        atexit.register(self.end_all)

    @staticmethod
    def _up_to_date(tags: Mapping[str, str], name: str) -> dict[str, str]:
        found = {names.TAG_RAY_NODE_STATUS: names.STATUS_UP_TO_DATE, names.TAG_RAY_NODE_NAME: name}
        return {**tags, **found}

    def create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> None:
        """Start so many nodes."""
        for _ in range(count):
            node_id = ray.NodeID.from_random().hex()
            node = self._start(node_id, tags[names.TAG_RAY_USER_NODE_TYPE], resources)
            with self._lock:
                self._nodes[node_id] = node
                self._tags[node_id] = self._up_to_date(tags, node_id)

    def _start(self, node_id: str, kind: str, resources: Mapping[str, float]) -> RayNode:
        address = internal_kv_get_gcs_client().address  # type: ignore[no-untyped-call]
        params = {
            "num_cpus": resources.get("CPU", 0),
            "num_gpus": resources.get("GPU", 0),
            "object_store_memory": self.provider_config["store_bytes"],
            "redis_address": address,
            "gcs_address": address,
            **dict.fromkeys(("min_worker_port", "max_worker_port", "node_manager_port"), 0),
            "dashboard_agent_listen_port": 0,
            "include_log_monitor": False,
            "env_vars": _identity(node_id, kind),
        }
        return start_node(params, head=False)

    def terminate_node(self, node_id: str) -> None:
        """End a node with all of its processes."""
        with self._lock:
            node = self._nodes.pop(node_id, None)
            self._tags.pop(node_id, None)
        if node is not None:
            node.end()

    def end_all(self) -> None:
        """End all nodes; the head is not ours."""
        for node_id in list(self._nodes):
            self.terminate_node(node_id)

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """Ids of the nodes with these tags; a node that lost a process of its own accord is ended."""
        with self._lock:
            nodes: dict[str, Any] = dict(self._nodes)
        broken = [node_id for node_id, node in nodes.items() if not node.remaining_processes_alive()]
        for node_id in broken:
            self.terminate_node(node_id)
        with self._lock:
            return [node_id for node_id, tags in self._tags.items() if tag_filters.items() <= tags.items()]

    def is_running(self, node_id: str) -> bool:
        """Whether a node is there."""
        return node_id in self._tags

    def is_terminated(self, node_id: str) -> bool:
        """Whether a node is not there."""
        return node_id not in self._tags

    def node_tags(self, node_id: str) -> dict[str, str]:
        """A node's tags; none of one that ended meanwhile."""
        return self._tags.get(node_id, {})

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        """Set some of a node's tags."""
        with self._lock:
            if node_id in self._tags:
                self._tags[node_id].update(tags)

    def internal_ip(self, node_id: str) -> str:
        """What the autoscaler tells nodes apart by."""
        return node_id

    def external_ip(self, node_id: str) -> str:
        """The same."""
        return node_id
