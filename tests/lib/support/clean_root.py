"""A machine with nothing on it, in a folder: Debian's base system, a user with sudo, and commands run in it.

    root = CleanRoot.make(folder, user="ubuntu")
    root.run("sudo apt-get install -y python3-venv")            # with this machine's network
    root.run("ray start --head", has_network=False)             # in a network of its own, with all its processes

Each call has processes and mounts of its own, which end with it; nothing of it is ever to be seen outside. What pip and
apt-get need to reach their packages (variables of the environment, certificates, folders) is as on this machine.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMMANDS = ("debootstrap", "chroot", "unshare", "mount", "setpriv")
_CONFIGURATION = (
    "/etc/ssl/certs",
    "/etc/apt/apt.conf.d",
    "/etc/xdg/pip",
    "/etc/pip.conf",
    "/etc/resolv.conf",
    "/etc/hosts",
)
_VARIABLES = ("PIP_", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT")


def why_not() -> str | None:
    """What keeps this machine from making such a folder; None if nothing does."""
    if os.geteuid() != 0:
        return "it takes root to make one"
    missing = [name for name in _COMMANDS if shutil.which(name) is None]
    if missing:
        return f"there is no `{missing[0]}` here"
    tried = subprocess.run(_alone([], has_network=False, script="true"), capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"`unshare` fails: {tried.stderr.strip()}"


@dataclass(frozen=True)
class CleanRoot:
    """The folder, and the user whose commands run in it."""

    folder: Path
    user: str

    @classmethod
    def make(cls, folder: Path, user: str, suite: str = "bookworm") -> CleanRoot:
        """Install Debian's base system into an empty folder, with a user who may use sudo."""
        base = ["debootstrap", "--variant=minbase", "--include=ca-certificates,sudo,procps", suite, str(folder)]
        subprocess.run(base, check=True, capture_output=True, text=True)
        root = cls(folder, user)
        sudo = f"{user} ALL=(ALL) NOPASSWD: ALL"
        root.run(f"useradd -m -s /bin/bash {user} && echo '{sudo}' > /etc/sudoers.d/{user}", as_user="root")
        return root

    @property
    def home(self) -> Path:
        """The user's home, seen from outside."""
        return self.folder / "home" / self.user

    def run(self, command: str, *, has_network: bool = True, as_user: str = "", timeout_s: float = 1200) -> str:
        """Run a command as the launcher does, in a login shell of the user; returns what it prints.

        Raises:
            AssertionError: it failed; shows the command and what it said.
        """
        name = as_user or self.user
        inner = f"cd ~ && {command}"
        shell = [
            "chroot",
            str(self.folder),
            "su",
            "-",
            name,
            "-w",
            ",".join(_inherited()),
            "-c",
            f"bash -lc {shlex.quote(inner)}",
        ]
        script = "\n".join([*self._mounts(), "ip link set lo up 2>/dev/null || true", shlex.join(shell)])
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **_inherited()}
        found = subprocess.run(
            _alone([], has_network=has_network, script=script),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert found.returncode == 0, f"{command}\nended with {found.returncode}:\n{found.stdout[-4000:]}"
        return found.stdout

    def _mounts(self) -> Iterator[str]:
        """Mounts that this call alone sees."""
        yield "set -e"
        for kind, place in (("proc", "proc"), ("sysfs", "sys")):
            target = f"{self.folder}/{place}"
            yield f"mount -t {kind} {kind} {target} 2>/dev/null || mount --rbind /{place} {target}"
        yield f"mount --rbind /dev {self.folder}/dev"
        for place in (*_CONFIGURATION, *_folders_of_pip()):
            source, target = Path(place), self.folder / place.lstrip("/")
            if not source.exists():
                continue
            make = f"mkdir -p {target}" if source.is_dir() else f"mkdir -p {target.parent} && touch {target}"
            yield f"{make} && mount --bind {source} {target}"


def _alone(command: list[str], *, has_network: bool, script: str) -> list[str]:
    kinds = ["--mount", "--pid", "--mount-proc", "--fork", "--kill-child", *([] if has_network else ["--net"])]
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *kinds, "bash", "-c", script, *command]


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}


def _folders_of_pip() -> list[str]:
    """Folders on this machine in which pip looks for packages."""
    named = [word for name, value in os.environ.items() if name.startswith("PIP_") for word in value.split()]
    return sorted({word for word in named if word.startswith("/") and Path(word).is_dir()})
