"""What each probe was answered with, edit by edit: the one measure that takes answers out of their party.

Only with ``evaluate.per_edit``, which is off by default. Metrics that ask no questions about one edit with an answer to
them have no rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consortium.evaluation.asking import AnsweredItem
from consortium.evaluation.item import Item
from consortium.evaluation.metric import Outcome
from consortium.evaluation.sums import ProbeSums
from consortium.models.queries import Generation

if TYPE_CHECKING:
    from consortium.editing.backend import Backend

#: Tokens of the short answer that the model writes by itself.
ANSWER_TOKENS = 8


@dataclass(frozen=True)
class ProbeAnswer:
    """One probe of one edit.

    Attributes:
        party, edit_round, index: the edit's place: who asked for it, in which round, as which of its requests there.
        metric: column of the results that the probe is for.
        probe: its number among the edit's probes for the column, from 0.
        prompt: what the model was given.
        target: the answer that counts as right.
        success: 1 or 0, or the share of right tokens; None where the answer is not finite.
        strict: whether every token is right; None likewise.
        nll_target, nll_rival: mean negative log likelihood per token; None where it is not finite or not measured.
        answer: what the model says by itself; None where it cannot.
        is_finite: whether the answer counts.
    """

    party: int
    edit_round: int
    index: int
    metric: str
    probe: int
    prompt: str
    target: str
    success: float | None
    strict: bool | None
    nll_target: float | None
    nll_rival: float | None
    answer: str | None
    is_finite: bool


@dataclass(frozen=True)
class Evaluated:
    """A party batch's counts and sums, and what each of its probes was answered with."""

    sums: ProbeSums
    told: tuple[ProbeAnswer, ...]


def tell(backend: Backend, answered: Sequence[AnsweredItem]) -> list[ProbeAnswer]:
    """Items' questions and what they were answered with, edit after edit.

    Beside an answer that says nothing by itself, as a score does, stands what the model writes after the prompt.
    """
    telling = [(each, each.metric.tell) for each in answered]
    found = [(each.item, tell(each.item, each.answers, each.reference)) for each, tell in telling if tell is not None]
    prompts = [outcome.prompt for _, outcomes in found for outcome in outcomes if outcome.needs_text]
    texts = iter(backend.write(prompts, Generation(ANSWER_TOKENS)) if prompts else [])
    return [
        _told(item, number, outcome, next(texts) if outcome.needs_text else outcome.answer)
        for item, outcomes in found
        for number, outcome in enumerate(outcomes)
    ]


def _told(item: Item, number: int, outcome: Outcome, answer: str | None) -> ProbeAnswer:
    request = item.asked.request
    assert request is not None, "whose edit is probed"
    return ProbeAnswer(
        request.party,
        request.round,
        request.index,
        item.column,
        number,
        outcome.prompt,
        outcome.target,
        outcome.success,
        outcome.strict,
        outcome.nll_target,
        outcome.nll_rival,
        answer,
        outcome.is_finite,
    )
