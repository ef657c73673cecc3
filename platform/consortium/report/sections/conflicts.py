"""The report's section on edits that several parties asked for or that contradict: what was settled, and who holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import pyarrow as pa  # type: ignore[import-untyped]
from matplotlib import rc_context

from consortium.records.directory import RunDirectory
from consortium.records.rows import MetricRow
from consortium.report import figures, html, words
from consortium.report.drawing import STYLE, legend, new_figure, to_svg
from consortium.report.results import LaneResult, Results
from consortium.report.style import INK, LaneStyle

SCORE, MAGNITUDE = "conflict", "conflict_magnitude"

FATE_MEANINGS = {
    "alone": "Nobody else asked about this in the same round.",
    "shared": "Others asked for the same.",
    "contested": "Others asked for another answer, and all were merged.",
    "won": "Another answer was asked for too, and this one was settled on.",
    "withdrawn": "Another answer was settled on; this edit was not merged.",
}
"""Fate of a request → what it means."""

#: Rounds of a lane whose scores the table shows at most; the curves show all.
_MOST_ROUNDS = 4

_COLOURS = {SCORE: "#12355b", MAGNITUDE: "#e0a030"}


@dataclass(frozen=True)
class RoundFates:
    """What became of one round's requests.

    Attributes:
        counts: fate → number of requests.
        weight: what they count in the merge, all together.
        num_weighed_down: requests that count, for less than 1.
        num_augmented: copies in other words.
    """

    counts: Mapping[str, int]
    weight: float
    num_weighed_down: int
    num_augmented: int


def settled(directory: RunDirectory, results: Results, styles: Mapping[str, LaneStyle]) -> str:
    """What was settled in each round, and conflict score and magnitude of each lane; empty where there is neither."""
    fates = fates_of(directory.table("edits", ["fate", "weight", "num_augmented"]))
    measured = [lane for lane in results.lanes if _rounds_of(lane)]
    if not fates and not measured:
        return ""
    parts = ["<h2>What was settled</h2>", f"<p>{escape(_policy(directory))}</p>"]
    if fates:
        picture = html.chart("edits by fate", "Edits of each round.", lambda: figures.kinds_bars(_shown(fates)))
        parts.append(f'<div class="charts pair">{picture}{_fates_table(fates)}</div>{_meanings(fates)}')
    if measured:
        meaning = (
            "After the last round that had conflicts; 100 is a chosen answer that holds and a losing one forgotten."
        )
        picture = html.chart("conflict score and magnitude", meaning, lambda: score_bars(measured))
        parts.append(f'<div class="charts pair">{picture}{_scores_table(measured, styles)}</div>')
    return "".join(parts)


def fates_of(edits: pa.Table) -> dict[int, RoundFates]:
    """Round → what became of its requests; empty where nothing was announced, or by a version that settled nothing."""
    if "fate" not in edits.column_names:
        return {}
    rows = [row for row in edits.select(["round", "fate", "weight", "num_augmented"]).to_pylist() if row["fate"]]
    return {number: _fates([row for row in rows if row["round"] == number]) for number in _in_order(rows)}


def _in_order(rows: Sequence[Mapping[str, int]]) -> list[int]:
    return sorted({row["round"] for row in rows})


def _fates(rows: Sequence[Mapping[str, float | str]]) -> RoundFates:
    counts = {fate: sum(row["fate"] == fate for row in rows) for fate in FATE_MEANINGS}
    weights = [float(row["weight"]) for row in rows]
    num_augmented = sum(int(row["num_augmented"]) for row in rows)
    return RoundFates(counts, sum(weights), sum(0 < weight < 1 for weight in weights), num_augmented)


def _policy(directory: RunDirectory) -> str:
    overlap, conflicts = directory.scenario.overlap, directory.scenario.conflicts
    if not directory.scenario.settles:
        return (
            "Nothing was settled: an edit that several parties ask for weighs once for each of them, and contradicting "
            "edits are all merged."
        )
    weigh = "weighs once" if overlap.weigh == "once" else "weighs once for each of them"
    sides = {
        "none": "contradicting edits are all merged",
        "latest": "of contradicting answers the last party’s is merged",
        "priority": "of contradicting answers that of the party with priority is merged",
        "majority": "of contradicting answers the one that most parties want is merged",
    }[conflicts.policy]
    again = f"; an edit that prevails is asked again in up to {conflicts.augment} other wordings" * bool(
        conflicts.augment
    )
    reach = ", over the requests of all rounds so far" * (conflicts.span == "run")
    return (
        "Before each round parties announced their edits as keyed digests, which show who coincides and not in what. "
        f"An edit that several parties ask for {weigh}; {sides}{reach}{again}."
    )


def _shown(fates: Mapping[int, RoundFates]) -> dict[int, dict[str, int]]:
    return {number: {fate: count for fate, count in each.counts.items() if count} for number, each in fates.items()}


def _fates_table(fates: Mapping[int, RoundFates]) -> str:
    names = ("asked", "withdrawn", "weighed down", "weight in all", "copies added")
    header = '<th scope="col">round</th>' + "".join(f'<th scope="col" class="n">{name}</th>' for name in names)
    return html.table(header, "".join(_fates_row(str(number), each) for number, each in fates.items()))


def _fates_row(name: str, fates: RoundFates) -> str:
    cells = (
        f"{sum(fates.counts.values()):,}",
        f"{fates.counts['withdrawn']:,}",
        f"{fates.num_weighed_down:,}",
        f"{fates.weight:,.4g}",
        f"{fates.num_augmented:,}",
    )
    return f'<tr><th scope="row">{name}</th>' + "".join(f'<td class="n">{each}</td>' for each in cells) + "</tr>"


def _meanings(fates: Mapping[int, RoundFates]) -> str:
    seen = [fate for fate in FATE_MEANINGS if any(each.counts[fate] for each in fates.values())]
    entries = "".join(f"<dt>{fate}</dt><dd>{escape(FATE_MEANINGS[fate])}</dd>" for fate in seen)
    return f'<dl class="meanings">{entries}</dl>'


def _rounds_of(lane: LaneResult) -> list[int]:
    """Rounds in which a lane's conflicts were measured."""
    return sorted({number for number, metric in lane.measures if metric in (SCORE, MAGNITUDE)})


def _scores_table(lanes: Sequence[LaneResult], styles: Mapping[str, LaneStyle]) -> str:
    header = '<th scope="col">lane</th><th scope="col" class="n">round</th>'
    header += "".join(f'<th scope="col" class="n">{words.metric_name(each)}</th>' for each in (SCORE, MAGNITUDE))
    header += '<th scope="col" class="n">cases</th>'
    rows = [_scores_row(lane, number, styles) for lane in lanes for number in _rounds_of(lane)[-_MOST_ROUNDS:]]
    return html.table(header, "".join(rows))


def _scores_row(lane: LaneResult, number: int, styles: Mapping[str, LaneStyle]) -> str:
    found = [lane.measures.get((number, metric)) for metric in (SCORE, MAGNITUDE)]
    num_cases = max(row.num_edits for row in found if row is not None)
    cells = [str(number), *map(_percent, found), f"{num_cases:,}"]
    name = f'<th scope="row">{html.swatch(styles[lane.lane])}{html.text(lane.lane)}</th>'
    return f"<tr>{name}" + "".join(f'<td class="n">{each}</td>' for each in cells) + "</tr>"


def _percent(row: MetricRow | None) -> str:
    return "–" if row is None else f"{row.value:.1f}"


def score_bars(lanes: Sequence[LaneResult]) -> str:
    """Conflict score and magnitude of each lane as two bars; a magnitude below zero is a losing answer that rose."""
    values = {metric: [lane.final.get(metric) for lane in lanes] for metric in _COLOURS}
    lowest = min(row.value for rows in values.values() for row in rows if row is not None)
    with rc_context(STYLE):
        figure, axes = new_figure(0.9 + 0.5 * len(lanes))
        for offset, (metric, rows) in zip((-0.2, 0.2), values.items(), strict=True):
            for place, row in enumerate(rows):
                if row is not None:
                    colour = _COLOURS[metric]  # of the edge, too, which shows a bar without a length
                    axes.barh(place + offset, row.value, height=0.36, color=colour, edgecolor=colour, clip_on=False)
                    edge = max(row.value, 0.0) + 2
                    axes.text(edge, place + offset, f"{row.value:.1f}", va="center", ha="left", fontsize=8.5)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlim(-104 if lowest < 0 else 0, 118)
        axes.set_ylim(len(lanes) - 0.4, -0.6)
        axes.set_yticks(range(len(lanes)), [lane.lane for lane in lanes])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="y", visible=False)
        legend(figure, {words.metric_name(metric): colour for metric, colour in _COLOURS.items()})
        return to_svg(figure)
