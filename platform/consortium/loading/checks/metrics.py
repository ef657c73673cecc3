"""What is measured: metrics and decodings that do not fit each other, the model or the facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from consortium.common.errors import closest, shown
from consortium.data.edit import FactSet
from consortium.evaluation import registry
from consortium.evaluation.metric import Metric
from consortium.loading.field_errors import FieldError
from consortium.loading.yaml_text import KeyPath
from consortium.scenario.schema import AssociativeModelSpec, EvaluateSpec, Scenario

_METRICS: KeyPath = ("evaluate", "metrics")
_DECODING: KeyPath = ("evaluate", "decoding")


def unknown_metrics(data: Mapping[str, Any]) -> Iterator[FieldError]:
    """Names in a scenario's plain data that no metric has; what is no list of texts is refused by its type."""
    evaluate = data.get("evaluate")
    names = evaluate.get("metrics") if isinstance(evaluate, Mapping) else None
    for place, name in enumerate(names if isinstance(names, list) else ()):
        if isinstance(name, str) and not registry.is_known(name):
            known = registry.by_name()
            yield FieldError(
                (*_METRICS, place), f"found {shown(name)}", f"one of {', '.join(known)}", closest(name, known)
            )


def evaluation_errors(scenario: Scenario) -> Iterator[FieldError]:
    """Mistakes that the scenario alone shows."""
    asked, decoding = registry.asked(scenario.evaluate), scenario.evaluate.decoding
    names = scenario.evaluate.metrics
    if len(set(names)) < len(names):
        yield FieldError(_METRICS, f"found {shown(names)}", "each metric once")
    if len(set(decoding)) < len(decoding):
        yield FieldError(_DECODING, f"found {shown(decoding)}", "each decoding once")
    elif decoding != EvaluateSpec().decoding and not any(metric.is_decoded for metric in asked):
        decoded = ", ".join(metric.name for metric in registry.all_metrics() if metric.is_decoded)
        found = f"found {shown(decoding)}, and no metric that is decoded"
        yield FieldError(_DECODING, found, f"one of {decoded} in evaluate.metrics", "or leave decoding out")
    if isinstance(scenario.model, AssociativeModelSpec):
        for metric in asked:
            if metric.needs_language:
                found = f"found {metric.name!r} with the associative model"
                yield FieldError(_METRICS, found, "a language model for it")


def errors_of_probes(scenario: Scenario, facts: FactSet) -> Iterator[FieldError]:
    """Metrics for which no fact has a question: they would be missing from the results without a word."""
    for metric in registry.asked(scenario.evaluate):
        if metric.is_rare and not _any_brings(facts, metric):
            found = f"{metric.name}: no fact of {scenario.facts.source} has questions for it"
            yield FieldError(_METRICS, found, "facts that do (docs/data.md says which)", f"leave {metric.name} out")


def _any_brings(facts: FactSet, metric: Metric) -> bool:
    edits = (facts.edit(fact) for fact in range(len(facts)))
    return any(getattr(edit, field) for edit in edits for field in metric.reads(edit))
