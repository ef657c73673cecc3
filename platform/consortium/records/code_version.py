"""Which code a process runs: its own source files, and the versions of what numbers depend on.

Processes of one run compare this before they work together, and a run directory keeps it: results are only those of a
scenario together with the code that made them.

:func:`read_code` uses nothing of this package and gives plain values. Its code can thus be sent to a process that has
other code, or none, and answers there.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

#: Versions that are compared and recorded, beside Python's.
LIBRARIES = ("torch", "transformers", "ray", "numpy")
#: Files that may differ are named up to this number.
_MOST_NAMED = 3
_DIGITS = 12


class Code(TypedDict):
    """What a process runs, as plain values.

    Attributes:
        place: folder of the package ``consortium``; empty where it is not installed.
        versions: package → version; ``python`` and ``consortium`` too.
        files: source file, by its name within the package → SHA-256.
    """

    place: str
    versions: dict[str, str]
    files: dict[str, str]


def versions() -> dict[str, str]:
    """Versions of Python, Consortium and the packages on which numbers may depend."""
    found = {"python": platform.python_version()}
    with suppress(ImportError):
        found["consortium"] = import_module("consortium").__version__
    for package in LIBRARIES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def read_code() -> Code:
    """What this process would import now, read from its files."""
    folders = {}
    for package in ("consortium", "consortium_ray"):
        spec = find_spec(package)
        if spec is not None:
            folders[package] = [Path(place) for place in spec.submodule_search_locations or ()]
    # Scenarios are left out: an installed package has them inside, and they are sent as they were resolved.
    files = {
        f"{package}/{path.relative_to(folder).as_posix()}": sha256(path.read_bytes()).hexdigest()
        for package, places in folders.items()
        for folder in places
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".py", ".txt", ".yaml"} and path.relative_to(folder).parts[0] != "scenarios"
    }
    place = next((str(folder) for folder in folders.get("consortium", ())), "")
    return {"place": place, "versions": versions(), "files": files}


@cache
def this_code() -> Code:
    """What this process runs, as read when this was first called: later changes of files do not reach it."""
    return read_code()


def source_digest(code: Code | None = None) -> str:
    """SHA-256 over the names and contents of all source files; of this process's code by default."""
    files = (code or this_code())["files"]
    return sha256("".join(f"{name}\0{files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def differences(mine: Code, theirs: Code) -> list[str]:
    """What differs between two processes, in words that name both sides; nothing where both run the same."""
    found = []
    if mine["files"] != theirs["files"]:
        named = _named(mine["files"], theirs["files"])
        found.append(
            f"source files {source_digest(mine)[:_DIGITS]} in {mine['place']} against "
            f"{source_digest(theirs)[:_DIGITS]} in {theirs['place'] or 'no folder'} ({named})"
        )
    for name in sorted(mine["versions"].keys() | theirs["versions"].keys()):
        here, there = mine["versions"].get(name, "none"), theirs["versions"].get(name, "none")
        if here != there:
            found.append(f"{name} {here} against {there}")
    return found


def _named(mine: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """Files that only one side has, or that are not the same, the first few by name."""
    other = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    shown = ", ".join(other[:_MOST_NAMED])
    rest = len(other) - _MOST_NAMED
    return f"{shown} and {rest} more" if rest > 0 else shown
