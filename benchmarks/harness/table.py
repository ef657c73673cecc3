"""Records as tables: for a terminal, and for ``docs/performance.md``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TextIO

from consortium.common.errors import InputError
from consortium.common.terminal import fitting, takes_unicode
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.harness.record import Record, Span, newest

DOCS = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
_PLAIN_WIDTH = 200
_ABSENT = "–"


def _seconds(value: float) -> str:
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def _number(value: float) -> str:
    """A number with a thousands prefix: ``12.3 G``."""
    for scale, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g} {prefix}"
    return f"{value:.3g} "


def _span(span: Span, show: Callable[[float], str]) -> str:
    return f"{show(span.median)} ({show(span.least)} to {show(span.most)})"


def _naive(record: Record) -> str:
    if record.seconds_naive is None:
        return _ABSENT
    part = "" if record.items_naive == record.items else f", on {record.items_naive} of them"
    return _seconds(record.seconds_naive.median) + part


def _operations(record: Record) -> str:
    if record.flops_ours is None:
        return _ABSENT
    naive = "" if record.flops_naive is None else f" / {_number(record.flops_naive)}".rstrip()
    return _number(record.flops_ours).rstrip() + naive + (" *" if record.flops_from == "formula" else "")


def _rate(record: Record) -> str:
    if record.rate_ours is None or record.share_of_product is None:
        return _ABSENT
    return f"{_number(record.rate_ours)}/s ({100 * record.share_of_product:.3g} %)"


def _peak(record: Record) -> str:
    peaks = (record.peak_ours_bytes, record.peak_naive_bytes)
    shown = [f"{_number(peak)}B" for peak in peaks if peak is not None]
    return " / ".join(shown) or _ABSENT


def _optional(value: float | None, show: Callable[[float], str]) -> str:
    return _ABSENT if value is None else show(value)


_COLUMNS: dict[str, Callable[[Record], str]] = {
    "benchmark": lambda record: record.benchmark,
    "case": lambda record: record.label,
    "ours": lambda record: _ABSENT if record.seconds_ours is None else _seconds(record.seconds_ours.median),
    "per": lambda record: record.unit,
    "naive": _naive,
    "times faster": lambda record: _ABSENT if record.ratio is None else _span(record.ratio, lambda x: f"{x:.3g}"),
    "operations": _operations,
    "rate (of a product's)": _rate,
    "× floor": lambda record: _optional(record.times_floor, lambda x: f"{x:.2g}"),
    "bytes moved": lambda record: _optional(record.bytes_moved, lambda x: f"{_number(x)}B"),
    "peak memory": _peak,
    "difference": lambda record: _optional(record.difference, lambda x: f"{x:.1e}"),
}

Rows = list[list[str]]


def rows_of(records: Iterable[Record]) -> Rows:
    """A row of cells for each record that measured something other than stages."""
    return [[show(record) for show in _COLUMNS.values()] for record in records if record.seconds_ours is not None]


def stage_rows(records: Iterable[Record]) -> Rows:
    """A row for each stage of each start."""
    return [
        [record.label, stage, f"{seconds:.2f} s"]
        for record in records
        for stage, seconds in (record.stages or {}).items()
    ]


def notes_of(records: Iterable[Record]) -> list[str]:
    """What was not measured, and why."""
    return [f"{record.benchmark}, {record.label}: {record.skipped}." for record in records if record.skipped]


_STAGE_COLUMNS = ("start", "stage", "time")


def write_tables(records: Sequence[Record], stream: TextIO) -> None:
    """Write records for a person."""
    if rows := rows_of(records):
        _write(stream, tuple(_COLUMNS), rows)
    if rows := stage_rows(records):
        _write(stream, _STAGE_COLUMNS, rows)
    for note in notes_of(records):
        stream.write(fitting(note + "\n", stream))


def _write(stream: TextIO, columns: Sequence[str], rows: Rows) -> None:
    is_terminal = stream.isatty()
    table = Table(box=box.SIMPLE_HEAD if is_terminal and takes_unicode(stream) else box.ASCII2)
    for column in columns:
        table.add_column(fitting(column, stream), overflow="fold")
    for row in rows:
        table.add_row(*(fitting(cell, stream) for cell in row))
    Console(file=stream, width=None if is_terminal else _PLAIN_WIDTH, markup=False, highlight=False).print(table)


def markdown(records: Iterable[Record]) -> str:
    """The newest record of each case, machine after machine, as Markdown."""
    # Runs of ``scale`` have a page of their own.
    latest = sorted(newest(each for each in records if each.benchmark != "scale"), key=_machine)
    if not latest:
        return "No measurements are recorded yet."
    return "\n\n".join(_of_machine(place, list(group)) for place, group in groupby(latest, key=_machine))


def _machine(record: Record) -> str:
    found = record.machine
    processor = found.get("gpu") or f"{found.get('cpu')}, {found.get('threads')} threads"
    return f"{processor}; {record.parameters.get('model')}, {record.parameters.get('dtype')}"


def _of_machine(place: str, records: list[Record]) -> str:
    commits = sorted({record.commit or "outside of a checkout" for record in records})
    days = sorted({record.time[:10] for record in records})
    parts = [f"### {place}", f"Measured {', '.join(days)}; commit {', '.join(commits)}; {_versions(records[-1])}."]
    if rows := rows_of(records):
        parts.append(_grid(tuple(_COLUMNS), rows))
    if rows := stage_rows(records):
        parts.append(_grid(_STAGE_COLUMNS, rows))
    parts += [f"* {note}" for note in notes_of(records)]
    return "\n\n".join(parts)


def _versions(record: Record) -> str:
    return ", ".join(f"{name} {number}" for name, number in record.versions.items() if number != "None")


def _grid(columns: Sequence[str], rows: Rows) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def with_results(text: str, records: Iterable[Record]) -> str:
    """The page with its table between the marks made again.

    Raises:
        InputError: the page lacks a mark.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{DOCS.name} lacks {BEGIN} or {END}", "both, in this order", "put them where the table goes")
    return f"{before}{BEGIN}\n\n{markdown(records)}\n\n{END}{after}"
