"""Rows of the table of metrics, from the sums that parties sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from consortium.common.counting import count
from consortium.common.errors import NotFiniteError
from consortium.evaluation import registry
from consortium.evaluation.metric import Metric
from consortium.evaluation.sums import ProbeSum, ProbeSums
from consortium.records.rows import MetricRow
from consortium.scenario.schema import Scenario


def metric_rows(scenario: Scenario, round_number: int, arm: str, sums: ProbeSums) -> list[MetricRow]:
    """Metrics from sums: of each round whose edits were probed, of several together, and what is made of both.

    Raises:
        NotFiniteError: more answers are not finite than the scenario puts up with.
    """
    _check_finite(scenario, round_number, arm, sums)
    rows = [_metric_row(round_number, arm, *key, value) for key, value in sorted(sums.items())]
    if scenario.evaluate.edits == "all" and round_number > 1:
        rows += [_metric_row(round_number, arm, column, 0, value) for column, value in over_rounds(sums).items()]
    return [*rows, *(row for metric in registry.combined() for row in _combined_rows(metric, rows))]


def over_rounds(sums: ProbeSums) -> dict[str, ProbeSum]:
    """Column → sums over the edits of all rounds that were probed; of metrics that are of several rounds' edits."""
    total: dict[str, ProbeSum] = {}
    for (column, _), value in sorted(sums.items()):
        metric = registry.of_column(column)
        if metric.is_of_edits and metric.adds_rounds:
            total[column] = total[column] + value if column in total else value
    return total


def _check_finite(scenario: Scenario, round_number: int, arm: str, sums: ProbeSums) -> None:
    counts: dict[str, tuple[int, int]] = {}
    for (column, _), value in sorted(sums.items()):
        bad, total = counts.get(column, (0, 0))
        counts[column] = bad + value.num_not_finite, total + value.num_not_finite + value.num_probes
    most = scenario.evaluate.max_not_finite
    wrong = {column: (bad, total) for column, (bad, total) in counts.items() if bad > most * total}
    if wrong:
        said = ", ".join(
            f"{bad} of {count(total, registry.of_column(column).counted_in)} ({column})"
            for column, (bad, total) in wrong.items()
        )
        raise not_finite(f"what the model says is not finite: {said} in arm {arm}, round {round_number}", most)


def not_finite(found: str, most: float) -> NotFiniteError:
    """The error of a run of whose numbers too many are not finite; ``most`` is the share that the scenario allows."""
    return NotFiniteError(
        found,
        f"at most {100 * most:g} % of what a metric asks, of a round's edits, and of the key covariance's text "
        "(evaluate.max_not_finite)",
        "set model.dtype to bfloat16 or float32 where it is float16; look at the prompts, and at how far edits moved "
        "weights; or go on without what is not finite, which is counted: consortium resume DIR --set "
        "evaluate.max_not_finite=1",
    )


def _combined_rows(metric: Metric, rows: Sequence[MetricRow]) -> Iterator[MetricRow]:
    """A metric that is made of others, for each round's edits of which all its parts are there."""
    by_round: dict[int | None, dict[str, MetricRow]] = {}
    for row in rows:
        if row.metric in metric.parts:
            by_round.setdefault(row.of_round, {})[row.metric] = row
    for of_round, found in by_round.items():
        if len(found) == len(metric.parts):
            parts = [found[name] for name in metric.parts]
            values, strict = [row.success for row in parts], [row.strict for row in parts]
            if None not in values:
                yield MetricRow(
                    parts[0].round,
                    parts[0].arm,
                    metric.name,
                    of_round,
                    _combined(metric, values),
                    _combined(metric, strict),
                    min(row.num_edits for row in parts),
                    sum(row.num_probes for row in parts),
                    metric.unit,
                    sum(row.num_not_finite or 0 for row in parts),
                )


def _combined(metric: Metric, values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return metric.combine(known) if len(known) == len(values) else None


def _metric_row(round_number: int, arm: str, column: str, of_round: int, total: ProbeSum) -> MetricRow:
    """A row of the table; round 0 stands for no round in particular."""
    metric = registry.of_column(column)
    return MetricRow(
        round_number,
        arm,
        column,
        of_round or None,
        metric.value(total),
        metric.strict(total),
        total.num_edits,
        total.num_probes,
        metric.unit,
        total.num_not_finite,
    )
