"""A trace of devices: what changes in time, by party or by class of device, read from CSV or JSON lines.

A row says what holds for a party or a class from its time on, until the next row about the same one. A value that a
row leaves out is the drawn one.

Shapes: N rows, O owners (parties and classes that the trace speaks of), P parties.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consortium.common.errors import ScenarioError
from consortium.common.reading import UnreadableError, parse_json, read_text, text_fault
from consortium.data.formats.record import shorten

QUANTITIES = ("speed", "upload", "download", "latency_s")
_REMEDY = "correct the trace, or name another in virtual_time.devices.trace; docs/virtual-time.md shows one"
_COLUMNS = ("party", "class", "time_s", "available", *QUANTITIES)
_TRUTH = {"1": 1.0, "0": 0.0, "true": 1.0, "false": 0.0}

_MOST_BYTES = 1 << 28

TraceNumbers = NDArray[np.float64]
Owner = int | str


@dataclass(frozen=True)
class Trace:
    """Rows, sorted by owner and time.

    Attributes:
        owners: a party's number or a class's name, for each owner.
        starts_O: where each owner's rows begin.
        owner_N: whose each row is.
        time_s_N: from when it holds, ascending within an owner; each owner's first is 0.
        values: quantity, or ``available`` → values [N]; NaN where a row leaves it out.
    """

    owners: tuple[Owner, ...]
    starts_O: NDArray[np.int64]
    owner_N: NDArray[np.int64]
    time_s_N: TraceNumbers
    values: Mapping[str, TraceNumbers]

    def owner_of(self, classes_P: Sequence[str | None]) -> NDArray[np.int64]:
        """For each party whose rows are about it: its own, or else those of its class; -1 for none."""
        places = {owner: place for place, owner in enumerate(self.owners)}
        found = (places.get(party, places.get(name or "", -1)) for party, name in enumerate(classes_P))
        return np.fromiter(found, np.int64, len(classes_P))

    def at(self, time_s: float, quantity: str) -> TraceNumbers:
        """A quantity of each owner at a time; NaN where it is the drawn one."""
        begun_O = np.bincount(self.owner_N[self.time_s_N <= time_s], minlength=len(self.owners))
        return np.asarray(self.values[quantity][self.starts_O + begun_O - 1])

    def next_arrival(self, time_s: float) -> float | None:
        """The first time after ``time_s`` at which a row says that somebody is there; None for never."""
        times = self.time_s_N[(self.time_s_N > time_s) & (self.values["available"] == 1.0)]
        return float(times.min()) if len(times) else None


def read_trace(path: Path) -> Trace:
    """Read a trace: JSON lines where the first line begins with a brace, else CSV with a line of headings.

    Raises:
        ScenarioError: it cannot be read, or a row is not as it should be; the line is named.
    """
    try:
        text = read_text(path, _MOST_BYTES)
    except UnreadableError as error:
        raise ScenarioError(f"{path} cannot be read: {error}", "a CSV or JSON lines file in UTF-8", _REMEDY) from None
    rows = _json_lines(path, text) if text.lstrip().startswith("{") else _csv_lines(path, text)
    parsed = [_parsed(f"{path}, line {line}", row) for line, row in rows]
    if not parsed:
        raise ScenarioError(f"{path} has no rows", "a row for every party, or for its class of device", _REMEDY)
    return _sorted(path, parsed)


def _csv_lines(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", skipinitialspace=True)
    try:
        unknown = [name for name in reader.fieldnames or [] if name not in _COLUMNS]
        if unknown:
            raise ScenarioError(
                f"{path} has a column {shorten(unknown[0])}", f"the columns {', '.join(_COLUMNS)}", _REMEDY
            )
        for row in reader:
            yield reader.line_num, {name: value for name, value in row.items() if value not in (None, "")}
    except csv.Error as error:
        raise ScenarioError(
            f"{path}, line {reader.reader.line_num}: {error}", "a row of cells with commas between", _REMEDY
        ) from None


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # Not by splitlines: texts may hold characters that end a line elsewhere.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except UnreadableError as error:
            raise ScenarioError(f"{path}, line {number}: {error}", "one JSON object a line", _REMEDY) from None
        if not isinstance(row, dict):
            raise ScenarioError(f"{path}, line {number}: found {shorten(row)}", "one JSON object a line", _REMEDY)
        yield number, {name: value for name, value in row.items() if value is not None}


def _parsed(place: str, row: Mapping[str, Any]) -> tuple[Owner, dict[str, float]]:
    """Whose a row is, and its numbers by column."""
    unknown = [name for name in row if name not in _COLUMNS]
    if unknown:
        raise ScenarioError(f"{place}: a column {shorten(unknown[0])}", f"the columns {', '.join(_COLUMNS)}", _REMEDY)
    if ("party" in row) == ("class" in row):
        raise ScenarioError(
            f"{place}: found {shorten(dict(row))}", "a party's number or the name of a class, one of them", _REMEDY
        )
    numbers = {name: _number(place, name, row[name]) for name in row if name not in ("party", "class")}
    if "time_s" not in numbers:
        raise ScenarioError(f"{place}: no time_s", "the time from which the row holds, in virtual seconds", _REMEDY)
    return _class(place, row["class"]) if "class" in row else int(_number(place, "party", row["party"])), numbers


def _class(place: str, value: Any) -> str:
    fault = text_fault(value) if isinstance(value, str) else "no text"
    if fault is not None:
        raise ScenarioError(f"{place}: class is {shorten(value)}: {fault}", "the name of a class of devices", _REMEDY)
    return str(value)


def _number(place: str, name: str, value: Any) -> float:
    text = str(value).strip().lower()
    try:
        number = _TRUTH[text] if name == "available" else float(text)
    except (KeyError, ValueError):
        allowed = "0, 1, true or false" if name == "available" else "a number"
        raise ScenarioError(f"{place}: {name} is {shorten(value)}", allowed, _REMEDY) from None
    least_is_allowed = name in ("time_s", "latency_s", "available", "party")
    if not math.isfinite(number) or number < 0 or (number == 0 and not least_is_allowed):
        raise ScenarioError(
            f"{place}: {name} is {shorten(value)}", f"a number {'≥' if least_is_allowed else '>'} 0", _REMEDY
        )
    if name == "party" and number != int(number):
        raise ScenarioError(f"{place}: party is {shorten(value)}", "a whole number", _REMEDY)
    return number


def _sorted(path: Path, rows: Sequence[tuple[Owner, dict[str, float]]]) -> Trace:
    owners = tuple(dict.fromkeys(owner for owner, _ in rows))
    places = {owner: place for place, owner in enumerate(owners)}
    owner_N = np.array([places[owner] for owner, _ in rows], np.int64)
    time_s_N = np.array([numbers["time_s"] for _, numbers in rows])
    order_N = np.lexsort((time_s_N, owner_N))
    owner_N, time_s_N = owner_N[order_N], time_s_N[order_N]
    starts_O = np.searchsorted(owner_N, np.arange(len(owners)))
    for place, owner in enumerate(owners):
        if time_s_N[starts_O[place]] != 0:
            found = f"{path}: the first row of {_named(owner)} is at {time_s_N[starts_O[place]]:g} s"
            raise ScenarioError(found, "a first row at 0, from which the run begins", _REMEDY)
    again = np.flatnonzero((np.diff(owner_N) == 0) & (np.diff(time_s_N) == 0))
    if len(again):
        found = f"{path}: {_named(owners[owner_N[again[0]]])} has two rows at {time_s_N[again[0]]:g} s"
        raise ScenarioError(found, "one row for each time", _REMEDY)
    values = {
        name: np.array([rows[place][1].get(name, math.nan) for place in order_N]) for name in ("available", *QUANTITIES)
    }
    return Trace(owners, starts_O, owner_N, time_s_N, values)


def _named(owner: Owner) -> str:
    return f"party {owner}" if isinstance(owner, int) else f"class {owner!r}"
