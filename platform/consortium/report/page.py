"""The page a person reads: one file without scripts and without anything to load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from consortium.common.errors import RunDirectoryError
from consortium.records import entries
from consortium.records.directory import RunDirectory
from consortium.report.content import Run, Section, Titles
from consortium.report.head import Head, head_of
from consortium.report.render import render
from consortium.report.results import read_results
from consortium.report.sections import (
    audit,
    cluster,
    conflicts,
    contradictions,
    curves,
    details,
    edits,
    incidents,
    known_facts,
    no_edits,
    not_finite,
    outcome,
    requests,
    retention,
    screening,
    time_spent,
    traffic,
    unlearning,
    virtual_time,
)
from consortium.report.style import arm_styles
from consortium.scenario.schema import Scenario

_SECTIONS = (
    *(outcome, no_edits, not_finite, curves, retention, requests, edits, conflicts, contradictions, known_facts),
    *(unlearning, virtual_time, screening, time_spent, cluster, traffic, incidents, audit, details),
)
"""Modules in the order of their sections on the page; a section that has nothing to say of a run is None."""


@dataclass(frozen=True)
class Report:
    """All that a report says; its figures are drawn once, when they are first asked for."""

    path: Path  # of the page
    head: Head
    sections: tuple[Section, ...]  # those that have something to say
    version: str  # of the program that made the run


def build_report(directory: RunDirectory, titles: Titles | None = None) -> Report:
    """Write report.html from what was committed, whatever the run's status; the run goes on meanwhile.

    Args:
        directory: the run.
        titles: arm → (title, reference) of its method; taken from the registry of merge methods where left out.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    path = directory.report_path
    try:
        with directory.reporting():
            report = read_report(directory, titles)
            page = render("page.html", head=report.head, sections=report.sections, version=report.version)
            entries.write_entry(directory.path, path.name, page)
    except OSError as error:
        raise RunDirectoryError(
            f"{path} cannot be written: {error.strerror or error}.",
            "a run directory that can be written, on a disk with room.",
            f"see to that, then: consortium report {directory.path}",
        ) from error
    return report


def read_report(directory: RunDirectory, titles: Titles | None = None) -> Report:
    """What the report says of a run, as values."""
    run = run_of(directory, titles)
    sections = tuple(section for each in _SECTIONS if (section := each.section(run)) is not None)
    version = directory.manifest.versions.get("consortium", "unknown")
    return Report(directory.report_path, head_of(run), sections, version)


def run_of(directory: RunDirectory, titles: Titles | None = None) -> Run:
    """What sections are made of."""
    results = read_results(directory)
    styles = arm_styles([(arm.arm, arm.method) for arm in results.arms])
    return Run(directory, results, styles, {**_titles(directory.scenario), **(titles or {})})


def _titles(scenario: Scenario) -> dict[str, tuple[str, str]]:
    """Arm → (title, reference) of its method; an arm with a label of its own keeps it beside the title."""
    return {method.arm: (method.title, method.paper) for method in scenario.merge.methods}
