"""Several Ray nodes on this machine, and whether processes are gone.

    with ray_nodes({"num_cpus": 1}, {"num_cpus": 1, "num_gpus": 1}) as (address, nodes):
        ...
        nodes[0].end(graceful=False)

(``ray.cluster_utils.Cluster`` would make this cluster the one that ``--address auto`` means on the whole machine.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import consortium_ray  # noqa: F401  (sets how processes authenticate, before Ray is imported)
import psutil  # type: ignore[import-untyped]
from consortium_ray.local_cluster.ray_node import RayNode, start_node
from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled

_STORE_BYTES = 150 * 2**20
#: A node that is killed is noticed within a few seconds, and one on a crowded machine is not taken for dead.
_HEALTH = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 5}
#: So is one that does not answer; for tests in which that happens on purpose.
SILENCE_COUNTS = {"health_check_timeout_ms": 1000}
_COMMON = {"object_store_memory": _STORE_BYTES, "include_dashboard": False, "num_gpus": 0}


@contextmanager
def ray_nodes(*workers: dict[str, Any], **system_config: Any) -> Iterator[tuple[str, list[RayNode]]]:
    """A head without CPUs and a node for each of ``workers``, which are arguments of Ray's ``RayParams``."""
    head = start_head(system_config)
    nodes: list[RayNode] = []
    try:
        for worker in workers:
            nodes.append(start_worker(head.gcs_address, worker))
        yield head.gcs_address, nodes
    finally:
        for node in [*nodes, head]:
            node.end(graceful=False)


def start_head(system_config: Mapping[str, Any], **params: Any) -> RayNode:
    """A node without CPUs, the head of a new cluster."""
    ensure_token_if_auth_enabled({}, create_token_if_missing=True)
    return start_node({**_COMMON, "num_cpus": 0, "_system_config": {**_HEALTH, **system_config}, **params}, head=True)


def start_worker(gcs_address: str, params: Mapping[str, Any]) -> RayNode:
    """Another node of a cluster."""
    address = {"redis_address": gcs_address, "gcs_address": gcs_address, "node_manager_port": 0}
    own = {"dashboard_agent_listen_port": 0, "include_log_monitor": False}
    return start_node({**_COMMON, **address, **own, **params}, head=False)


def family(pid: int) -> list[psutil.Process]:
    """All processes that descend from one."""
    found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    return found


def listening(pid: int) -> list[IPv4Address | IPv6Address]:
    """Addresses on which a process and its descendants listen."""
    found = []
    for each in [psutil.Process(pid), *family(pid)]:
        with suppress(psutil.NoSuchProcess):
            ports = [at.laddr for at in each.net_connections("inet") if at.status == psutil.CONN_LISTEN]
            found += [ip_address(port.ip.removeprefix("::ffff:")) for port in ports]
    return found


def left_of(processes: Sequence[psutil.Process], patience_s: float) -> list[psutil.Process]:
    """Those that still run when so many seconds have passed; empty as soon as none does."""
    give_up = time.monotonic() + patience_s
    while left := [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]:
        if time.monotonic() > give_up:
            return left
        time.sleep(0.2)
    return []
