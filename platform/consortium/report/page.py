"""The page a person reads: one file without scripts and without anything to load."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from consortium.common.errors import RunDirectoryError
from consortium.common.terminal import printable
from consortium.merging.registry import METHODS
from consortium.records import entries
from consortium.records.directory import RunDirectory
from consortium.report import html, no_edits, not_finite
from consortium.report.results import read_results
from consortium.report.sections import (
    audit,
    cluster,
    conflicts,
    contradictions,
    edits,
    known_facts,
    results_per_method,
    retention,
    screening,
    unlearning,
    virtual_time,
    work,
)
from consortium.report.style import CSS, lane_styles
from consortium.scenario.schema import Scenario


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
            results_per_method.head(directory, results),
            results_per_method.table(results, titles, styles),
            no_edits.section(directory),
            not_finite.section(directory),
            results_per_method.curves(results, styles),
            retention.section(results),
            results_per_method.requests(results),
            edits.section(directory),
            conflicts.settled(directory, results, styles),
            contradictions.noticed(directory, results, styles),
            known_facts.overlap(directory, results, styles),
            unlearning.taken_back(directory, results, styles),
            virtual_time.section(directory, results, styles),
            screening.refused(directory, results, styles),
            work.time_spent(results),
            cluster.section(directory),
            work.traffic(directory, results, styles),
            work.incidents(directory, results),
            audit.ledger(directory),
            work.details(directory, results, titles),
        ]
    )
    version = html.text(directory.manifest.versions.get("consortium", "unknown"))
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
