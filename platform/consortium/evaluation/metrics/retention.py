"""Retention: the efficacy of earlier rounds' edits that nobody contradicted or took back since."""

from collections.abc import Sequence

from consortium.evaluation.item import AskedEdit
from consortium.evaluation.metric import EvaluatedBatch
from consortium.evaluation.rewrite_scores import own_probe, rewrite_score


def earlier(batch: EvaluatedBatch) -> Sequence[AskedEdit]:
    """Earlier rounds' edits; the unedited model has none to retain."""
    return batch.earlier() if batch.is_edited else ()


METRIC = rewrite_score(
    "retention",
    "Share of edits of earlier rounds that still hold: what later rounds did not overwrite.",
    own_probe,
    earlier,
    document_start=("all",),
    order=40,
    adds_rounds=False,
)
