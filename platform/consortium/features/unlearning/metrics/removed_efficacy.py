"""What is left of edits that were removed: the share for which the new answer is still likelier than the old one.

Counted under the round in which they are removed: ``removed_efficacy`` from that round on, and
``removed_efficacy_before`` in the last evaluation before it, so that there is something to compare with.
"""

from collections.abc import Iterator

from consortium.evaluation.item import Item
from consortium.evaluation.metric import EvaluatedBatch, Metric
from consortium.evaluation.rewrite_scores import items_of, outcomes, own_probe, share_that_succeeds
from consortium.features.unlearning.requests import removed_requests


def items(batch: EvaluatedBatch) -> Iterator[Item]:
    """The own prompts of edits that the batch's parties remove."""
    found = removed_requests(batch.scenario, batch.stream, batch.round_number, batch.parties)
    for is_back, back_in, request in found:
        asked = batch.asked(request, back_in)
        yield from items_of("removed_efficacy" if is_back else "removed_efficacy_before", asked, own_probe(asked.edit))


METRIC = Metric(
    "removed_efficacy",
    "Share of edits that were removed of which the model still finds the new answer likelier than the old one.",
    items,
    share_that_succeeds,
    order=70,
    higher_is_better=False,
    columns={
        "removed_efficacy": "Share of edits that were removed which the model still gives.",
        "removed_efficacy_before": "The same in the last evaluation before they were removed.",
    },
    has_section=True,
    tell=outcomes,
)
