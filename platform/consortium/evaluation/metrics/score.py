"""The papers' score: the harmonic mean of efficacy, paraphrase and neighborhood."""

from collections.abc import Sequence

from consortium.evaluation.metric import Metric


def harmonic_mean(values: Sequence[float]) -> float:
    """Harmonic mean of percentages; 0 if one is."""
    return 0.0 if min(values) == 0 else len(values) / sum(1 / value for value in values)


METRIC = Metric(
    "score",
    "Harmonic mean of efficacy, paraphrase and neighborhood: high only when all three are.",
    order=0,
    parts=("efficacy", "paraphrase", "neighborhood"),
    combine=harmonic_mean,
    asked_by=lambda evaluate: False,
)
