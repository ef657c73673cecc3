"""Mistakes of a scenario: collected, placed in the file or on the command line, and reported together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from consortium.common.errors import ScenarioError
from consortium.loading.yaml_text import KeyPath

MOST_SHOWN = 30
REMEDY = "`consortium schema` lists every key, `consortium new FILE` writes an example with all of them"


@dataclass(frozen=True)
class FieldError:
    """One thing that is wrong.

    Attributes:
        path: the key path, such as ``("stream", "phases", 0, "rounds")``.
        found: what stands there, in words.
        allowed: what may stand there.
        hint: what was probably meant; may be empty.
    """

    path: KeyPath
    found: str
    allowed: str
    hint: str = ""


@dataclass(frozen=True)
class SourcePlaces:
    """Where each key of a scenario was written.

    Attributes:
        origin: the file, or the name of a shipped scenario.
        lines: key path → line number in the file.
        overrides: key path → the ``--set`` argument that wrote it.
    """

    origin: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    overrides: Mapping[KeyPath, str] = field(default_factory=dict)

    def of(self, path: KeyPath) -> str:
        """The place of a key path in words; of the nearest key around it when it was not written itself."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.overrides:
                return f"--set {self.overrides[path[:end]]}"
            if path[:end] in self.lines:
                return f"line {self.lines[path[:end]]}"
        below = [text for other, text in self.overrides.items() if other[: len(path)] == path]
        return f"--set {below[-1]}" if below and path else ""


def dotted(path: Sequence[str | int]) -> str:
    """A key path as it is written after ``--set``."""
    return ".".join(str(part) for part in path)


def refuse(field_errors: Sequence[FieldError], places: SourcePlaces) -> None:
    """Raise one error that reports all ``field_errors``; return when there are none.

    Raises:
        ScenarioError: for each mistake the key path, its place, what was found and what is allowed.
    """
    if not field_errors:
        return
    count = "1 mistake" if len(field_errors) == 1 else f"{len(field_errors)} mistakes"
    lines = [
        f"{places.origin}: {count}",
        *(_rendered(field_error, places) for field_error in field_errors[:MOST_SHOWN]),
    ]
    if len(field_errors) > MOST_SHOWN:
        lines.append(f"  and {len(field_errors) - MOST_SHOWN:,} more")
    raise ScenarioError("\n".join(lines), "", REMEDY)


def _rendered(field_error: FieldError, places: SourcePlaces) -> str:
    place = places.of(field_error.path)
    key = dotted(field_error.path) or "the whole file"
    lines = [f"  {key}{f' ({place})' if place else ''}: {field_error.found}", f"      allowed: {field_error.allowed}"]
    if field_error.hint:
        lines.append(f"      {field_error.hint}")
    return "\n".join(lines)
