"""Efficacy: the edit's own prompt."""

from consortium.evaluation.rewrite_scores import own_probe, rewrite_score

METRIC = rewrite_score(
    "efficacy",
    "Share of edits that took: the model finds the new answer likelier than the old one.",
    own_probe,
    document_start=("efficacy", "all"),
    order=10,
)
