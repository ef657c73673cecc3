"""From sums to measures: a number in its unit, and how much it was measured on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from consortium.evaluation.fluency import FluencySum
from consortium.evaluation.harm import ChoiceSum, TextSum
from consortium.evaluation.metrics import MagnitudeSum, ProbeSum

Sums = ProbeSum | MagnitudeSum | FluencySum | TextSum | ChoiceSum

#: Largest exponent of a perplexity: a useless model may need so many nats for a token that their exponential overflows.
_MOST_NATS = 700.0


@dataclass(frozen=True)
class Measure:
    """A row's numbers.

    Attributes:
        value: percent, or a number in ``unit``; None where no answer is finite.
        strict: the same by the strict count, in percent; None where there is none.
        num_edits: edits probed.
        num_probes: probes, questions or tokens whose answers count.
        unit: None for percent.
        num_not_finite: probes, questions or tokens besides, whose answers are not finite.
    """

    value: float | None
    strict: float | None
    num_edits: int
    num_probes: int
    unit: str | None = None
    num_not_finite: int = 0


def measure_of(sums: Sums) -> Measure:
    """What sums come to."""
    missing = sums.num_not_finite
    if isinstance(sums, TextSum):
        value = perplexity(sums) if sums.num_tokens else None
        return Measure(value, None, 0, sums.num_tokens, "1", missing)
    if isinstance(sums, ChoiceSum):
        return Measure(_percent(sums.num_right, sums.num_questions), None, 0, sums.num_questions, None, missing)
    count = sums.num_edits
    if isinstance(sums, MagnitudeSum):
        return Measure(_percent(sums.fall, count), None, count, count, None, missing)
    if isinstance(sums, FluencySum):
        return Measure(_percent(sums.bits, count), None, count, sums.num_probes, "0.01 bit", missing)
    success, strict = (_percent(part, count) for part in (sums.success, sums.strict))
    return Measure(success, strict, count, sums.num_probes, None, missing)


def _percent(part: float, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def perplexity(sums: TextSum) -> float:
    """exp of the mean negative log likelihood of a token, at most e⁷⁰⁰."""
    return math.exp(min(sums.nll / sums.num_tokens, _MOST_NATS))
