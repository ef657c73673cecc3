"""What is read and asked beside the edits, to see what editing does to the rest of the model.

Perplexity of a fixed text (:mod:`consortium.evaluation.metrics.perplexity`), and questions of choice
(:mod:`consortium.evaluation.metrics.downstream_accuracy`). The text's windows and the questions are dealt to party
batches in turn, so that the work is spread like that of every other phase; which are whose follows from the scenario.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from consortium.common import reading
from consortium.common.errors import FactsError
from consortium.common.reading import UnreadableError, prose_fault
from consortium.common.seeds import numpy_generator
from consortium.evaluation.choice_questions import ChoiceQuestion, load_questions
from consortium.scenario.schema import EvaluateSpec

BUILTIN = "builtin"

_MOST_BYTES = 1 << 28
_BUILTIN_TEXT = Path(__file__).parent / "texts" / "builtin.txt"


@dataclass(frozen=True)
class SideEffects:
    """What is read and asked beside the edits.

    Attributes:
        text: the text; None for no perplexity.
        num_tokens: tokens of it that are read at most; None for all.
        questions: the general probe; empty for none.
    """

    text: str | None = None
    num_tokens: int | None = None
    questions: tuple[ChoiceQuestion, ...] = ()


def open_side_effects(evaluate: EvaluateSpec, seed: int) -> SideEffects:
    """Read what a scenario asks for.

    Raises:
        FactsError: a file that cannot be read, or a set of questions that is not there or malformed.
    """
    return SideEffects(read_text_of(evaluate), evaluate.perplexity_tokens, tuple(read_questions_of(evaluate, seed)))


def read_text_of(evaluate: EvaluateSpec) -> str | None:
    """The text of ``evaluate.perplexity_text``; FactsError as in :func:`open_side_effects`."""
    return None if evaluate.perplexity_text is None else read_perplexity_text(evaluate.perplexity_text)


def read_questions_of(evaluate: EvaluateSpec, seed: int) -> list[ChoiceQuestion]:
    """The questions of ``evaluate.downstream``, as many as are asked; FactsError as in :func:`open_side_effects`."""
    if evaluate.downstream is None:
        return []
    return _sampled(load_questions(evaluate.downstream), evaluate.downstream_sample, seed)


def _sampled(questions: Sequence[ChoiceQuestion], size: int | None, seed: int) -> list[ChoiceQuestion]:
    """Some of the questions, in their order: the same for all arms and rounds of a run."""
    if size is None or size >= len(questions):
        return list(questions)
    drawn = numpy_generator(seed, "general").choice(len(questions), size=size, replace=False)
    return [questions[number] for number in sorted(drawn.tolist())]


def read_perplexity_text(name: str) -> str:
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
            "correct evaluate.perplexity_text",
        ) from None
    fault = prose_fault(text)
    if fault is not None:
        raise FactsError(
            f"the text {name} for the perplexity {fault}", "some hundred words", "correct evaluate.perplexity_text"
        )
    return text
