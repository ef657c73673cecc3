"""What a report says, as plain texts: rows = texts(conflicts.section(run_of(directory)).tables[0])."""

from __future__ import annotations

from consortium.report.content import Table
from consortium.report.words import plain


def texts(table: Table) -> list[list[str]]:
    """The cells of each row."""
    return [[plain(cell.text) for cell in row] for row in table.cells]
