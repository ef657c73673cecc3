"""Conflict score of Li et al. 2024 (arXiv 2310.02129, section 3.1).

For an answer o₁ that lost against o₂ on the same prompt, with p the model's probability::

    CS = share of cases with p(o₂) > p(o₁) after the edits
"""

from collections.abc import Iterator

from consortium.evaluation.item import Item
from consortium.evaluation.metric import EvaluatedBatch, Metric
from consortium.evaluation.rewrite_scores import items_of, outcomes, share_that_succeeds
from consortium.features.conflicts.cases import case_in
from consortium.models.queries import Probe


def items(batch: EvaluatedBatch) -> Iterator[Item]:
    """The chosen answer against the losing one."""
    for each in batch.sampled():
        case = case_in(batch, each)
        if case is not None:
            chosen = case.chosen
            yield from items_of(
                "conflict_score", each, [Probe(chosen.text, chosen.target_new, case.losing, chosen.join)]
            )


METRIC = Metric(
    "conflict_score",
    "Share of contradictions in which the answer resolved on, or else the later one, is the likelier.",
    items,
    share_that_succeeds,
    order=50,
    tell=outcomes,
)
