"""Perplexity of a fixed text: exp(Σ nll / tokens)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from consortium.evaluation.item import Item, ReadInParts
from consortium.evaluation.metric import EvaluatedBatch, Metric
from consortium.evaluation.schedule import measures_the_model
from consortium.evaluation.side_effects import read_text_of
from consortium.evaluation.sums import ProbeSum
from consortium.scenario.schema import EvaluateSpec

#: Largest exponent: a useless model may need so many nats for a token that their exponential overflows.
_MOST_NATS = 700.0


def items(text: str, batch: EvaluatedBatch) -> Iterator[Item]:
    """The batch's part of the text."""
    scenario = batch.scenario
    if measures_the_model(scenario, batch.round_number, batch.is_edited):
        way = ReadInParts(scenario.evaluate.perplexity_tokens, batch.number, scenario.num_party_batches)
        yield Item("perplexity", 0, (text,), way)


def reduce(item: Item, answers: Sequence[tuple[float, int, int]], _: Sequence[object]) -> dict[str, ProbeSum]:
    """What the part's tokens cost."""
    ((nll, num_tokens, num_not_finite),) = answers
    return {item.column: ProbeSum(nll, None, 0, num_tokens, num_not_finite)}


def perplexity(total: ProbeSum) -> float | None:
    """exp of the mean negative log likelihood of a token, at most e⁷⁰⁰."""
    return math.exp(min(total.value / total.num_probes, _MOST_NATS)) if total.num_probes else None


def opened(evaluate: EvaluateSpec, seed: int) -> Metric:
    """The metric with its text."""
    text = read_text_of(evaluate)
    assert text is not None, "asked for by evaluate.perplexity_text"
    return replace(METRIC, items=partial(items, text))


METRIC = Metric(
    "perplexity",
    "Between how many tokens the model wavers in a fixed text; less is better.",
    reduce=reduce,
    order=200,
    unit="1",
    higher_is_better=False,
    counted_in="token",
    value=perplexity,
    is_of_edits=False,
    asked_by=lambda evaluate: evaluate.perplexity_text is not None,
    open=opened,
)
