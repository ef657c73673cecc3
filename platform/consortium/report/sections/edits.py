"""Which edits failed: probes without success after the last round measured, where ``evaluate.per_edit`` wrote them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from consortium.records.directory import RunDirectory
from consortium.report import html, words

#: Probes that are listed of a lane at most; the table has all.
MOST_LISTED = 100
_HEADINGS = ("edit", "metric", "prompt", "wanted", "the model says", "nll wanted", "nll rival")


def section(directory: RunDirectory) -> str:
    """One list for each lane, to be opened; empty where nothing was written edit by edit."""
    answers = directory.table("answers")
    if not len(answers):
        return ""
    last = answers.filter(pc.equal(answers["round"], pc.max(answers["round"])))
    lanes = [method.lane for method in directory.scenario.merge.methods]
    return (
        "<h2>What failed</h2><p>Probes of edits without success after the last round that was measured, lane by lane; "
        "an edit is named by party, round and place in tables/edits.parquet. All probes, with those that succeeded and "
        "those of the unedited model, are in tables/answers.parquet.</p>"
        + "".join(_of_lane(lane, last.filter(pc.equal(last["lane"], lane))) for lane in lanes)
    )


def failed(answers: pa.Table) -> pa.Table:
    """The rows without success: a share of tokens below 1, or an answer that is not finite."""
    return answers.filter(pc.less(pc.fill_null(answers["success"], 0.0), 1.0))


def _of_lane(lane: str, answers: pa.Table) -> str:
    found = failed(answers)
    of = f"{len(found):,} of {words.count(len(answers), 'probe')}"
    if not len(found):
        return f"<p>{html.text(lane)}: {of} failed.</p>"
    header = "".join(f'<th scope="col">{name}</th>' for name in _HEADINGS)
    rows = "".join(map(_row, found.slice(0, MOST_LISTED).to_pylist()))
    more = f"<p>{len(found) - MOST_LISTED:,} more are in the table.</p>" if len(found) > MOST_LISTED else ""
    return f"<details><summary>{html.text(lane)}: {of} failed</summary>{html.table(header, rows)}{more}</details>"


def _row(row: dict[str, Any]) -> str:
    said = row["answer"] if row["is_finite"] else "not finite"
    cells = (
        f"{row['party']} · {row['edit_round']} · {row['index']}",
        words.metric_name(row["metric"]),
        row["prompt"],
        row["target"],
        "–" if said is None else said,
        *("–" if row[name] is None else f"{row[name]:.2f}" for name in ("nll_target", "nll_rival")),
    )
    return "<tr>" + "".join(f"<td>{html.text(each)}</td>" for each in cells) + "</tr>"
