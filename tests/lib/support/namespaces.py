"""Workers in network namespaces of their own, on one machine, joined by a bridge.

    with contained([sys.executable, "-m", "some.program"], folder) as process:
        process.wait()

runs a program as the first process of namespaces of its own: of the network, of processes and of mounts. In there
:func:`join` makes the hosts, and :func:`on` says how a command runs on one of them. Whatever becomes of the program,
its end is that of all processes beside it, by the kernel's word, and with the last of them links, bridge, namespaces
and mounts are gone. Nothing of it is ever to be seen outside, so two of these never meet. As a program of its own
(``python -m support.namespaces``) this joins two hosts, which shows whether it can be done on a machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil  # type: ignore[import-untyped]

BRIDGE = "bridge0"
#: Environment variable by which the processes of one program are known from outside.
_MARK = "CONSORTIUM_TEST_MARK"
_COMMANDS = ("setpriv", "unshare", "nsenter", "ip", "mount")
_PATIENCE_S = 30.0


def why_not() -> str | None:
    """What keeps this machine from giving hosts network namespaces; None where nothing does."""
    missing = [name for name in _COMMANDS if shutil.which(name) is None]
    if missing:
        return f"there is no `{missing[0]}` here"
    try:
        tried = subprocess.run(
            _in_namespaces([sys.executable, "-m", "support.namespaces"]),
            env=_environment(""),
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"namespaces were not made within {_PATIENCE_S:g} s"
    said = tried.stderr.strip().splitlines()
    return None if tried.returncode == 0 else (said[-1] if said else f"`unshare` ended with {tried.returncode}")


@contextmanager
def contained(command: Sequence[str], mark: str, **settings: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a command in namespaces of its own, and end everything in there.

    Args:
        command: the command.
        mark: what its processes are known by, see :func:`marked`.
        settings: of ``subprocess.Popen``.
    """
    with subprocess.Popen(_in_namespaces(command), env=_environment(mark), text=True, **settings) as process:
        try:
            yield process
        finally:
            process.kill()


def new_mark() -> str:
    """A mark that no other processes have."""
    return uuid.uuid4().hex


def marked(mark: str) -> list[psutil.Process]:
    """All processes of this machine that have a mark."""
    return [process for process in psutil.process_iter() if _has(process, mark)]


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(process.environ().get(_MARK) == mark)
    except (psutil.Error, OSError):
        return False


def seen_outside() -> list[str]:
    """Links, named namespaces and mounts of this machine, of which a contained program changes none."""
    links = subprocess.run(["ip", "-o", "-brief", "link"], capture_output=True, text=True, check=True).stdout
    named = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        return sorted(line.split()[0] for line in links.splitlines()) + named.splitlines() + mounts.readlines()


def _in_namespaces(command: Sequence[str]) -> list[str]:
    # Who is not root becomes root in a namespace of users as well. All of it ends with whoever starts it.
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    kinds = ["--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *users, *kinds, *command]


def _environment(mark: str) -> dict[str, str]:
    # A token of its own, since nothing but these processes takes part.
    own = {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_AUTH_TOKEN": new_mark() * 2, _MARK: mark}
    return os.environ | own


# What follows runs inside.


def join(hosts: Sequence[str]) -> None:
    """Give each host a network namespace, an address, and a link to the bridge that all share."""
    _do("mount", "-t", "tmpfs", "tmpfs", "/run")  # names of namespaces are kept there, and these are nobody else's
    _do("ip", "link", "add", "name", BRIDGE, "type", "bridge")
    _do("ip", "address", "add", f"{_address(0)}/24", "dev", BRIDGE)
    _do("ip", "link", "set", BRIDGE, "up")
    for number, host in enumerate(hosts, start=1):
        _do("ip", "netns", "add", host)
        _do("ip", "link", "add", "name", host, "type", "veth", "peer", "name", "eth0", "netns", host)
        _do("ip", "link", "set", host, "master", BRIDGE)
        _do("ip", "-n", host, "address", "add", f"{_address(number)}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            _do("ip", "-n", host, "link", "set", link, "up")
        # Programs learn their own address by asking the way to anywhere.
        _do("ip", "-n", host, "route", "add", "default", "via", _address(0))
        set_link(host, is_up=True)


def address_of(host: str, hosts: Sequence[str]) -> str:
    """The address of one of the hosts that were joined."""
    return _address(hosts.index(host) + 1)


def _address(number: int) -> str:
    return f"10.77.0.{number + 1}"


def set_link(host: str, *, is_up: bool) -> None:
    """Cut a host's link to the bridge, or bring it back."""
    _do("ip", "link", "set", host, "up" if is_up else "down")


def on(host: str, command: Sequence[str]) -> list[str]:
    """How a command runs on a host. (``ip netns exec`` would mount /sys anew, which not everybody may.)"""
    return ["nsenter", f"--net=/run/netns/{host}", *command]


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"`{' '.join(command)}`: {done.stderr.strip()}")


if __name__ == "__main__":
    join(["left", "right"])
