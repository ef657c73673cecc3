"""Arms that a run has come through without a single edit merged: for the terminal, the page, and ``--format json``."""

from __future__ import annotations

from collections.abc import Sequence

from consortium.records.directory import RunDirectory

_CAUSES = (
    "Nobody took part, or all edits were left out, refused or rejected: virtual_time, "
    "overlap.skip_known, conflicts and screening decide that"
)


def arms_without_edits(directory: RunDirectory) -> list[str]:
    """Arms of which no committed round has merged an edit, in the scenario's order; none before round 1."""
    merged = dict.fromkeys(directory.table("rounds", ["arm"])["arm"].to_pylist(), 0)
    for row in directory.table("parties", ["arm", "num_edits", "num_skipped", "num_not_finite"]).to_pylist():
        unmerged = (row["num_skipped"] or 0) + (row["num_not_finite"] or 0)
        merged[row["arm"]] = merged.get(row["arm"], 0) + row["num_edits"] - unmerged
    return [method.arm for method in directory.scenario.merge.methods if merged.get(method.arm) == 0]


def line(arms: Sequence[str]) -> str:
    """One line for the terminal."""
    return f"No edit was merged in {', '.join(arms)}. {_CAUSES}."
