"""From items to answers to sums: all items of all metrics are put to the model in as few calls as there are ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from consortium.evaluation.item import Item, Way
from consortium.evaluation.metric import Metric
from consortium.evaluation.sums import ProbeSums

if TYPE_CHECKING:
    from consortium.editing.backend import Backend


@dataclass(frozen=True)
class AnsweredItem:
    """An item, its metric, and the answers of the model and of the metric's reference model, if it has one."""

    metric: Metric
    item: Item
    answers: Sequence[Any]
    reference: Sequence[Any] = ()


#: (way, questions) → an answer to each.
Put = Callable[[Way, Sequence[Any]], Sequence[Any]]


def answers_to(items: Sequence[Item], put: Put) -> list[Sequence[Any]]:
    """For each item the answers to its questions; ``put`` is called once for all items of a way."""
    ways: dict[Way, list[int]] = {}
    for number, item in enumerate(items):
        ways.setdefault(item.way, []).append(number)
    found: list[Sequence[Any]] = [()] * len(items)
    for way, numbers in ways.items():
        answers = iter(put(way, tuple(text for number in numbers for text in items[number].texts)))
        for number in numbers:
            found[number] = [next(answers) for _ in items[number].texts]
    return found


def ask(backend: Backend, asked: Sequence[tuple[Metric, Item]]) -> list[AnsweredItem]:
    """Put items of metrics without a reference to a model; the model is not changed."""
    answers = answers_to([item for _, item in asked], lambda way, texts: way.put(backend, texts))
    return [AnsweredItem(*each, found) for each, found in zip(asked, answers, strict=True)]


def reduced(answered: Sequence[AnsweredItem]) -> ProbeSums:
    """The sums that answers come to, added in the order of the items."""
    sums: ProbeSums = {}
    for each in answered:
        for column, value in each.metric.reduce(each.item, each.answers, each.reference).items():
            key = (column, each.item.of_round)
            sums[key] = sums[key] + value if key in sums else value
    return sums
