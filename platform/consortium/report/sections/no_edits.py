"""Arms that have come through the run without an edit."""

from __future__ import annotations

from consortium.report.content import Notice, Run, Section
from consortium.report.no_edits import arms_without_edits, line


def section(run: Run) -> Section | None:
    """None where every arm has edits; it has no heading, and belongs to the results."""
    arms = arms_without_edits(run.directory)
    return Section("", [Notice(line(arms))]) if arms else None
