"""The report's section on contradictions that parties found by themselves, beside the truth of the simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from consortium.records.directory import RunDirectory
from consortium.report import html
from consortium.report.results import Results
from consortium.report.style import LaneStyle


@dataclass(frozen=True)
class Counts:
    """Edits of a lane, over all rounds, of which parties looked whether somebody taught something else."""

    num_edits: int
    num_contradicting: int
    num_found: int
    num_right: int

    @property
    def num_missed(self) -> int:
        """Contradicting edits that nobody found so."""
        return self.num_contradicting - self.num_right

    @property
    def num_false(self) -> int:
        """Edits that were found contradicted and are not."""
        return self.num_found - self.num_right


def counts_of(directory: RunDirectory) -> dict[str, Counts]:
    """Lane → its counts; empty where nobody looked."""
    table = directory.table("residuals")
    if "num_found" not in table.column_names:
        return {}  # written before there was such a thing
    names = ("num_edits", "num_contradicting", "num_found", "num_right")
    found: dict[str, Counts] = {}
    for row in table.to_pylist():
        if row["num_found"] is not None:
            before = found.get(row["lane"], Counts(0, 0, 0, 0))
            found[row["lane"]] = Counts(*(getattr(before, name) + row[name] for name in names))
    return found


def noticed(directory: RunDirectory, results: Results, styles: Mapping[str, LaneStyle]) -> str:
    """What parties found and what they missed in each lane; empty where nobody looked."""
    counts = counts_of(directory)
    if not counts:
        return ""
    names = ("edits", "contradicting", "found", "of these truly", "missed", "false alarms")
    header = '<th scope="col">lane</th>' + "".join(f'<th scope="col" class="n">{name}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{html.swatch(styles[lane.lane])}{html.text(lane.lane)}</th>'
        f"{_cells(counts[lane.lane])}</tr>"
        for lane in results.lanes
        if lane.lane in counts
    )
    follows = {
        "count": "Such edits were sent all the same.",
        "yield": "Such edits were left out, and the earlier answers stay; probes ask about them nevertheless.",
    }[directory.scenario.conflicts.on_detect]
    meaning = (
        "Before it sends an edit, a party asks the lane’s model for its answer: where the model is sure of something "
        f"else, which the unedited model does not say, somebody taught it so in an earlier round. {follows} "
        "Which edits are contradicting the simulation knows, and no party does. All rounds; copies in other words are "
        "in the first column only."
    )
    return f"<h2>What parties found contradicted</h2><p>{meaning}</p>{html.table(header, rows)}"


def _cells(each: Counts) -> str:
    values = (each.num_edits, each.num_contradicting, each.num_found, each.num_right, each.num_missed, each.num_false)
    return "".join(f'<td class="n">{value:,}</td>' for value in values)
