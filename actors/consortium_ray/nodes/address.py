"""Whether there is a Ray cluster at an address: asked before Ray itself is, which goes on trying for many minutes."""

from __future__ import annotations

import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TakesTooLongError
from typing import Any

import grpc  # type: ignore[import-untyped]
from consortium.common.errors import ClusterError
from consortium.common.places import refuse_client

#: Longest time that a name may take to be resolved, a port to be opened, and a server to answer.
CONNECTION_S = 8.0
_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%a-z]+)\]|(?P<host>[^\s:/\[\]@]+)):(?P<port>[0-9]{1,5})")
#: What the head of every Ray cluster answers, with a token or without.
_ASKED = "/ray.rpc.NodeInfoGcsService/CheckAlive"


def checked_address(address: str) -> str:
    """HOST:PORT of the cluster that ``address`` names, after something there has answered as Ray does.

    Raises:
        ClusterError: it is no address, or nothing there answers, or not as Ray.
    """
    found = _of_this_machine() if address == "auto" else address
    shown = found if found == address else f"{found} ({address})"
    host, port = _parsed(found, shown)
    _see_that_it_listens(host, port, shown)
    if os.environ.get("RAY_USE_TLS", "0").lower() not in {"1", "true"}:  # then only Ray knows how to ask
        _see_that_it_is_ray(host, port, shown)
    return found


def _of_this_machine() -> str:
    named = os.environ.get("RAY_ADDRESS", "")
    if named not in {"", "auto"}:
        return named
    try:
        return _found_by_ray()
    except (ConnectionError, ValueError) as error:
        raise _none("auto", "no Ray cluster was found on this machine", "start one with `ray start`") from error


def _found_by_ray() -> str:
    from ray._private.services import canonicalize_bootstrap_address_or_die  # takes seconds, for this case alone

    return canonicalize_bootstrap_address_or_die("auto")


def _parsed(address: str, shown: str) -> tuple[str, int]:
    refuse_client(address)
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 2**16:
        raise ClusterError(
            f"--address {shown} is no address",
            "HOST:PORT of the cluster's head, such as 10.0.0.5:6379, or auto",
            "correct --address, or leave it out to start Ray on this machine",
        )
    return found["six"] or found["host"], int(found["port"])


def _see_that_it_listens(host: str, port: int, shown: str) -> None:
    try:
        places = _resolved(host, port)
    except (OSError, UnicodeError, TakesTooLongError) as error:
        found = "took too long" if isinstance(error, TakesTooLongError) else str(error)
        raise _none(shown, f"the name {host} is not known here: {found}") from error
    refused: OSError | None = None
    for family, kind, _, _, place in places:
        try:
            with socket.socket(family, kind) as connection:
                connection.settimeout(CONNECTION_S / len(places))
                connection.connect(place)
                return
        except OSError as error:
            refused = error
    what = f"nothing answers within {CONNECTION_S:g} s" if isinstance(refused, TimeoutError) else f"{refused}"
    raise _none(shown, what) from refused


def _resolved(host: str, port: int) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]:
    """What a name stands for; a name server that does not answer holds up no more than a thread."""
    pool = ThreadPoolExecutor(1)
    try:
        asked = pool.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        return list(asked.result(CONNECTION_S))
    finally:
        pool.shutdown(wait=False)


def _see_that_it_is_ray(host: str, port: int, shown: str) -> None:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with grpc.insecure_channel(place, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_ASKED)(b"", timeout=CONNECTION_S)
        except grpc.RpcError as error:
            if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise _none(shown, "something listens there that is no Ray cluster, or one that is stuck") from error
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                raise _none(shown, "what listens there is not the head of a Ray cluster") from error


def _none(shown: str, found: str, remedy: str = "check --address") -> ClusterError:
    return ClusterError(
        f"no connection to Ray at {shown}: {found}",
        "the head of a running Ray cluster",
        f"{remedy}, or leave --address out to start Ray on this machine",
    )
