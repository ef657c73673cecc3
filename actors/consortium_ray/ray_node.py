"""One Ray node on this machine, with all of its processes, which end with the process that started them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray._private.node import Node
from ray._private.parameter import RayParams


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

    def _prepare_socket_file(self, socket_path: str | None, default_prefix: str) -> str:
        # Ray counts upwards to a name that no file has yet, and nodes that start at once find the same.
        own = str(Path(self._sockets_dir) / f"{default_prefix}.{uuid.uuid4().hex[:8]}")
        path: str = super()._prepare_socket_file(socket_path or own, default_prefix)
        return path

    def end(self, *, graceful: bool = True) -> None:
        """End all of its processes, and wait until they have ended."""
        self.kill_all_processes(check_alive=False, allow_graceful=graceful, wait=True)


def start_node(params: Mapping[str, Any], *, head: bool) -> RayNode:
    """Start a node; a machine that is busy can outlast Ray's patience with its processes, so a second time if need be.

    Raises:
        Exception: Ray's own, of the second time.
    """
    try:
        return RayNode(params, head=head)
    except Exception:  # noqa: BLE001  (Ray raises nothing more special)
        return RayNode(params, head=head)
