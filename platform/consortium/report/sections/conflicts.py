"""Edits that several parties asked for or that contradict: what was decided, and which answers hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from matplotlib.figure import Figure as Drawn

from consortium.records.rows import MetricRow
from consortium.report import figures
from consortium.report.content import Block, Cells, Figure, Figures, Meanings, Run, Section, Table
from consortium.report.drawing import legend
from consortium.report.results import ArmResult
from consortium.report.style import INK
from consortium.report.words import metric_name
from consortium.scenario.schema import Scenario

SCORE, MAGNITUDE = "conflict_score", "conflict_magnitude"

STATUS_MEANINGS = {
    "unique": "Nobody else asked about this in the same round.",
    "duplicate": "Others asked for the same.",
    "conflicting": "Others asked for another answer, and all were merged.",
    "accepted": "Another answer was asked for too, and this one was decided on.",
    "rejected": "Another answer was decided on; this edit was not merged.",
}
"""Status of a request → what it means."""

#: Rounds of an arm whose scores the table shows at most; the curves show all.
_MOST_ROUNDS = 4

_COLOURS = {SCORE: "#12355b", MAGNITUDE: "#e0a030"}


def section(run: Run) -> Section | None:
    """What was decided in each round, and each arm's conflict score and magnitude; None where there is neither."""
    edits = run.directory.table("edits", ["status", "weight", "num_paraphrases"])
    edits = edits.filter(pc.is_valid(edits["status"]))
    measured = [arm for arm in run.results.arms if _rounds_of(arm)]
    if not len(edits) and not measured:
        return None
    parts: list[Block] = [_policy(run.directory.scenario)]
    if len(edits):
        counts = _counts(edits)
        figure = Figure("edits by status", "Edits of each round.", figures.kinds_bars, (counts,))
        meanings = {
            status: each for status, each in STATUS_MEANINGS.items() if any(status in of for of in counts.values())
        }
        parts += [Figures([figure], _statuses_table(edits, counts)), Meanings(meanings)]
    if measured:
        meaning = (
            "After the last round that had conflicts; 100 is a chosen answer that holds and a losing one forgotten."
        )
        figure = Figure("conflict score and magnitude", meaning, score_bars, (measured,))
        parts.append(Figures([figure], _scores_table(run, measured)))
    return Section("What was decided", parts)


def _policy(scenario: Scenario) -> str:
    overlap, conflicts = scenario.overlap, scenario.conflicts
    if not scenario.resolves:
        return (
            "Nothing was decided: an edit that several parties ask for weighs once for each of them, and contradicting "
            "edits are all merged."
        )
    weight = "weighs once" if overlap.duplicates == "count_once" else "weighs once for each of them"
    sides = {
        "none": "contradicting edits are all merged",
        "latest": "of contradicting answers the last party’s is merged",
        "priority": "of contradicting answers that of the party with priority is merged",
        "majority": "of contradicting answers the one that most parties want is merged",
    }[conflicts.policy]
    again = f"; an edit that prevails is asked again in up to {conflicts.num_paraphrases} other wordings"
    return (
        "Before each round parties announced their edits as keyed digests, which show who coincides and not in what. "
        f"An edit that several parties ask for {weight}; {sides}"
        f"{', over the requests of all rounds so far' if conflicts.scope == 'run' else ''}"
        f"{again if conflicts.num_paraphrases else ''}."
    )


def _counts(edits: pa.Table) -> dict[int, dict[str, int]]:
    """Round → status → number of requests, where there are any."""
    groups = edits.group_by(["round", "status"]).aggregate([([], "count_all")])
    numbers = {(row["round"], row["status"]): row["count_all"] for row in groups.to_pylist()}
    rounds = sorted({round for round, _ in numbers})
    return {
        round: {status: numbers[round, status] for status in STATUS_MEANINGS if (round, status) in numbers}
        for round in rounds
    }


def _statuses_table(edits: pa.Table, counts: Mapping[int, Mapping[str, int]]) -> Table:
    """For each round, how many were asked, rejected and weighed down, what they weigh, and copies in other words."""
    rows = []
    for round, statuses in counts.items():
        mine = edits.filter(pc.field("round") == round).to_pydict()
        num_weighed_down = sum(0 < weight < 1 for weight in mine["weight"])
        numbers = [f"{number:,}" for number in (len(mine["status"]), statuses.get("rejected", 0), num_weighed_down)]
        rows.append([str(round), *numbers, f"{sum(mine['weight']):,.4g}", f"{sum(mine['num_paraphrases']):,}"])
    return Table(("round", "asked", "rejected", "weighed down", "weight in all", "copies added"), rows)


def _rounds_of(arm: ArmResult) -> list[int]:
    """Rounds in which an arm's conflicts were measured."""
    return sorted({number for number, metric in arm.measures if metric in _COLOURS})


def _scores_table(run: Run, arms: Sequence[ArmResult]) -> Table:
    rows = [_scores_row(run, arm, number) for arm in arms for number in _rounds_of(arm)[-_MOST_ROUNDS:]]
    return Table(("arm", "round", *map(metric_name, _COLOURS), "cases"), rows)


def _scores_row(run: Run, arm: ArmResult, number: int) -> Cells:
    measures = [arm.measures.get((number, metric)) for metric in _COLOURS]
    num_cases = max(row.num_edits for row in measures if row is not None)
    return [run.arm(arm.arm), str(number), *map(_percent, measures), f"{num_cases:,}"]


def _percent(row: MetricRow | None) -> str:
    return "–" if row is None else f"{row.value:.1f}"


def score_bars(arms: Sequence[ArmResult]) -> Drawn:
    """Conflict score and magnitude of each arm as two bars; a magnitude below zero is a losing answer that rose."""
    figure, axes = figures.bar_figure([arm.arm for arm in arms], room_in=0.9, bar_in=0.5)
    axes.spines["left"].set_visible(True)
    lowest = 0.0
    for offset, (metric, colour) in zip((-0.2, 0.2), _COLOURS.items(), strict=True):
        for place, arm in enumerate(arms):
            if (row := arm.final.get(metric)) is not None:
                # The edge shows a bar that has no length.
                axes.barh(place + offset, row.value, height=0.36, color=colour, edgecolor=colour, clip_on=False)
                edge = max(row.value, 0.0) + 2
                axes.text(edge, place + offset, f"{row.value:.1f}", va="center", ha="left", fontsize=8.5)
                lowest = min(lowest, row.value)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlim(-104 if lowest < 0 else 0, 118)
    legend(figure, {metric_name(metric): colour for metric, colour in _COLOURS.items()})
    return figure
