"""Lanes that a run has come through without a single edit merged: for the terminal, the page, and ``--format json``."""

from __future__ import annotations

from collections.abc import Sequence

from consortium.records.directory import RunDirectory

_CAUSES = (
    "Nobody took part, or all edits were left out, refused or withdrawn: devices.availability, schedule, "
    "overlap.detect, conflicts and admission decide that"
)


def lanes_without_edits(directory: RunDirectory) -> list[str]:
    """Lanes of which no committed round has merged an edit, in the scenario's order; none before round 1."""
    merged = dict.fromkeys(directory.table("rounds", ["lane"])["lane"].to_pylist(), 0)
    for row in directory.table("parties", ["lane", "num_edits", "num_left_out", "num_not_finite"]).to_pylist():
        unmerged = (row["num_left_out"] or 0) + (row["num_not_finite"] or 0)
        merged[row["lane"]] = merged.get(row["lane"], 0) + row["num_edits"] - unmerged
    return [method.lane for method in directory.scenario.merge.methods if merged.get(method.lane) == 0]


def line(lanes: Sequence[str]) -> str:
    """One line for the terminal."""
    return f"No edit was merged in {', '.join(lanes)}. {_CAUSES}."
