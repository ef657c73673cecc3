"""One Ray node on this machine, with all of its processes, which end with the process that started them."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

from ray._private.node import Node
from ray._private.parameter import RayParams

#: Nodes of one cluster that start at once on a machine take the same names for their files, and some of them die.
_STARTING = Lock()


class RayNode(Node):
    """A node whose processes are ended when it does not come up.

    Args:
        params: what Ray's ``RayParams`` takes.
        head: whether it is the head of a new cluster.
    """

    def __init__(self, params: Mapping[str, Any], *, head: bool) -> None:
        self.all_processes: dict[str, Any] = {}
        try:
            super().__init__(RayParams(**params), head=head, shutdown_at_exit=False)
        except BaseException:
            self.end(graceful=False)
            raise

    def end(self, *, graceful: bool = True) -> None:
        """End all of its processes, and wait until they have ended."""
        self.kill_all_processes(check_alive=False, allow_graceful=graceful, wait=True)


def start_node(params: Mapping[str, Any], *, head: bool) -> RayNode:
    """Start a node, one at a time in this process, and a second time if need be.

    A machine that is busy can outlast Ray's patience with its processes.

    Raises:
        Exception: Ray's own, of the second time.
    """
    with _STARTING:
        try:
            return RayNode(params, head=head)
        except Exception:  # noqa: BLE001  (Ray raises nothing more special)
            return RayNode(params, head=head)
