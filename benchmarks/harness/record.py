"""What one measurement says, and the JSON-lines files that measurements are appended to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from consortium.common.errors import InputError

from benchmarks.harness.machine import commit, machine, versions

RESULTS = Path(__file__).resolve().parents[1] / "results"


@dataclass(frozen=True)
class Span:
    """The median of several numbers, and the least and the greatest of them."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(values: Sequence[float]) -> Span:
        """The span of at least one value."""
        ordered = sorted(values)
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
        return Span(median, ordered[0], ordered[-1])


@dataclass(frozen=True)
class Record:
    """One measurement of one case; what was not measured is None.

    Attributes:
        benchmark: name of the benchmark.
        label: the case in words.
        unit: what an item is.
        items: items that our way did in each repetition.
        items_naive: items that the naive way did; fewer where all would have taken too long.
        repeats: repetitions, each ours and then naive.
        seconds_ours: seconds per item.
        seconds_naive: the same of the naive way.
        naive_from: how the naive seconds follow from what was timed.
        ratio: naive over ours, of each repetition.
        flops_ours: floating-point operations per item.
        flops_naive: the same of the naive way, on ``items_naive`` items.
        flops_from: ``counted``, or ``formula`` where the count would have missed some.
        rate_ours: floating-point operations per second.
        rate_product: the same of the matrix product ``product``, measured between the repetitions.
        share_of_product: ``rate_ours`` over ``rate_product``.
        floor_flops: operations per item that cannot be avoided.
        times_floor: our seconds over the least that these operations take at the product's rate.
        bytes_moved: bytes sent or stored; ``bytes_meaning`` says which, or why there are none.
        peak_ours_bytes: most memory held at once beyond what was held before.
        peak_naive_bytes: the same of the naive way, on ``items_naive`` items.
        peak_from: how the memory was measured.
        difference: greatest relative difference between both results.
        stages: seconds of the parts of a start, or of a run, in order.
        memory: bytes that processes held at most, by what they are.
        skipped: why nothing, or why no naive way, was measured.
        parameters: what else the numbers depend on.
        machine: see :func:`benchmarks.harness.machine.machine`.
        versions: versions of packages.
        commit: of this checkout.
        time: when, in UTC.
    """

    benchmark: str
    label: str
    unit: str
    items: int
    items_naive: int = 0
    repeats: int = 0
    seconds_ours: Span | None = None
    seconds_naive: Span | None = None
    naive_from: str | None = None
    ratio: Span | None = None
    flops_ours: float | None = None
    flops_naive: float | None = None
    flops_from: str | None = None
    rate_ours: float | None = None
    rate_product: float | None = None
    product: str | None = None
    share_of_product: float | None = None
    floor_flops: float | None = None
    times_floor: float | None = None
    bytes_moved: int | None = None
    bytes_meaning: str | None = None
    peak_ours_bytes: int | None = None
    peak_naive_bytes: int | None = None
    peak_from: str | None = None
    difference: float | None = None
    stages: dict[str, float] | None = None
    memory: Mapping[str, int] | None = None
    skipped: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    time: str = ""


def origin(device: torch.device) -> dict[str, Any]:
    """The fields of a record that say where and when it was made."""
    return {
        "machine": machine(device),
        "versions": versions(),
        "commit": commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def append(record: Record, folder: Path) -> None:
    """Add a record to its benchmark's file.

    Raises:
        InputError: the folder cannot be written.
    """
    path = folder / f"{record.benchmark}.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror}", "a folder for results", "name another with --results"
        ) from error


def read(folder: Path) -> list[Record]:
    """All records of a folder, file after file by name, oldest first within one.

    Raises:
        InputError: a line that is no record.
    """
    return [record for path in sorted(folder.glob("*.jsonl")) for record in _read_file(path)]


def _read_file(path: Path) -> Iterable[Record]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            yield from_plain(json.loads(line))
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}, line {number}: {error}", "a record as `python -m benchmarks` appends it", "delete the line"
            ) from error


_SPANS = ("seconds_ours", "seconds_naive", "ratio")


def from_plain(values: Mapping[str, Any]) -> Record:
    """A record from what ``dataclasses.asdict`` made of it; fields that it lacks have their defaults."""
    unknown = values.keys() - {each.name for each in fields(Record)}
    if unknown:
        raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
    spans = {name: Span(**values[name]) for name in _SPANS if values.get(name) is not None}
    return Record(**{**values, **spans})


def newest(records: Iterable[Record]) -> list[Record]:
    """The last record of each case on each machine, in the order in which the cases first came."""
    last: dict[tuple[str, ...], Record] = {}
    for record in sorted(records, key=lambda each: each.time):
        last[_case_of(record)] = record
    return list(last.values())


def _case_of(record: Record) -> tuple[str, ...]:
    where = (record.machine.get("cpu"), record.machine.get("gpu"), record.machine.get("threads"))
    what = (record.benchmark, record.label, record.parameters.get("model"), record.parameters.get("dtype"))
    return tuple(map(str, (*where, *what)))
