"""How far a percentage may be from that of all questions of its kind: 95 % intervals.

Wilson's score interval (Wilson 1927, J. Am. Stat. Assoc. 22:209), which holds for few questions and at 0 and 100 % as
well (Brown, Cai & DasGupta 2001, Statistical Science 16:101):

    (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n)

n is the number of edits, since an edit's questions are not independent of each other, or of questions where there are
no edits. Shares of an edit's questions vary less than answers of yes or no, so the interval is on the wide side. The
harmonic mean rises with each of its three parts, and lies between those of their lower and of their upper ends; each
of these has a third of the 5 %, so that all three hold together in 95 % (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

from consortium.evaluation.metrics import HARMONIC, harmonic_mean
from consortium.records.rows import MetricRow

Interval = tuple[float, float]

_MISSED = 0.05
#: Metrics in percent from −100 to 100, as averages of such numbers.
_SIGNED = {"conflict_magnitude"}


def wilson(share: float, count: int, missed: float = _MISSED) -> Interval:
    """The interval for a share found on ``count`` questions; it misses the truth in ``missed`` of all cases."""
    z = NormalDist().inv_cdf(1 - missed / 2)
    middle, scale = share + z**2 / (2 * count), 1 + z**2 / count
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def intervals(measures: Mapping[str, MetricRow]) -> dict[str, Interval]:
    """Metric → its interval in percent, of one lane's measures; those with a unit of their own have none."""
    found = {metric: interval for metric, row in measures.items() if (interval := _of_row(row, _MISSED)) is not None}
    score = measures.get("harmonic_mean")
    parts = [measures[each] for each in HARMONIC if each in measures]
    ends = [_of_row(each, _MISSED / len(HARMONIC)) for each in parts]
    if score is not None and len(ends) == len(HARMONIC) and {each.round for each in parts} == {score.round}:
        low, high = (harmonic_mean({name: end[side] for name, end in _named(ends).items()}) for side in (0, 1))
        if low is not None and high is not None:
            found["harmonic_mean"] = low, high
    return found


def _named(ends: list[Interval | None]) -> dict[str, Interval]:
    return {name: end for name, end in zip(HARMONIC, ends, strict=True) if end is not None}


def _of_row(row: MetricRow, missed: float) -> Interval | None:
    count = row.num_edits or row.num_probes
    if row.unit is not None or row.success is None or not count or row.metric == "harmonic_mean":
        return None
    lowest, span = (-100.0, 200.0) if row.metric in _SIGNED else (0.0, 100.0)
    share = min(1.0, max(0.0, (row.success - lowest) / span))
    low, high = wilson(share, count, missed)
    return lowest + span * low, lowest + span * high


def half_width(value: float, interval: Interval) -> float:
    """From a value to the farther end of its interval."""
    return max(value - interval[0], interval[1] - value)
