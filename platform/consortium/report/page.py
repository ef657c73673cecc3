"""The page a person reads: one file without scripts and without anything to load."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from consortium.errors import RunDirectoryError
from consortium.merging.registry import METHODS
from consortium.records import entries
from consortium.records.directory import RunDirectory
from consortium.report import (
    admission_section,
    agreement,
    answers_section,
    cluster_section,
    departure_section,
    ledger_section,
    no_edits,
    not_finite,
    noticed_section,
    overlap_section,
    pieces,
    result_sections,
    retention,
    virtual_time,
    work_sections,
)
from consortium.report.results import read_results
from consortium.report.style import CSS, lane_styles
from consortium.scenario.schema import Scenario
from consortium.terminal.streams import printable


def build_report(directory: RunDirectory, titles: Mapping[str, tuple[str, str]] | None = None) -> Path:
    """Write report.html from what was committed, whatever the run's status; the run goes on meanwhile.

    Args:
        directory: the run.
        titles: lane → (title, reference) of its method; taken from the registry of merge methods where left out.

    Returns:
        The page's path.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    path = directory.report_path
    try:
        with directory.reporting():
            page = render(directory, default_titles(directory.scenario) | dict(titles or {}))
            entries.write_text(directory.path, path.name, page)
    except OSError as error:
        raise RunDirectoryError(
            f"{path} cannot be written: {error.strerror or error}.",
            "a run directory that can be written, on a disk with room.",
            f"see to that, then: consortium report {directory.path}",
        ) from error
    return path


def render(directory: RunDirectory, titles: Mapping[str, tuple[str, str]]) -> str:
    """The page as HTML."""
    results = read_results(directory)
    styles = lane_styles([(lane.lane, lane.method) for lane in results.lanes])
    body = "\n".join(
        [
            result_sections.head(directory, results),
            result_sections.table(results, titles, styles),
            no_edits.section(directory),
            not_finite.section(directory),
            result_sections.curves(results, styles),
            retention.section(results),
            result_sections.requests(results),
            answers_section.section(directory),
            agreement.settled(directory, results, styles),
            noticed_section.noticed(directory, results, styles),
            overlap_section.overlap(directory, results, styles),
            departure_section.taken_back(directory, results, styles),
            virtual_time.section(directory, results, styles),
            admission_section.refused(directory, results, styles),
            work_sections.time_spent(results),
            cluster_section.section(directory),
            work_sections.traffic(directory, results, styles),
            work_sections.incidents(directory, results),
            ledger_section.ledger(directory),
            work_sections.details(directory, results, titles),
        ]
    )
    version = pieces.text(directory.manifest.versions.get("consortium", "unknown"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(printable(directory.scenario.name))} – Consortium</title><style>{CSS}</style></head>\n"
        f"<body><main>\n{body}\n<footer>Written by Consortium {version}. "
        "This page is complete in itself and loads nothing.</footer></main></body></html>\n"
    )


def default_titles(scenario: Scenario) -> dict[str, tuple[str, str]]:
    """Lane → (title, reference) of its method; a lane with a label of its own keeps it beside the title."""
    found = {}
    for method in scenario.merge.methods:
        if method.name in METHODS:
            kind = METHODS[method.name]
            found[method.lane] = (kind.title, kind.reference)
    return found
