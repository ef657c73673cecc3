"""The general probe: right answers / questions of a general test set.

Of a question's choices that one is given as the answer which is likeliest after its prompt, by log likelihood or by
log likelihood per character, as the set has it (:mod:`consortium.evaluation.choice_questions`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from consortium.evaluation.choice_questions import ChoiceQuestion
from consortium.evaluation.item import Continued, Item
from consortium.evaluation.metric import EvaluatedBatch, Metric, percent_of_probes
from consortium.evaluation.schedule import measures_the_model
from consortium.evaluation.side_effects import read_questions_of
from consortium.evaluation.sums import ProbeSum
from consortium.scenario.schema import EvaluateSpec


def items(questions: Sequence[ChoiceQuestion], batch: EvaluatedBatch) -> Iterator[Item]:
    """The batch's part of the questions, each with its choices."""
    if measures_the_model(batch.scenario, batch.round_number, batch.is_edited):
        for question in questions[batch.number :: batch.scenario.num_party_batches]:
            yield Item("downstream_accuracy", 0, question.choices, Continued(), question)


def reduce(item: Item, costs: Sequence[float], _: Sequence[float]) -> dict[str, ProbeSum]:
    """Whether a question's right choice is the likeliest; of equal ones the first is the answer.

    No answer where the likelihood of a choice is not finite: nothing is the likeliest then.
    """
    question = item.about
    assert isinstance(question, ChoiceQuestion)
    scores = [cost / question.length(number) for number, cost in enumerate(costs)]
    if not all(map(math.isfinite, scores)):
        return {item.column: ProbeSum(num_not_finite=1)}
    return {item.column: ProbeSum(float(scores.index(min(scores)) == question.answer), num_probes=1)}


def opened(evaluate: EvaluateSpec, seed: int) -> Metric:
    """The metric with its questions."""
    return replace(METRIC, items=partial(items, read_questions_of(evaluate, seed)))


METRIC = Metric(
    "downstream_accuracy",
    "Share of questions of a general test set that are answered rightly: the harm that edits do.",
    reduce=reduce,
    order=210,
    value=percent_of_probes,
    is_of_edits=False,
    asked_by=lambda evaluate: evaluate.downstream is not None,
    open=opened,
)
