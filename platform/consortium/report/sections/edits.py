"""Which edits failed: probes without success after the last round measured, where ``evaluate.per_edit`` wrote them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from consortium.report.content import Block, Folded, Run, Section, Table
from consortium.report.words import count, metric_name, own

#: Probes that are listed of an arm at most; the table has all.
MOST_LISTED = 100
_COLUMNS = ("edit", "metric", "prompt", "wanted", "the model says", "nll wanted", "nll rival")
_INTRO = (
    "Probes of edits without success after the last round that was measured, arm by arm; an edit is named by party, "
    "round and place in tables/edits.parquet. All probes, with those that succeeded and those of the unedited model, "
    "are in tables/answers.parquet."
)


def section(run: Run) -> Section | None:
    """One list for each arm, to be opened; None where nothing was written edit by edit."""
    answers = run.directory.table("answers")
    if not len(answers):
        return None
    last = answers.filter(pc.equal(answers["round"], pc.max(answers["round"])))
    arms = [arm.arm for arm in run.results.arms]
    return Section("What failed", [_INTRO, *(_of_arm(arm, last.filter(pc.field("arm") == arm)) for arm in arms)])


def failed(answers: pa.Table) -> pa.Table:
    """The rows without success: a share of tokens below 1, or an answer that is not finite."""
    return answers.filter(pc.less(pc.fill_null(answers["success"], 0.0), 1.0))


def _of_arm(arm: str, answers: pa.Table) -> Block:
    failures = failed(answers)
    head = f"{own(arm)}: {len(failures):,} of {count(len(answers), 'probe')} failed"
    if not len(failures):
        return f"{head}."
    rows = [_cells(row) for row in failures.slice(0, MOST_LISTED).to_pylist()]
    more = [f"{len(failures) - MOST_LISTED:,} more are in the table."] * (len(failures) > MOST_LISTED)
    return Folded(head, [Table(_COLUMNS, rows, align="t" * len(_COLUMNS)), *more])


def _cells(row: dict[str, Any]) -> list[str]:
    said = row["answer"] if row["is_finite"] else "not finite"
    return [
        f"{row['party']} · {row['edit_round']} · {row['index']}",
        metric_name(row["metric"]),
        own(row["prompt"]),
        own(row["target"]),
        own("–" if said is None else said),
        *("–" if row[name] is None else f"{row[name]:.2f}" for name in ("nll_target", "nll_rival")),
    ]
