"""The tables that commands print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from consortium.records.directory import RunDirectory
from consortium.records.runs import RunSummary
from consortium.report.summary import result_table, summary
from consortium.report.words import METRIC_MEANINGS, count, metric_name
from consortium.terminal.progress import duration
from consortium.terminal.streams import fitting, takes_unicode

PLAIN_WIDTH = 120
DISTANCE_MEANING = "How far the weights are from those of global edit, relative to their length; 0 is the same model."


def write_results(directory: RunDirectory, stream: TextIO) -> None:
    """Write one row per lane and one for the unedited model, and under it what the columns mean."""
    found = summary(directory)
    text = result_table(found)
    scenario = directory.scenario
    edits, parties = count(found["num_edits"], "edit"), count(scenario.parties.count, "party")
    title = f"{scenario.name}: {edits} of {parties} in {count(found['rounds'], 'round')}; percent unless said otherwise"
    _write_table(stream, title, text.columns, text.rows)
    for column in text.columns[1:]:
        meaning = _MEANINGS.get(column, DISTANCE_MEANING if column.startswith("distance") else "")
        stream.write(fitting(f"  {column}: {meaning}\n", stream))


def write_runs(runs: Sequence[RunSummary], stream: TextIO) -> None:
    """Write one row per run directory."""
    columns = ("run", "scenario", "status", "rounds", "lanes", "started", "work")
    rows = [
        (
            str(run.path),
            run.name,
            run.status,
            f"{run.rounds_done}/{run.rounds}",
            ", ".join(run.lanes),
            run.started,
            duration(run.worked_s),
        )
        for run in runs
    ]
    _write_table(stream, "", columns, rows)


_MEANINGS = {metric_name(metric): meaning for metric, meaning in METRIC_MEANINGS.items()}


def _write_table(stream: TextIO, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table drawn with lines on a terminal that has them, and with plain characters elsewhere."""
    is_terminal = stream.isatty()
    style = box.SIMPLE_HEAD if is_terminal and takes_unicode(stream) else box.ASCII2
    table = Table(title=escape(title) or None, title_justify="left", box=style)
    for place, column in enumerate(columns):
        table.add_column(escape(column), justify="right" if title and place else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(fitting(cell, stream)) for cell in row))
    Console(file=stream, width=None if is_terminal else PLAIN_WIDTH).print(table)
