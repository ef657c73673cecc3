"""What a run left out since its numbers are not finite: for the terminal, the page, and ``--format json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consortium.evaluation import registry
from consortium.records.directory import RunDirectory
from consortium.report import words


@dataclass(frozen=True)
class LeftOut:
    """Of one arm, over all committed rounds."""

    arm: str  # or the unedited model
    what: str  # a metric's name, or ``edits``
    number: int  # answers or edits that were left out
    total: int  # of how many

    @property
    def share(self) -> str:
        """How many of how many."""
        return f"{self.number:,} of {self.total:,}"


def left_out(directory: RunDirectory) -> list[LeftOut]:
    """What was left out, arm after arm; empty where all was finite."""
    counts: dict[tuple[str, str], tuple[int, int]] = {}

    def add(arm: str, what: str, number: int, total: int) -> None:
        before = counts.get((arm, what), (0, 0))
        counts[arm, what] = before[0] + number, before[1] + total

    for row in directory.table("parties", ["arm", "num_edits", "num_not_finite"]).to_pylist():
        add(row["arm"], "edits", row.get("num_not_finite") or 0, row["num_edits"])
    columns = ["arm", "metric", "of_round", "num_probes", "num_not_finite"]
    for row in directory.table("metrics", columns).to_pylist():
        # Rows of several rounds together repeat those of each; what is of no round's edits has no others.
        number = row.get("num_not_finite") or 0
        metric = registry.of_column(row["metric"])
        if not metric.parts and (row["of_round"] is not None or not metric.is_of_edits):
            add(row["arm"], row["metric"], number, number + row["num_probes"])
    return [LeftOut(*key, *value) for key, value in counts.items() if value[0]]


def lines(found: Sequence[LeftOut]) -> list[str]:
    """Lines for the terminal: one for all arms of which the same was left out."""
    of_arm: dict[str, list[LeftOut]] = {}
    for each in found:
        of_arm.setdefault(each.arm, []).append(each)
    arms: dict[tuple[str, ...], list[str]] = {}
    for arm, parts in of_arm.items():
        arms.setdefault(tuple(map(_in_words, _without_kinds(parts))), []).append(arm)
    return [f"Not finite and left out in {', '.join(each)}: {', '.join(parts)}." for parts, each in arms.items()]


def _without_kinds(parts: Sequence[LeftOut]) -> list[LeftOut]:
    """Without kinds of a metric's questions, which the metric itself counts as well."""
    return [each for each in parts if each.what not in registry.of_column(each.what).details]


def _in_words(each: LeftOut) -> str:
    return f"{words.metric_name(each.what)} {each.share}"
