"""What each probe was answered with, edit by edit: the one measure that takes answers out of their party.

Only with ``evaluate.per_edit``, which is off by default. Texts, perplexity, general questions and the fall of losing
answers are left out: they are no questions about one edit with an answer to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consortium.data.request import Request
from consortium.editing.backend import Backend
from consortium.evaluation.knowedit import SUFFIXES, Scored
from consortium.evaluation.metrics import ProbeSums, Question
from consortium.models.queries import Probe, Score, Writing
from consortium.scenario.schema import Decoding

#: Tokens of the short answer that the model writes by itself.
ANSWER_TOKENS = 8


@dataclass(frozen=True)
class Told:
    """One probe of one edit.

    Attributes:
        party, edit_round, index: the edit's place: who asked for it, in which round, as which of its requests there.
        metric: what the probe is for.
        probe: its number among the edit's probes for the metric, from 0.
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
    """A cohort's counts and sums, and what each of its probes was answered with."""

    sums: ProbeSums
    told: tuple[Told, ...]


def tell_scores(backend: Backend, asked: Sequence[tuple[Question, Sequence[Probe], Sequence[Score]]]) -> list[Told]:
    """What was asked and scored, question after question, with the short answers that the model writes."""
    # Texts are written as a user's tokenizer begins them, so there is none behind a document's start of ours.
    prompts = [probe.prompt for _, probes, _ in asked for probe in probes if not probe.with_start]
    texts = iter(backend.write(prompts, Writing(ANSWER_TOKENS)) if prompts else [])
    told = []
    for question, probes, scores in asked:
        assert question.request is not None, "whose edit is probed"
        for number, (probe, score) in enumerate(zip(probes, scores, strict=True)):
            outcome = (float(score.success), score.strict) if score.is_finite else (None, None)
            likelihoods = (score.nll_target, score.nll_rival) if score.is_finite else (None, None)
            found = *outcome, *likelihoods, None if probe.with_start else next(texts), score.is_finite
            told.append(Told(*_place(question.request), question.metric, number, probe.prompt, probe.target, *found))
    return told


def tell_knowedit(metric: str, decoding: Decoding, request: Request, scored: Sequence[Scored]) -> list[Told]:
    """One edit's questions of one of KnowEdit's metrics."""
    return [
        Told(
            *_place(request),
            metric + SUFFIXES[decoding],
            number,
            each.prompt,
            each.target,
            each.share if each.is_finite else None,
            each.is_whole if each.is_finite else None,
            None,
            None,
            each.answer if each.is_finite else None,
            each.is_finite,
        )
        for number, each in enumerate(scored)
    ]


def _place(request: Request) -> tuple[int, int, int]:
    return request.party, request.round, request.index
