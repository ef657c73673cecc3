"""Rows of the table of metrics, from the sums that parties sent."""

from __future__ import annotations

from collections.abc import Iterable

from consortium.common.errors import NotFiniteError
from consortium.evaluation.measure import Sums, measure_of
from consortium.evaluation.metrics import HARMONIC, ProbeSums, harmonic_mean, over_rounds
from consortium.records.rows import MetricRow
from consortium.scenario.schema import Scenario


def metric_rows(scenario: Scenario, round_number: int, lane: str, sums: ProbeSums) -> list[MetricRow]:
    """Metrics from sums: of each round whose edits were probed, of several together, and their harmonic means.

    Raises:
        NotFiniteError: more answers are not finite than the scenario puts up with.
    """
    _check_finite(scenario, round_number, lane, sums)
    rows = [_metric_row(round_number, lane, *key, value) for key, value in sorted(sums.items())]
    if scenario.evaluate.edits == "all" and round_number > 1:
        rows += [_metric_row(round_number, lane, metric, 0, value) for metric, value in over_rounds(sums).items()]
    harmonic = [row for row in rows if row.metric in HARMONIC]
    means = (_harmonic_row(each, harmonic) for each in dict.fromkeys(row.of_round for row in harmonic))
    return [*rows, *(row for row in means if row is not None)]


def _check_finite(scenario: Scenario, round_number: int, lane: str, sums: ProbeSums) -> None:
    counts: dict[str, tuple[int, int]] = {}
    for (metric, _), value in sorted(sums.items()):
        found, (bad, total) = measure_of(value), counts.get(metric, (0, 0))
        counts[metric] = bad + found.num_not_finite, total + found.num_not_finite + found.num_probes
    most = scenario.evaluate.max_not_finite
    wrong = {metric: (bad, total) for metric, (bad, total) in counts.items() if bad > most * total}
    if wrong:
        said = ", ".join(
            f"{bad} of {total} {_UNITS.get(metric, 'answers')} ({metric})" for metric, (bad, total) in wrong.items()
        )
        raise not_finite(f"what the model says is not finite: {said} in lane {lane}, round {round_number}", most)


#: Metric → what it is counted in, where that is not answers.
_UNITS = {"perplexity": "tokens", "fluency": "texts", "fluency_greedy": "texts"}


def not_finite(found: str, most: float) -> NotFiniteError:
    """The error of a run of whose numbers too many are not finite; ``most`` is the share that the scenario allows."""
    return NotFiniteError(
        found,
        f"at most {100 * most:g} % of what a metric asks, of a round's edits, and of the prior's text "
        "(evaluate.max_not_finite)",
        "set model.dtype to bfloat16 or float32 where it is float16; look at the prompts, and at how far edits moved "
        "weights; or go on without what is not finite, which is counted: consortium resume DIR --set "
        "evaluate.max_not_finite=1",
    )


def _harmonic_row(of_round: int | None, rows: Iterable[MetricRow]) -> MetricRow | None:
    """The harmonic mean of the three metrics of some round's edits, as far as all three are there."""
    parts = [row for row in rows if row.of_round == of_round]
    success = harmonic_mean({row.metric: row.success for row in parts if row.success is not None})
    if success is None:
        return None
    strict = harmonic_mean({row.metric: row.strict for row in parts if row.strict is not None})
    num_edits, num_probes = min(row.num_edits for row in parts), sum(row.num_probes for row in parts)
    missing = sum(row.num_not_finite or 0 for row in parts)
    first = parts[0]
    return MetricRow(
        first.round, first.lane, "harmonic_mean", of_round, success, strict, num_edits, num_probes, None, missing
    )


def _metric_row(round_number: int, lane: str, metric: str, of_round: int, value: Sums) -> MetricRow:
    """A row of the table; round 0 stands for no round in particular."""
    found = measure_of(value)
    return MetricRow(
        round_number,
        lane,
        metric,
        of_round or None,
        found.value,
        found.strict,
        found.num_edits,
        found.num_probes,
        found.unit,
        found.num_not_finite,
    )
