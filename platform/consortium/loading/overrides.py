"""``--set key.path=value``: changes to a scenario's data before it is checked."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from consortium.common.errors import ScenarioError, shown
from consortium.loading import allowed
from consortium.loading.field_errors import dotted
from consortium.loading.yaml_text import MAX_DEPTH, KeyPath, parse

_LONGEST_PLACE = 20


@dataclass(frozen=True)
class Override:
    """One ``--set`` argument.

    Attributes:
        text: the argument as given.
        path: its key path.
        value: its value, parsed as YAML.
    """

    text: str
    path: KeyPath
    value: Any


def parse_override(text: str) -> Override:
    """Take ``key.path=value`` apart.

    Raises:
        ScenarioError: there is no ``=``, a part of the path is empty, there are too many, or the value is not YAML.
    """
    key, separator, value = text.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ScenarioError(
            f"--set {text}: not of the form key.path=value",
            "a key path, an equals sign and a value, such as stream.rounds=3 or merge.methods.1.alpha=0.5",
            "write one --set for each key; quote the whole argument if it holds spaces",
        )
    if len(parts) > MAX_DEPTH:
        raise ScenarioError(
            f"--set {text}: a path of {len(parts):,} keys",
            f"at most {MAX_DEPTH}",
            "correct the path; `consortium schema` lists every key",
        )
    path: KeyPath = tuple(int(part) if _is_place(part) else part for part in parts)
    return Override(text, path, parse(value, f"--set {text}").data)


def _is_place(part: str) -> bool:
    """Whether a part is the number of an item; Python reads none of thousands of digits."""
    return part.isascii() and part.isdigit() and len(part) <= _LONGEST_PLACE


def apply_overrides(data: dict[str, Any], overrides: Sequence[Override]) -> dict[str, Any]:
    """A copy of ``data`` with each override written, the last of a key winning.

    Mappings that are not there are made; lists that are not there start as the schema's default. A
    merge method given by name, or a number of workers, becomes the mapping it stands for.

    Raises:
        ScenarioError: a path leads into a value that holds no keys, or past the end of a list.
    """
    holder: dict[str, Any] = {"": copy.deepcopy(data)}
    for override in overrides:
        _write(holder, override)
    changed: dict[str, Any] = holder[""]
    return changed


def _write(holder: dict[str, Any], override: Override) -> None:
    """Walk down from the holder's one entry, and write at the end of the path."""
    container: Any = holder
    key: str | int = ""
    for depth, part in enumerate(override.path):
        path = override.path[:depth]
        container[key] = _opened(container[key], path, part)
        container, key = container[key], part
        _check_step(container, path, part, override)
        if depth < len(override.path) - 1:
            _fill(container, part, override.path[: depth + 1])
    container[key] = copy.deepcopy(override.value)


def _opened(value: Any, path: KeyPath, part: str | int) -> Any:
    """``value`` with its short form written out, so that a key below it can be set."""
    if isinstance(part, str) and isinstance(value, str) and path[:-1] == ("merge", "methods"):
        return {"name": value}
    if isinstance(part, str) and type(value) is int and path == ("cluster", "workers"):
        return {"min": value, "max": value}
    if value is None:
        return {} if isinstance(part, str) else []
    return value


def _check_step(container: Any, path: KeyPath, part: str | int, override: Override) -> None:
    """Refuse to step into a scalar, into a list by name, or past a list's end; an item may be added at the end."""
    expected = ""
    if isinstance(container, list):
        if not isinstance(part, int) or part > len(container):
            expected = f"a number from 0 to {len(container)}, since {dotted(path)} is a list of {len(container)} items"
    elif not isinstance(container, dict):
        expected = f"a value that holds keys, but {dotted(path)} is {shown(container)}"
    if expected:
        raise ScenarioError(
            f"--set {override.text}: cannot set {part!r} in {dotted(path)}",
            expected,
            "correct the path; `consortium schema` lists every key",
        )
    if isinstance(container, list) and part == len(container):
        container.append(None)


def _fill(container: Any, part: str | int, path: KeyPath) -> None:
    """Put the schema's default list, or nothing, where a path goes on below a missing key."""
    if isinstance(container, dict) and part not in container:
        container[part] = default_at(path)


def default_at(path: KeyPath) -> Any:
    """The schema's default at a key path when it is a list or a plain value; None for mappings and unknown keys."""
    node = allowed.node_at(path)
    default = copy.deepcopy(node.get("default")) if node is not None else None
    return None if isinstance(default, dict) else default
