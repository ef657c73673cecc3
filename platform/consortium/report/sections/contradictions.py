"""Contradictions that parties found by themselves, beside the truth of the simulation."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.compute as pc  # type: ignore[import-untyped]

from consortium.records.directory import RunDirectory
from consortium.report.content import Cells, Run, Section, Table

_SUMS = ("num_edits", "num_contradicting", "num_detected", "num_correctly_detected")
_FOLLOWS = {
    "report": "Such edits were sent all the same.",
    "skip": "Such edits were left out, and the earlier answers stay; probes ask about them nevertheless.",
}


@dataclass(frozen=True)
class Detections:
    """Edits of an arm, over all rounds, of which parties looked whether somebody taught something else."""

    num_edits: int
    num_contradicting: int
    num_detected: int
    num_correctly_detected: int

    @property
    def num_missed(self) -> int:
        """Contradicting edits that nobody found so."""
        return self.num_contradicting - self.num_correctly_detected

    @property
    def num_false(self) -> int:
        """Edits that were found contradicted and are not."""
        return self.num_detected - self.num_correctly_detected


def counts_of(directory: RunDirectory) -> dict[str, Detections]:
    """Arm → its counts; empty where nobody looked."""
    table = directory.table("residuals", ["arm", *_SUMS])
    sums = table.filter(pc.is_valid(table["num_detected"])).group_by("arm").aggregate([(name, "sum") for name in _SUMS])
    return {row["arm"]: Detections(*(row[f"{name}_sum"] for name in _SUMS)) for row in sums.to_pylist()}


def section(run: Run) -> Section | None:
    """None where nobody looked."""
    counts = counts_of(run.directory)
    if not counts:
        return None
    intro = (
        "Before it sends an edit, a party asks the arm’s model for its answer: where the model is sure of something "
        "else, which the unedited model does not say, somebody taught it so in an earlier round. "
        f"{_FOLLOWS[run.directory.scenario.conflicts.on_detect]} "
        "Which edits are contradicting the simulation knows, and no party does. All rounds; copies in other words are "
        "in the first column only."
    )
    rows: list[Cells] = [[run.arm(arm.arm), *_cells(counts[arm.arm])] for arm in run.results.arms if arm.arm in counts]
    columns = ("arm", "edits", "contradicting", "found", "of these truly", "missed", "false alarms")
    return Section("What parties found contradicted", [intro, Table(columns, rows)])


def _cells(each: Detections) -> list[str]:
    values = (
        each.num_edits,
        each.num_contradicting,
        each.num_detected,
        each.num_correctly_detected,
        each.num_missed,
        each.num_false,
    )
    return [f"{value:,}" for value in values]
