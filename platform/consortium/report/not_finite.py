"""What a run left out since its numbers are not finite: for the terminal, the page, and ``--format json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consortium.evaluation import registry
from consortium.records.directory import RunDirectory
from consortium.report import words


@dataclass(frozen=True)
class LeftOut:
    """Of one lane, over all committed rounds."""

    lane: str  # or the unedited model
    what: str  # a metric's name, or ``edits``
    number: int  # answers or edits that were left out
    total: int  # of how many

    @property
    def share(self) -> str:
        """How many of how many."""
        return f"{self.number:,} of {self.total:,}"


def left_out(directory: RunDirectory) -> list[LeftOut]:
    """What was left out, lane after lane; empty where all was finite."""
    counts: dict[tuple[str, str], tuple[int, int]] = {}

    def add(lane: str, what: str, number: int, total: int) -> None:
        before = counts.get((lane, what), (0, 0))
        counts[lane, what] = before[0] + number, before[1] + total

    for row in directory.table("parties", ["lane", "num_edits", "num_not_finite"]).to_pylist():
        add(row["lane"], "edits", row.get("num_not_finite") or 0, row["num_edits"])
    columns = ["lane", "metric", "of_round", "num_probes", "num_not_finite"]
    for row in directory.table("metrics", columns).to_pylist():
        # Rows of several rounds together repeat those of each; what is of no round's edits has no others.
        number = row.get("num_not_finite") or 0
        metric = registry.of_column(row["metric"])
        if not metric.parts and (row["of_round"] is not None or not metric.is_of_edits):
            add(row["lane"], row["metric"], number, number + row["num_probes"])
    return [LeftOut(*key, *value) for key, value in counts.items() if value[0]]


def lines(found: Sequence[LeftOut]) -> list[str]:
    """Lines for the terminal: one for all lanes of which the same was left out."""
    of_lane: dict[str, list[LeftOut]] = {}
    for each in found:
        of_lane.setdefault(each.lane, []).append(each)
    lanes: dict[tuple[str, ...], list[str]] = {}
    for lane, parts in of_lane.items():
        lanes.setdefault(tuple(map(_in_words, _without_kinds(parts))), []).append(lane)
    return [f"Not finite and left out in {', '.join(each)}: {', '.join(parts)}." for parts, each in lanes.items()]


def _without_kinds(parts: Sequence[LeftOut]) -> list[LeftOut]:
    """Without kinds of a metric's questions, which the metric itself counts as well."""
    return [each for each in parts if each.what not in registry.of_column(each.what).details]


def _in_words(each: LeftOut) -> str:
    return f"{words.metric_name(each.what)} {each.share}"
