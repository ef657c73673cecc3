"""Results: every arm after its last measured round, beside the unedited model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from consortium.evaluation.registry import of_column
from consortium.records.rows import MetricRow
from consortium.report import words
from consortium.report.content import NO_VALUE, Cell, Meanings, Run, Section, Table
from consortium.report.intervals import Interval, intervals
from consortium.report.results import ArmResult, Results
from consortium.report.style import UNEDITED_STYLE

_DISTANCES = {
    "weights from global": "How far the merged weights are from those of one party that owned all edits: "
    "‖W − W global‖ / ‖W global‖ over the edited layers. 10⁻⁷ is what float32 rounds away.",
    "update from global": "The same for what the edits changed: 0 is all of it, 1 is as far as no edit.",
}


def section(run: Run) -> Section | None:
    """None before the first measure."""
    results = run.results
    if not results.metrics:
        return None
    has_distance = any(arm.last and arm.last.weights_distance is not None for arm in results.arms)
    distances = _DISTANCES if has_distance else {}
    best = {metric: _best(results, metric) for metric in results.metrics}
    rows = [
        [run.arm(arm.arm, run.titles.get(arm.arm, ("",))[0]), *_measures(arm.final, best)]
        + (_distances(arm, results) if has_distance else [])
        for arm in results.arms
    ]
    beside = [[Cell("questions (tokens for perplexity)"), *map(_num_questions, _measured(results))]]
    if results.unedited:
        measures = _measures(results.unedited, dict.fromkeys(results.metrics))
        beside.insert(0, [Cell("unedited model", style=UNEDITED_STYLE), *measures])
    rows += [[*row, *[NO_VALUE] * len(distances)] for row in beside]
    measured = max((row.round for arm in results.arms for row in arm.final.values()), default=0)
    intro = (
        f"After round {measured}; percent and more is better, unless said otherwise below. "
        "★ marks the best of the merge methods. "
        "Small: by the strict count, where every token of the answer must be the likeliest; and from … to, the 95 % "
        "interval of the number above, Wilson’s, by the number of edits. Few questions say little."
    )
    columns = ["method", *map(words.metric_name, results.metrics), *distances]
    known = {words.metric_name(name): words.metric_meaning(name) for name in results.metrics}
    meanings = {name: meaning for name, meaning in known.items() if meaning}
    return Section("Results", [intro, Table(columns, rows, num_faint=len(beside)), Meanings(meanings | distances)])


def _best(results: Results, metric: str) -> float | None:
    """Best value of a metric where several arms have it and they differ; else None."""
    rows = [arm.final[metric] for arm in results.arms if metric in arm.final]
    if len({words.measured(row.value, row.unit) for row in rows}) < 2:
        return None
    return (max if of_column(metric).higher_is_better else min)(row.value for row in rows)


def _measures(measures: Mapping[str, MetricRow], best: Mapping[str, float | None]) -> list[Cell]:
    """A cell for each metric of ``best``, which holds the best values to mark."""
    within = intervals(measures)
    return [_measure(measures.get(metric), value, within.get(metric)) for metric, value in best.items()]


def _measure(row: MetricRow | None, best: float | None, within: Interval | None) -> Cell:
    if row is None:
        return NO_VALUE
    value = words.measured(row.value, row.unit)
    notes = [] if row.strict is None else [f"{row.strict:.1f}"]
    notes += [] if within is None else [f"{within[0]:.0f}–{within[1]:.0f}"]
    return Cell(value, notes, is_best=best is not None and value == words.measured(best, row.unit))


def _distances(arm: ArmResult, results: Results) -> list[Cell]:
    if arm.method == "global":
        return [Cell("", ["reference"])] * 2
    if arm.last is None:
        return [NO_VALUE] * 2
    cells = []
    for name in ("weights_distance", "update_distance"):
        value = getattr(arm.last, name)
        others = [getattr(each.last, name) for each in results.arms if each.last and each.method != "global"]
        is_best = value is not None and len(others) > 1 and value == min(x for x in others if x is not None)
        cells.append(Cell(words.distance(value), is_best=is_best))
    return cells


def _measured(results: Results) -> list[list[MetricRow]]:
    """Metric by metric, the measures of the arms and of the unedited model."""
    finals = [*(arm.final for arm in results.arms), results.unedited]
    return [[final[metric] for final in finals if metric in final] for metric in results.metrics]


def _num_questions(rows: Sequence[MetricRow]) -> Cell:
    """What a column was measured on; more or fewer in some, from … to."""
    counts = [row.num_probes for row in rows]
    return Cell("–".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))) if counts else NO_VALUE
