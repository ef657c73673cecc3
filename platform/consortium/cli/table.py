"""The tables that commands print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill, shorten
from typing import TYPE_CHECKING, Literal, TextIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from consortium.cli.progress import short_duration
from consortium.common.counting import count
from consortium.common.terminal import fitting, printable, say, takes_unicode

if TYPE_CHECKING:
    from consortium.records.directory import RunDirectory
    from consortium.records.runs import RunSummary

PLAIN_WIDTH = 120
_PADDING = 3  # a blank on either side of a column, and a line beside it
_INTERVALS = "What a column was measured on (tokens for perplexity), and the farthest end of its 95 % intervals."


def write_results(directory: RunDirectory, stream: TextIO) -> None:
    """Write one row per arm and one for the unedited model, and under it what the columns mean."""
    # `ls` has no results to write, and answers before these would be imported.
    from consortium.report import no_edits
    from consortium.report.not_finite import LeftOut, lines
    from consortium.report.summary import QUESTIONS, WITHIN, result_table, summary

    found = summary(directory)
    text = result_table(found)
    scenario = directory.scenario
    edits, parties = count(found["num_edits"], "edit"), count(scenario.parties.count, "party")
    title = f"{scenario.name}: {edits} of {parties} in {count(found['rounds'], 'round')}; percent unless said otherwise"
    say(fitting(title, stream), stream)
    for places, widths in _side_by_side(text.columns, text.rows, _width(stream)):
        rows = [[row[place] for place in places] for row in text.rows]
        _write_table(stream, [text.columns[place] for place in places], rows, widths)
    for column, meaning in zip(text.columns[1:], text.meanings, strict=True):
        _write_meaning(f"{column}: {meaning}", stream)
    if text.rows:
        _write_meaning(f"{QUESTIONS}, {WITHIN}: {_INTERVALS}", stream)
    if found["without_edits"]:
        stream.write(fitting(f"{no_edits.line(found['without_edits'])}\n", stream))
    for line in lines([LeftOut(**each) for each in found["not_finite"]]):
        _write_wrapped(line, stream)


def write_runs(runs: Sequence[RunSummary], stream: TextIO) -> None:
    """Write one row per run directory, and below them why runs failed or what is wrong with a folder."""
    columns = ("run", "scenario", "status", "rounds", "arms", "started", "work")
    rows = [
        (
            str(run.path),
            run.name,
            run.status,
            f"{run.rounds_done}/{run.rounds}",
            ", ".join(run.arms),
            run.started,
            short_duration(run.worked_s),
        )
        for run in runs
    ]
    _write_table(stream, columns, rows)
    for run in runs:
        if run.error is not None and run.status in ("failed", "damaged"):
            why = shorten(run.error, _REASON, placeholder=" …")
            place = str(run.path).replace("\n", "\\n")
            say(fitting(f"{place} {_WRONG[run.status]}: {why}", stream), stream)


_WRONG = {"failed": "failed", "damaged": "is damaged"}
_REASON = 400  # characters of a reason


def _width(stream: TextIO) -> int:
    """Characters in a line: as many as a terminal has, and :data:`PLAIN_WIDTH` elsewhere."""
    return Console(file=stream).width if stream.isatty() else PLAIN_WIDTH


def _write_meaning(text: str, stream: TextIO) -> None:
    """A line under a table, or as many as it takes where the terminal is narrow."""
    _write_wrapped(text, stream, indent="  ")


def _write_wrapped(text: str, stream: TextIO, indent: str = "") -> None:
    wrapped = fill(printable(text), max(20, _width(stream)), initial_indent=indent, subsequent_indent=f"{indent}  ")
    stream.write(fitting(f"{wrapped}\n", stream))


def _side_by_side(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> list[tuple[list[int], list[int]]]:
    """Tables as places of their columns and these columns' widths; the first column is in each.

    No word of a heading and no number is broken, and no heading has more than two lines, so that it may take several
    tables; headings have one line where there is room.
    """
    cells = [max(len(row[place]) for row in rows) for place in range(len(columns))]
    least = [max(cell, _two_lines(name)) for name, cell in zip(columns, cells, strict=True)]
    least[0] = min(least[0], width // 3)  # names of arms may be of any length
    tables = [[0]]
    for place in range(1, len(columns)):
        if len(tables[-1]) > 1 and _drawn(least[each] for each in [*tables[-1], place]) > width:
            tables.append([0])
        tables[-1].append(place)
    return [(places, _widened(places, columns, least, width)) for places in tables]


def _two_lines(name: str) -> int:
    """The least width in which a heading has two lines at most, and no word is broken."""
    words = name.split()
    cuts = range(1, len(words) + 1)
    return min((max(len(" ".join(words[:cut])), len(" ".join(words[cut:]))) for cut in cuts), default=0)


def _widened(places: Sequence[int], columns: Sequence[str], least: Sequence[int], width: int) -> list[int]:
    """Widths of a table's columns: what is left of the line goes to headings that need it, from the left."""
    widths = [least[place] for place in places]
    for number, place in enumerate(places):
        left = width - _drawn(widths)
        widths[number] += max(0, min(left, len(columns[place]) - widths[number]))
    return widths


def _drawn(widths: Iterable[int]) -> int:
    """Width of a table with its lines and blanks."""
    return 1 + sum(width + _PADDING for width in widths)


def _write_table(
    stream: TextIO,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int] | None = None,
) -> None:
    """A table drawn with lines on a terminal that has them, and with plain characters elsewhere.

    ``widths`` are those of a table of numbers, which stand to the right.
    """
    style = box.SIMPLE_HEAD if stream.isatty() and takes_unicode(stream) else box.ASCII2
    table = Table(box=style)
    for place, column in enumerate(columns):
        width = widths[place] if widths else None
        justify: Literal["left", "right"] = "right" if widths and place else "left"
        table.add_column(escape(column), justify=justify, overflow="fold", width=width)
    for row in rows:
        table.add_row(*(escape(fitting(printable(cell).replace("\n", " "), stream)) for cell in row))
    Console(file=stream, width=_width(stream)).print(table)
