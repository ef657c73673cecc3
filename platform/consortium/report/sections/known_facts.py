"""Overlap: what the model held already, and where parties' requests met."""

from __future__ import annotations

from consortium.records.rows import ResidualRow
from consortium.report import figures, words
from consortium.report.content import Block, Cells, Figure, Figures, Run, Section, Table
from consortium.report.figures import Curves
from consortium.report.sections import known_facts_cost

_FLOAT64_BYTES = 8


def section(run: Run) -> Section | None:
    """Residuals over repeats, edits left out, and coincidences in the sums; None where nothing of it happened."""
    charts = [*_residual_chart(run), *_meeting_chart(run)]
    parts = [*([Figures(charts)] if charts else []), *_left_out(run)]
    return Section("Overlap", parts) if parts else None


def _residual_chart(run: Run) -> list[Figure]:
    curves = _mean_residuals([ResidualRow(**row) for row in run.directory.table("residuals").to_pylist()])
    if not any(len(curve) > 1 for curve in curves.values()):
        return []
    scenario = run.directory.scenario
    threshold = scenario.overlap.threshold if scenario.arms_that_check else None
    meaning = (
        "Length of the residual, relative to the hidden state’s, by how often its party asked for the same before; "
        "it is short where the model holds the fact."
    )
    line = " Below the dashed line an edit is left out." if threshold is not None else ""
    data = (curves, run.styles, threshold)
    return [Figure("what was still wanting", meaning + line, figures.residual_curves, data, legend=run.styles)]


def _mean_residuals(rows: list[ResidualRow]) -> Curves:
    """Arm → (times asked before, mean residual) of fresh and repeated edits at the first layer with targets."""
    sums: dict[str, dict[int, tuple[int, float]]] = {}
    first = min((row.layer for row in rows), default=0)
    for row in rows:
        if row.layer == first and row.kind in ("fresh", "repeat"):
            of_arm = sums.setdefault(row.arm, {})
            count, total = of_arm.get(row.asked_before, (0, 0.0))
            of_arm[row.asked_before] = count + row.num_edits, total + row.num_edits * (row.residual or 0.0)
    return {
        arm: [(asked, total / count) for asked, (count, total) in sorted(found.items()) if count]
        for arm, found in sums.items()
    }


def _meeting_chart(run: Run) -> list[Figure]:
    curves = {
        arm.arm: [(row.round, 100 * row.unresolvable_share) for row in arm.rounds if row.unresolvable_share is not None]
        for arm in run.results.arms
    }
    if not any(row.num_shared_keys for arm in run.results.arms for row in arm.rounds):
        return []
    meaning = (
        "Share of what a round asks for that contradicts the rest, so that no update can give it: as the coordinator "
        "reads it from the sums alone."
    )
    data = ({arm: curve for arm, curve in curves.items() if curve}, run.styles, None)
    return [Figure("contradiction in the sums", meaning, figures.percent_curves, data, legend=run.styles)]


def _left_out(run: Run) -> list[Block]:
    looking = run.directory.scenario.arms_that_check
    if not looking:
        return []
    shapes = run.directory.manifest.layer_shapes.values()
    edit_bytes = sum(_FLOAT64_BYTES * (key_width + value_width) for value_width, key_width in shapes)
    counts = known_facts_cost.edits_of(run.directory)
    rows: list[Cells] = []
    for arm in run.results.arms:
        if arm.arm in looking & counts.keys():
            num_asked, num_skipped = counts[arm.arm]
            numbers = (f"{num_asked:,}", f"{num_skipped:,}", words.size(num_skipped * edit_bytes))
            rows.append([run.arm(arm.arm), *numbers])
    note = (
        "A party leaves out an edit whose residual is under the threshold before anything of the round is merged. "
        "Not sent: what these edits would weigh as factors."
    )
    table = Table(("arm", "edits asked for", "left out", "not sent"), rows)
    return [note, table, *known_facts_cost.comparison(run.directory, run.results)]
