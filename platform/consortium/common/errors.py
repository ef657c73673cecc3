"""Every error a user can meet, in one tree.

Each message has three parts: what was found, what was expected, what to do. The classes carry those
parts as plain strings, so they pickle across processes and print the same everywhere.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any

#: Errors of a chain that are quoted: the last are of a library's inner parts.
_MOST_CAUSES = 4


class ConsortiumError(Exception):
    """Base of all errors that Consortium raises on purpose.

    Args:
        found: what was met, with the place it was met at.
        expected: what would have been right.
        remedy: what the reader can do about it.
    """

    exit_code = 1
    #: Whether a run that stopped for it may get further when it is resumed.
    can_go_on = True

    def __init__(self, found: str, expected: str = "", remedy: str = "") -> None:
        super().__init__(found, expected, remedy)
        self.found = found
        self.expected = expected
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.found]
        if self.expected:
            parts.append(f"Expected: {self.expected}")
        if self.remedy:
            parts.append(f"What to do: {self.remedy}")
        return "\n".join(parts)


def whole_reason(error: BaseException, most: int = 2000) -> str:
    """What a library says of a failure: all lines of its message and of those it follows from, cut after ``most``.

    Libraries put what helps (the names of configurations, the file and its columns) behind the first line, or into the
    error that theirs was raised from.
    """
    said: list[str] = []
    each: BaseException | None = error
    while each is not None and len(said) < _MOST_CAUSES:
        text = "\n".join(line.rstrip() for line in str(each).strip().splitlines() if line.strip())
        text = text or type(each).__name__
        if not any(text in other for other in said):
            said.append(text)
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    text = "\ncaused by: ".join(said)
    return text if len(text) <= most else f"{text[:most]}…"


class InputError(ConsortiumError, ValueError):
    """The user's input is wrong; the command line answers with exit code 2."""

    exit_code = 2
    can_go_on = False


class ScenarioError(InputError):
    """A scenario is wrong: names file, key path, value and what is allowed."""


class ModelError(InputError):
    """A model cannot be opened, or is of an architecture that is not known."""


class FactsError(InputError):
    """A data file is missing or a record in it is malformed: names file, record number and field."""


class ClusterError(InputError):
    """The cluster can never give what the scenario asks for."""


class RunDirectoryError(InputError):
    """A run directory is missing, damaged, in use, or of another scenario."""


class RunError(ConsortiumError):
    """A run stopped for a reason that is not the user's input: a lost cluster, a time-out, bad numbers."""


class StatisticsError(RunError):
    """Statistics that cannot be added or merged: other shapes, another layer, or not finite."""

    can_go_on = False  # the same statistics come again


class NotFiniteError(RunError):
    """Numbers of a model, a merge or a run that are not finite, or more of them than the scenario allows."""

    can_go_on = False  # the same numbers come again


LONGEST_VALUE = 60


def shown(value: Any) -> str:
    """A value as it stands in a message: one line, shortened."""
    if value is None:
        return "nothing (null)"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def closest(word: object, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` when a known word resembles ``word``, else nothing."""
    near = difflib.get_close_matches(str(word).lower(), sorted(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""
