"""What editing does to the rest of the model: perplexity of a fixed text, and a general probe.

    perplexity = exp(Σ nll / tokens)          general = right answers / questions

The text's windows and the questions are dealt to cohorts in turn, so that the work is spread like that of every other
phase; which are whose follows from the scenario. A cohort answers with sums and counts, which add.

Of a question's choices that one is given as the answer which is likeliest after its prompt, by log likelihood or by
log likelihood per character, as the set has it (:mod:`consortium.evaluation.general`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from consortium.common import reading
from consortium.common.errors import FactsError
from consortium.common.reading import UnreadableError, prose_fault
from consortium.common.seeds import numpy_generator
from consortium.editing.backend import Backend
from consortium.evaluation.general import ChoiceQuestion, load_questions
from consortium.scenario.schema import EvaluateSpec

BUILTIN = "builtin"
PERPLEXITY, GENERAL = "perplexity", "general"
#: Round of what is of no round's edits in particular.
NO_ROUND = 0

_MOST_BYTES = 1 << 28
_BUILTIN_TEXT = Path(__file__).parent / "texts" / "builtin.txt"


@dataclass(frozen=True)
class TextSum:
    """What tokens of a text cost.

    Attributes:
        nll: Σ of negative log likelihoods, in nats.
        num_tokens: tokens summed.
        num_not_finite: tokens of windows whose likelihoods are not finite, which are left out.
    """

    nll: float
    num_tokens: int
    num_not_finite: int = 0

    def __add__(self, other: TextSum) -> TextSum:
        return TextSum(
            self.nll + other.nll, self.num_tokens + other.num_tokens, self.num_not_finite + other.num_not_finite
        )


@dataclass(frozen=True)
class ChoiceSum:
    """Answers to questions of choice.

    Attributes:
        num_right: questions answered rightly.
        num_questions: questions asked, but for those with a choice whose likelihood is not finite.
        num_not_finite: these.
    """

    num_right: int
    num_questions: int
    num_not_finite: int = 0

    def __add__(self, other: ChoiceSum) -> ChoiceSum:
        return ChoiceSum(
            self.num_right + other.num_right,
            self.num_questions + other.num_questions,
            self.num_not_finite + other.num_not_finite,
        )


HarmSums = dict[tuple[str, int], TextSum | ChoiceSum]


@dataclass(frozen=True)
class Harm:
    """What is read and asked beside the edits.

    Attributes:
        text: the text; None for no perplexity.
        num_tokens: tokens of it that are read at most; None for all.
        questions: the general probe; empty for none.
    """

    text: str | None = None
    num_tokens: int | None = None
    questions: tuple[ChoiceQuestion, ...] = ()

    def measure(self, backend: Backend, part: int, num_parts: int) -> HarmSums:
        """One of ``num_parts`` parts of it, under the backend's present weights; nothing where nothing is asked."""
        sums: HarmSums = {}
        if self.text is not None:
            sums[PERPLEXITY, NO_ROUND] = TextSum(*backend.text_nll(self.text, self.num_tokens, part, num_parts))
        mine = self.questions[part::num_parts]
        if mine:
            found = [right for right in _answers_rightly(backend, mine) if right is not None]
            sums[GENERAL, NO_ROUND] = ChoiceSum(sum(found), len(found), len(mine) - len(found))
        return sums


def _answers_rightly(backend: Backend, questions: Sequence[ChoiceQuestion]) -> list[bool | None]:
    """For each question, whether its right choice is the likeliest; of equal ones the first is the answer.

    None where the likelihood of a choice is not finite: nothing is the likeliest then.
    """
    costs = iter(backend.continuation_nll([choice for question in questions for choice in question.choices]))
    right: list[bool | None] = []
    for question in questions:
        scores = [next(costs) / question.length(number) for number in range(len(question.choices))]
        is_sound = all(map(math.isfinite, scores))
        right.append(scores.index(min(scores)) == question.answer if is_sound else None)
    return right


def open_harm(evaluate: EvaluateSpec, seed: int) -> Harm:
    """Read what a scenario asks for.

    Raises:
        FactsError: a file that cannot be read, or a set of questions that is not there or malformed.
    """
    text = None if evaluate.text is None else read_text(evaluate.text)
    questions: Sequence[ChoiceQuestion] = []
    if evaluate.general is not None:
        questions = _sampled(load_questions(evaluate.general), evaluate.general_sample, seed)
    return Harm(text, evaluate.text_tokens, tuple(questions))


def _sampled(questions: Sequence[ChoiceQuestion], size: int | None, seed: int) -> list[ChoiceQuestion]:
    """Some of the questions, in their order: the same for all lanes and rounds of a run."""
    if size is None or size >= len(questions):
        return list(questions)
    drawn = numpy_generator(seed, "general").choice(len(questions), size=size, replace=False)
    return [questions[number] for number in sorted(drawn.tolist())]


def read_text(name: str) -> str:
    """The built-in text, or that of a file.

    Raises:
        FactsError: it is no readable file of text in UTF-8, or there is nothing in it.
    """
    path = _BUILTIN_TEXT if name == BUILTIN else Path(name)
    try:
        text = reading.read_text(path, _MOST_BYTES)
    except UnreadableError as error:
        raise FactsError(
            f"the text {name} for the perplexity cannot be read: {error}",
            "`builtin`, or a file of text in UTF-8",
            "correct evaluate.text",
        ) from None
    fault = prose_fault(text)
    if fault is not None:
        raise FactsError(f"the text {name} for the perplexity {fault}", "some hundred words", "correct evaluate.text")
    return text
