"""What is measured: metrics and decodings that do not fit each other, the model or the facts."""

from __future__ import annotations

from collections.abc import Iterator

from consortium.common.errors import shown
from consortium.data.edit import FactSet
from consortium.evaluation.knowedit import METRICS, brings
from consortium.loading.mistakes import Mistake
from consortium.loading.yaml_text import KeyPath
from consortium.scenario.schema import AssociativeModelSpec, EvaluateSpec, Scenario

_METRICS: KeyPath = ("evaluate", "metrics")
_DECODING: KeyPath = ("evaluate", "decoding")


def evaluation_mistakes(scenario: Scenario) -> Iterator[Mistake]:
    """Mistakes that the scenario alone shows."""
    metrics, decoding = scenario.evaluate.metrics, scenario.evaluate.decoding
    if len(set(decoding)) < len(decoding):
        yield Mistake(_DECODING, f"found {shown(decoding)}", "each decoding once")
    elif decoding != EvaluateSpec().decoding and not set(metrics) & set(METRICS):
        found = f"found {shown(decoding)}, and no metric that is decoded"
        yield Mistake(_DECODING, found, f"one of {', '.join(METRICS)} in evaluate.metrics", "or leave decoding out")
    if isinstance(scenario.model, AssociativeModelSpec):
        for metric in ("portability", "fluency"):
            if metric in metrics:
                yield Mistake(_METRICS, f"found {metric!r} with the associative model", "a language model for it")


def mistakes_of_probes(scenario: Scenario, facts: FactSet) -> Iterator[Mistake]:
    """Metrics for which no fact has a question: they would be missing from the results without a word."""
    for metric in METRICS:
        if metric in scenario.evaluate.metrics and not _any_brings(facts, metric):
            found = f"{metric}: no fact of {scenario.facts.source} has questions for it"
            yield Mistake(_METRICS, found, "facts that do (docs/data.md says which)", f"leave {metric} out")


def _any_brings(facts: FactSet, metric: str) -> bool:
    return any(brings(facts.edit(fact), metric) for fact in range(len(facts)))
