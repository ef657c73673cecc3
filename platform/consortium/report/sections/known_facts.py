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
    threshold = scenario.overlap.threshold if scenario.lanes_that_look else None
    meaning = (
        "Length of the residual, relative to the hidden state’s, by how often its party asked for the same before; "
        "it is short where the model holds the fact."
    )
    line = " Below the dashed line an edit is left out." if threshold is not None else ""
    data = (curves, run.styles, threshold)
    return [Figure("what was still wanting", meaning + line, figures.residual_curves, data, legend=run.styles)]


def _mean_residuals(rows: list[ResidualRow]) -> Curves:
    """Lane → (times asked before, mean residual) of fresh and repeated edits at the first layer with targets."""
    sums: dict[str, dict[int, tuple[int, float]]] = {}
    first = min((row.layer for row in rows), default=0)
    for row in rows:
        if row.layer == first and row.kind in ("fresh", "repeat"):
            of_lane = sums.setdefault(row.lane, {})
            count, total = of_lane.get(row.asked_before, (0, 0.0))
            of_lane[row.asked_before] = count + row.num_edits, total + row.num_edits * (row.residual or 0.0)
    return {
        lane: [(asked, total / count) for asked, (count, total) in sorted(found.items()) if count]
        for lane, found in sums.items()
    }


def _meeting_chart(run: Run) -> list[Figure]:
    curves = {
        lane.lane: [(row.round, 100 * row.contradiction) for row in lane.rounds if row.contradiction is not None]
        for lane in run.results.lanes
    }
    if not any(row.num_meeting for lane in run.results.lanes for row in lane.rounds):
        return []
    meaning = (
        "Share of what a round asks for that contradicts the rest, so that no update can give it: as the coordinator "
        "reads it from the sums alone."
    )
    data = ({lane: curve for lane, curve in curves.items() if curve}, run.styles, None)
    return [Figure("contradiction in the sums", meaning, figures.percent_curves, data, legend=run.styles)]


def _left_out(run: Run) -> list[Block]:
    looking = run.directory.scenario.lanes_that_look
    if not looking:
        return []
    shapes = run.directory.manifest.layer_shapes.values()
    edit_bytes = sum(_FLOAT64_BYTES * (key_width + value_width) for value_width, key_width in shapes)
    counts = known_facts_cost.edits_of(run.directory)
    rows: list[Cells] = []
    for lane in run.results.lanes:
        if lane.lane in looking & counts.keys():
            num_asked, num_left_out = counts[lane.lane]
            numbers = (f"{num_asked:,}", f"{num_left_out:,}", words.size(num_left_out * edit_bytes))
            rows.append([run.lane(lane.lane), *numbers])
    remark = (
        "A party leaves out an edit whose residual is under the threshold before anything of the round is merged. "
        "Not sent: what these edits would weigh as factors."
    )
    table = Table(("lane", "edits asked for", "left out", "not sent"), rows)
    return [remark, table, *known_facts_cost.comparison(run.directory, run.results)]
