"""Where files go that nobody named: caches and what lasts as long as a process, also for a user without a home."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path

from consortium.common.errors import ClusterError, InputError

#: What stands before a place that is not a folder of this machine: ``s3://``, ``https://``.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def scheme_of(place: str) -> str | None:
    """``s3://`` of ``s3://bucket/folder``; None of a path on this machine."""
    found = _SCHEME.match(place)
    return found and found[0]


def refuse_remote(place: str, name: str) -> None:
    """Raise InputError where ``place``, which the user gave as ``name``, is none of this machine's paths."""
    scheme = scheme_of(place)
    if scheme is not None:
        raise InputError(
            f"{name} {place}: Consortium does not read or write {scheme}",
            "a path on this machine",
            "copy it here, or mount the storage as a folder and name that",
        )


def refuse_empty(place: str, name: str) -> None:
    """Raise InputError where no name was given: an empty path would mean the present folder."""
    if not place.strip():
        raise InputError(f"{name}: found an empty name", "a path", "name one; . is the present folder")


def refuse_client(address: str) -> None:
    """Raise ClusterError for ``ray://``, or any other scheme, as a cluster's address."""
    scheme = scheme_of(address)
    if scheme is not None:
        raise ClusterError(
            f"--address {address}: Consortium does not connect by {scheme}",
            "HOST:PORT of the cluster's head, or auto",
            "call the command on a machine of the cluster, with --address auto; `ray job submit` does so from afar",
        )


def has_home() -> bool:
    """Whether the user has a home: a folder that is there, by its whole path, and that the user may enter.

    A container's ``HOME`` is often that of the user who built it (``/root``), and another one runs it.
    """
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry among the machine's users
        return False
    return home.is_absolute() and is_entered(home)


def is_entered(folder: Path) -> bool:
    """Whether a folder is there, and the user may look at what is in it by name."""
    try:
        return folder.is_dir() and os.access(folder, os.X_OK)
    except PermissionError:  # one above it is closed
        return False


def can_write(folder: Path) -> bool:
    """Whether the user may write into a folder, or make it."""
    try:
        there = next(each for each in (folder, *folder.parents) if each.exists())
    except PermissionError:  # one above it is closed
        return False
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def private_folder(among: Path | None = None) -> Path:
    """A folder of the user's own among temporary files, by default the machine's.

    Raises:
        InputError: there is none, or somebody else made it.
    """
    try:
        folder = (among or Path(tempfile.gettempdir())) / f"consortium-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise _no_place(str(error)) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise _no_place(f"{folder} is not a folder of your own")
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)
    return folder


def _no_place(found: str) -> InputError:
    return InputError(
        f"there is no place for temporary files: {found}",
        "a home, and a folder for temporary files, that can be written",
        "set HOME or TMPDIR to such a folder",
    )


def cache_folder() -> Path:
    """Where things are kept that can be made again: ``$CONSORTIUM_CACHE``, or ``~/.cache/consortium``.

    Without a home that can be written it is a folder of the user's own among the machine's temporary files.

    Raises:
        InputError: what ``$CONSORTIUM_CACHE`` names is no folder that can be written, or there is no other.
    """
    named = os.environ.get("CONSORTIUM_CACHE")
    if not named:
        usual = Path.home() / ".cache" / "consortium" if has_home() else None
        return usual if usual is not None and can_write(usual) else private_folder() / "cache"
    refuse_remote(named, "CONSORTIUM_CACHE")
    try:
        folder = Path(named).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # ~nobody; or the present folder is gone
        raise _bad_cache(named, str(error)) from error
    if not can_write(folder):
        raise _bad_cache(named, "it cannot be written")
    return folder


def _bad_cache(named: str, found: str) -> InputError:
    remedy = "set CONSORTIUM_CACHE to such a folder, or unset it"
    return InputError(f"CONSORTIUM_CACHE is {named}: {found}", "a folder that can be made and written", remedy)
