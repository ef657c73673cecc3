"""What a party answers with: sums over edits, which add, whoever's edits they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ProbeSum:
    """Sums of what was measured, for one column of the results.

    Attributes:
        value: Σ of the values that are measured: for most metrics Σ over edits of the share of an edit's probes that
            succeed, 0 to num_edits.
        strict: the same by strict accuracy; None if the metric has none.
        num_edits: edits that were asked about and have an answer.
        num_probes: probes, questions, texts or tokens whose answers are finite.
        num_not_finite: those whose answers are not finite; they count for nothing else.
    """

    value: float = 0.0
    strict: float | None = None
    num_edits: int = 0
    num_probes: int = 0
    num_not_finite: int = 0

    def __add__(self, other: ProbeSum) -> ProbeSum:
        return ProbeSum(
            self.value + other.value,
            _plus(self.strict, other.strict),
            self.num_edits + other.num_edits,
            self.num_probes + other.num_probes,
            self.num_not_finite + other.num_not_finite,
        )


def _plus(one: float | None, other: float | None) -> float | None:
    """Their sum; one that is not there adds nothing."""
    return one if other is None else other if one is None else one + other


#: (column of the results, round of the edits) → sums; round 0 stands for what is of no round's edits.
ProbeSums = dict[tuple[str, int], ProbeSum]


def add_sums(parts: Sequence[ProbeSums]) -> ProbeSums:
    """The sums of several party batches, added in the order given."""
    total: ProbeSums = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total[key] + value if key in total else value
    return total
