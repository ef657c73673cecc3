"""The report's section on overlap: what the model held already, and where parties' requests met."""

from __future__ import annotations

from collections.abc import Mapping

from consortium.records.directory import RunDirectory
from consortium.records.rows import ResidualRow
from consortium.report import figures, html, words
from consortium.report.figures import Curve
from consortium.report.results import Results
from consortium.report.sections import known_facts_cost
from consortium.report.style import LaneStyle

Styles = Mapping[str, LaneStyle]

_FLOAT64_BYTES = 8


def overlap(directory: RunDirectory, results: Results, styles: Styles) -> str:
    """Residuals over repeats, edits left out, and coincidences in the sums; empty where nothing of it happened."""
    charts = _residual_charts(directory, styles) + _meeting_charts(results, styles)
    left_out = _left_out(directory, results, styles)
    if not charts and not left_out:
        return ""
    drawn = f'<div class="charts pair">{"".join(charts)}</div>' if charts else ""
    return f"<h2>Overlap</h2>{drawn}{left_out}"


def _residual_charts(directory: RunDirectory, styles: Styles) -> list[str]:
    curves = residual_curves([ResidualRow(**row) for row in directory.table("residuals").to_pylist()])
    if not any(len(curve) > 1 for curve in curves.values()):
        return []
    threshold = directory.scenario.overlap.threshold if directory.scenario.lanes_that_look else None
    meaning = (
        "Length of the residual, relative to the hidden state’s, by how often its party asked for the same before; "
        "it is short where the model holds the fact."
    )
    line = " Below the dashed line an edit is left out." if threshold is not None else ""
    return [
        html.chart("what was still wanting", meaning + line, lambda: figures.residual_curves(curves, styles, threshold))
    ]


def residual_curves(rows: list[ResidualRow]) -> dict[str, Curve]:
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


def _meeting_charts(results: Results, styles: Styles) -> list[str]:
    curves = {
        lane.lane: [(row.round, 100 * row.contradiction) for row in lane.rounds if row.contradiction is not None]
        for lane in results.lanes
    }
    met = any(row.num_meeting for lane in results.lanes for row in lane.rounds)
    if not met:
        return []
    meaning = (
        "Share of what a round asks for that contradicts the rest, so that no update can give it: as the coordinator "
        "reads it from the sums alone."
    )
    shown = {lane: curve for lane, curve in curves.items() if curve}
    return [html.chart("contradiction in the sums", meaning, lambda: figures.percent_curves(shown, styles, None))]


def _left_out(directory: RunDirectory, results: Results, styles: Styles) -> str:
    looking = directory.scenario.lanes_that_look
    if not looking:
        return ""
    shapes = directory.manifest.layer_shapes.values()
    edit_bytes = sum(_FLOAT64_BYTES * (key_width + value_width) for value_width, key_width in shapes)
    counts = known_facts_cost.edits_of(directory)
    rows = "".join(
        f'<tr><th scope="row">{html.swatch(styles[lane.lane])}{html.text(lane.lane)}</th>'
        f'<td class="n">{counts[lane.lane][0]:,}</td><td class="n">{counts[lane.lane][1]:,}</td>'
        f'<td class="n">{words.size(counts[lane.lane][1] * edit_bytes)}</td></tr>'
        for lane in results.lanes
        if lane.lane in looking & counts.keys()
    )
    header = '<th scope="col">lane</th>' + "".join(
        f'<th scope="col" class="n">{name}</th>' for name in ("edits asked for", "left out", "not sent")
    )
    remark = (
        "A party leaves out an edit whose residual is under the threshold before anything of the round is merged. "
        "Not sent: what these edits would weigh as factors."
    )
    return f"<p>{remark}</p>{html.table(header, rows)}{known_facts_cost.comparison(directory, results)}"
