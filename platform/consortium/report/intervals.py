"""How far a percentage may be from that of all questions of its kind: 95 % intervals.

Wilson's score interval (Wilson 1927, J. Am. Stat. Assoc. 22:209), which holds for few questions and at 0 and 100 % as
well (Brown, Cai & DasGupta 2001, Statistical Science 16:101):

    (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n)

n is the number of edits, since an edit's questions are not independent of each other, or of questions where there are
no edits. Shares of an edit's questions vary less than answers of yes or no, so the interval is on the wide side. A
metric that is made of others, as the harmonic mean, rises with each of its parts, and lies between those of their
lower and of their upper ends; each of n parts has an nth of the 5 %, so that all hold together in 95 % (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

from consortium.evaluation import registry
from consortium.records.rows import MetricRow

Interval = tuple[float, float]

_MISSED = 0.05


def wilson(share: float, count: int, missed: float = _MISSED) -> Interval:
    """The interval for a share found on ``count`` questions; it misses the truth in ``missed`` of all cases."""
    z = NormalDist().inv_cdf(1 - missed / 2)
    middle, scale = share + z**2 / (2 * count), 1 + z**2 / count
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def intervals(measures: Mapping[str, MetricRow]) -> dict[str, Interval]:
    """Metric → its interval in percent, of one arm's measures; those with a unit of their own have none."""
    found = {metric: interval for metric, row in measures.items() if (interval := _of_row(row, _MISSED)) is not None}
    for metric in registry.combined():
        parts = [measures[each] for each in metric.parts if each in measures]
        ends = [end for each in parts if (end := _of_row(each, _MISSED / len(metric.parts))) is not None]
        row = measures.get(metric.name)
        if row is not None and len(ends) == len(metric.parts) and {each.round for each in parts} == {row.round}:
            low, high = (metric.combine([end[side] for end in ends]) for side in (0, 1))
            found[metric.name] = low, high
    return found


def _of_row(row: MetricRow, missed: float) -> Interval | None:
    count, metric = row.num_edits or row.num_probes, registry.of_column(row.metric)
    if row.unit is not None or row.success is None or not count or metric.parts:
        return None
    span = 100.0 - metric.lowest
    share = min(1.0, max(0.0, (row.success - metric.lowest) / span))
    low, high = wilson(share, count, missed)
    return metric.lowest + span * low, metric.lowest + span * high


def half_width(value: float, interval: Interval) -> float:
    """From a value to the farther end of its interval."""
    return max(value - interval[0], interval[1] - value)
