"""What Ray needs of this machine before a cluster is started on it: a token, and a folder for its files."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from consortium.common.counting import count
from consortium.common.errors import ClusterError
from consortium.common.places import can_write, private_folder
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
#: Ray puts sockets below its folder, whose names have at most 107 characters.
_LONGEST = 107 - len("/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.0")
_USUAL = ("/tmp", "/var/tmp", "/dev/shm")


@contextmanager
def prepared_ray_folder() -> Iterator[None]:
    """A block in which a cluster can be started here.

    Its token is in the environment of its processes alone, where only their own user can read it: Ray would write one
    into the home, readable by everybody.

    Raises:
        ClusterError: no folder suits Ray.
    """
    before = os.environ.get("RAY_TMPDIR")
    os.environ["RAY_TMPDIR"] = _folder()
    makes_token = os.environ.get("RAY_AUTH_MODE") == "token" and not any(os.environ.get(name) for name in _TOKENS)
    if makes_token:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        AuthenticationTokenLoader.instance().reset_cache()
    try:
        yield
    finally:
        os.environ.pop("RAY_TMPDIR") if before is None else os.environ.update(RAY_TMPDIR=before)
        if makes_token:
            del os.environ["RAY_AUTH_TOKEN"]
            AuthenticationTokenLoader.instance().reset_cache()


def _folder() -> str:
    """Where Ray keeps its files: what the environment names, or a folder of the user's own.

    Ray's logs, and what it moves from memory to disk, can be read by whoever can enter its folder.
    """
    named = os.environ.get("RAY_TMPDIR")
    if named:
        reason = _unfit(named) or _unmade(named)
        if reason is None:
            return named
        found = f"RAY_TMPDIR is {named}, which {reason}"
    else:
        for place in dict.fromkeys([tempfile.gettempdir(), *_USUAL]):
            if _unfit(f"{place}/consortium-{os.getuid()}") is None:
                return str(private_folder(Path(place)))
        found = "no folder for temporary files can be written"
    raise ClusterError(
        f"Ray does not start on this machine: {found}",
        f"a folder that can be written, by its whole path of at most {count(_LONGEST, 'character')}",
        "set RAY_TMPDIR to such a folder",
    )


def _unmade(place: str) -> str | None:
    """Make a folder where there is none; why it cannot be, if so."""
    with suppress(OSError):
        os.makedirs(place, mode=0o700, exist_ok=True)
    return None if Path(place).is_dir() else "is no folder and cannot be made"


def _unfit(place: str) -> str | None:
    if not place.startswith("/"):
        return "is not a whole path"
    if len(place) > _LONGEST:
        return f"has {len(place)} characters"
    folder = Path(place)
    return None if can_write(folder if folder.exists() else folder.parent) else "cannot be written"
