"""From sums to measures: a number in its unit, and how much it was measured on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from consortium.evaluation.fluency import FluencySum
from consortium.evaluation.harm import ChoiceSum, TextSum
from consortium.evaluation.metrics import MagnitudeSum, ProbeSum

Sums = ProbeSum | MagnitudeSum | FluencySum | TextSum | ChoiceSum

#: Largest exponent of a perplexity. A model whose numbers went bad has this one, and not infinity or NaN, which JSON
#: does not know.
_MOST_NATS = 700.0


@dataclass(frozen=True)
class Measure:
    """A row's numbers.

    Attributes:
        value: percent, or a number in ``unit``.
        strict: the same by the strict count, in percent; None where there is none.
        num_edits: edits probed.
        num_probes: probes, questions or tokens.
        unit: None for percent.
    """

    value: float
    strict: float | None
    num_edits: int
    num_probes: int
    unit: str | None = None


def measure_of(sums: Sums) -> Measure:
    """What sums come to."""
    if isinstance(sums, TextSum):
        return Measure(perplexity(sums), None, 0, sums.num_tokens, unit="1")
    if isinstance(sums, ChoiceSum):
        return Measure(100 * sums.num_right / sums.num_questions, None, 0, sums.num_questions)
    if isinstance(sums, MagnitudeSum):
        return Measure(100 * sums.fall / sums.num_edits, None, sums.num_edits, sums.num_edits)
    if isinstance(sums, FluencySum):
        return Measure(100 * sums.bits / sums.num_edits, None, sums.num_edits, sums.num_probes, unit="0.01 bit")
    success, strict = (100 * part / sums.num_edits for part in (sums.success, sums.strict))
    return Measure(success, strict, sums.num_edits, sums.num_probes)


def perplexity(sums: TextSum) -> float:
    """exp of the mean negative log likelihood of a token, at most e⁷⁰⁰; so, too, for a mean that is not a number."""
    mean = sums.nll / sums.num_tokens
    return math.exp(mean if mean < _MOST_NATS else _MOST_NATS)
