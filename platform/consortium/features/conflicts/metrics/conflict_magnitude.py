"""Conflict magnitude of Li et al. 2024 (arXiv 2310.02129, section 3.1): how far the losing answer fell.

For an answer o₁ that lost against o₂ on the same prompt, with p the model's probability::

    CM = mean of (p_before(o₁) - p_after(o₁)) / p_before(o₁)

"Before" are the weights with which the round began; where an earlier round is contradicted, those hold o₁. What
differs: where p(o₁) has risen, the rise is taken relative to what it rose to, (p_before - p_after) / p_after, so that
CM is between -1 and 1, and no single answer that was next to impossible before outweighs all others; and p is the
geometric mean over the answer's tokens, as in all metrics.
"""

import math
from collections.abc import Iterator, Sequence

from consortium.evaluation.item import Item, Scored
from consortium.evaluation.metric import EvaluatedBatch, Metric
from consortium.evaluation.sums import ProbeSum
from consortium.features.conflicts.cases import case_in
from consortium.models.queries import Probe, Score


def items(batch: EvaluatedBatch) -> Iterator[Item]:
    """The losing answers of the round's own conflicts."""
    for each in batch.sampled() if batch.has_start else ():
        case = case_in(batch, each) if each.of_round == batch.round_number else None
        if case is not None:
            probe = Probe(case.chosen.text, case.losing, join=case.chosen.join)
            yield Item("conflict_magnitude", each.of_round, (probe,), Scored("losing"), each)


def reduce(item: Item, after: Sequence[Score], before: Sequence[Score]) -> dict[str, ProbeSum]:
    """How far a losing answer fell."""
    was, now = before[0].nll_target, after[0].nll_target
    if not math.isfinite(was) or not math.isfinite(now):
        return {item.column: ProbeSum(num_not_finite=1)}
    return {item.column: ProbeSum(fall(was, now), num_edits=1, num_probes=1)}


def fall(nll_before: float, nll_after: float) -> float:
    """(p_before - p_after) / max(p_before, p_after), from -1 to 1: the relative fall, or less the relative rise."""
    change = nll_before - nll_after  # log(p_after / p_before)
    return -math.expm1(change) if change <= 0 else math.expm1(-change)


METRIC = Metric(
    "conflict_magnitude",
    "How far the losing answer’s probability fell in a round: 100 to nothing, −100 from nothing.",
    items,
    reduce,
    order=60,
    lowest=-100.0,
    reference="start",
    adds_rounds=False,
)
