"""What a run left out since its numbers are not finite: for the terminal, the page, and ``--format json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consortium.records.directory import RunDirectory
from consortium.records.rows import DERIVED
from consortium.report import pieces, words


@dataclass(frozen=True)
class LeftOut:
    """Of one lane, over all committed rounds.

    Attributes:
        lane: its name, or that of the unedited model.
        what: a metric's name, or ``edits``.
        number: answers or edits that were left out.
        total: of how many.
    """

    lane: str
    what: str
    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.what} of {self.lane} {self.number:,} of {self.total:,}"


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
        if row["metric"] not in DERIVED and (row["of_round"] is not None or _is_of_no_round(row["metric"])):
            add(row["lane"], row["metric"], number, number + row["num_probes"])
    return [LeftOut(*key, *value) for key, value in counts.items() if value[0]]


def _is_of_no_round(metric: str) -> bool:
    return metric in ("perplexity", "general")


def section(directory: RunDirectory) -> str:
    """The page's section; empty where all was finite."""
    found = left_out(directory)
    if not found:
        return ""
    header = "".join(f'<th scope="col"{kind}>{name}</th>' for name, kind in _HEADINGS)
    rows = "".join(
        f'<tr><th scope="row">{pieces.text(each.lane)}</th><td>{pieces.text(words.metric_name(each.what))}</td>'
        f'<td class="n">{each.number:,}</td><td class="n">{each.total:,}</td></tr>'
        for each in found
    )
    return (
        "<h2>What was not finite</h2><p>NaN or infinity is no answer and no edit: it was left out of every figure and "
        "every merge, over all rounds so often. Perplexity is counted in tokens.</p>"
        f"{pieces.table(header, rows)}"
    )


_HEADINGS = (("lane", ""), ("what", ""), ("left out", ' class="n"'), ("of", ' class="n"'))


def line(found: Sequence[LeftOut]) -> str:
    """One line for the terminal."""
    return f"Not finite and left out: {', '.join(map(str, found))}."
