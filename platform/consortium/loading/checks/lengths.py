"""Texts that a model cannot read: all of them are found before anything is trained or measured.

Tokens are counted as the run will count them. Most texts are so short that their bytes say enough, and no tokenizer is
opened for them. Refused is what is longer than the model reads, and what takes more memory than this machine has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from consortium.common.counting import count
from consortium.common.errors import FactsError
from consortium.data.edit import Edit, FactSet
from consortium.data.formats.record import shorten
from consortium.data.table import FactTable
from consortium.evaluation.side_effects import SideEffects
from consortium.loading.estimate import machine_bytes
from consortium.loading.texts_read import ReadText, has_contexts, longest_rivals, texts_read
from consortium.models.context import Reading
from consortium.models.tokens import document_start, encode, subject_last_token, target_ids
from consortium.scenario.schema import LanguageModelSpec, Scenario

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: No tokenizer makes more tokens of a byte, whatever it does to the text before.
_TOKENS_PER_BYTE = 3
#: Tokens that a tokenizer puts around texts and that contexts have besides those asked for, at most.
_AROUND = 32
#: Texts of no more tokens take no memory to speak of.
_SHORT = 512
#: Characters that are tokenised at once, whatever comes of it: a message then has their tokens.
_QUICK = 100_000
#: Refusals that a message shows.
_SHOWN = 20


def check_lengths(
    scenario: Scenario,
    facts: FactSet,
    side_effects: SideEffects,
    reading: Reading,
    tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    """Refuse what a scenario's language model cannot read.

    Args:
        scenario: the scenario as resolved.
        facts: its facts, all of which are checked.
        side_effects: what is measured beside the edits.
        reading: what the model reads.
        tokenizer: opens the model's tokenizer; called where some text's length is not plain from its bytes.

    Raises:
        FactsError: every text that is too long, with its record, field and tokens.
    """
    assert isinstance(facts, FactTable), "a language model is edited with facts of a source"
    counter, rivals = _Counter(scenario, reading, tokenizer), longest_rivals(scenario, facts)
    found: list[str] = []
    for number in range(len(facts)):
        edit = facts.edit(number)
        reasons = counter.rejections(texts_read(scenario, edit, rivals(number))) or counter.too_costly(edit)
        found += [f"{scenario.facts.source}, {facts.name_of(number)}: {reason}" for reason in reasons]
    for question in side_effects.questions:
        texts = [ReadText(f"question {shorten(text)}", text, choice) for text, choice in question.choices]
        found += [f"{scenario.evaluate.downstream}: {reason}" for reason in counter.rejections(texts)]
    if found:
        more = f"\n… and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise FactsError(
            "\n".join(found[:_SHOWN]) + more,
            f"at most {count(reading.max_tokens, 'token')} of context, prompt and answer together: {reading.reason}",
            f"shorten the texts or leave them out, or name a model that reads more than {scenario.model.name}",
        )


class _Counter:
    """Counts tokens of texts, and says what is too long."""

    def __init__(self, scenario: Scenario, reading: Reading, tokenizer: Callable[[], PreTrainedTokenizerBase]) -> None:
        self._scenario = scenario
        self._reading = reading
        self._open = tokenizer

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        return self._open()

    @cached_property
    def _max_characters(self) -> int:
        """Longer texts cannot be few enough tokens: they are not tokenised. Shorter ones take a moment."""
        return max(_QUICK, self._reading.max_tokens * max(map(len, self._tokenizer.get_vocab())))

    @cached_property
    def _context_tokens(self) -> int:
        from consortium.editing.contexts import max_context_tokens

        return max_context_tokens(self._tokenizer, self._scenario.editor.contexts.tokens)

    @cached_property
    def _num_start(self) -> int:
        """Tokens of a document's start, with which prompts are read too."""
        return len(document_start(self._tokenizer))

    def rejections(self, texts: Iterable[ReadText]) -> list[str]:
        """Why texts are refused, one reason for each field."""
        reasons: dict[str, str] = {}
        for text in texts:
            if text.field not in reasons and (reason := self._refusal(text)):
                reasons[text.field] = reason
        return list(reasons.values())

    def _is_surely_within(self, text: ReadText, num_tokens: int) -> bool:
        """Whether a text's bytes say that it is no longer."""
        num_bytes = len((text.prompt + (text.answer or "")).encode("utf-8", "surrogatepass"))
        more = text.num_written + (self._scenario.editor.contexts.tokens if text.in_context else 0)
        return _TOKENS_PER_BYTE * num_bytes + _AROUND + more <= num_tokens

    def _refusal(self, text: ReadText) -> str:
        """Why a text is refused; empty where it is not."""
        limit = self._reading.max_tokens
        if self._is_surely_within(text, min(limit, _SHORT)):
            return ""
        reads = f"the model reads {limit}"
        for field, part in ((text.field, text.prompt), (f"{text.field} with {text.answer_field}", text.answer or "")):
            if len(part) > self._max_characters:
                return f"{field} of {count(len(part), 'character')}; {reads} tokens"
        num_prompt = len(encode(self._tokenizer, text.prompt))
        if num_prompt > limit:
            return f"{text.field} of {count(num_prompt, 'token')}; {reads}"
        behind, parts = text.num_written, [f"{text.num_written} to be written (evaluate.generation_tokens)"]
        if text.answer is not None:
            behind = len(target_ids(self._tokenizer, text.prompt, text.answer, text.join))
            parts = [f"{text.answer_field} of {behind}"]
        if text.in_context:
            parts.append(f"a context of up to {self._context_tokens} (editor.contexts.tokens)")
        if self._num_start:
            parts.append("a document's start")
        # What comes last is never read.
        total = self._num_start + num_prompt + max(0, behind - 1) + (self._context_tokens if text.in_context else 0)
        if total > limit:
            return f"{text.field} of {count(num_prompt, 'token')} with {' and '.join(parts)}; {reads}"
        needed = self._reading.reading_bytes(total)
        return self._too_much(
            f"{text.field} of {count(num_prompt, 'token')} with {' and '.join(parts)}", needed, "read"
        )

    def too_costly(self, edit: Edit) -> list[str]:
        """Why the optimisation of an edit's target is refused; empty where it is not."""
        editor = self._scenario.editor
        text = ReadText("prompt", edit.text, edit.target_new, in_context=has_contexts(self._scenario))
        if editor.tunes_weights or self._is_surely_within(text, _SHORT):
            return []
        ids, subject = subject_last_token(self._tokenizer, edit.prompt, edit.subject)
        num_target = len(target_ids(self._tokenizer, edit.text, edit.target_new, edit.join))
        total = len(ids) + num_target + (self._context_tokens if text.in_context else 0)
        rows = [(total, len(ids) - subject + num_target)] * editor.contexts.count
        what = f"prompt of {count(len(ids), 'token')} with target_new of {num_target}"
        how = f"edit in {count(editor.contexts.count, 'context')} at once (editor.contexts.count)"
        reason = self._too_much(what, self._reading.optimising_bytes(rows, editor.edited_layers[0]), how)
        return [reason] if reason else []

    def _too_much(self, what: str, num_bytes: int, how: str) -> str:
        """Why something is refused that takes so much memory; empty where there is so much."""
        assert isinstance(self._scenario.model, LanguageModelSpec)
        there = machine_bytes()
        if num_bytes <= there or not _is_on_cpu(self._scenario.model.device):
            return ""
        return f"{what} takes {_gib(num_bytes)} of memory to {how}; this machine has {_gib(there)}"


def _is_on_cpu(device: str) -> bool:
    """Whether a model is on this machine's processors; no bound is known of other devices, which workers have."""
    if device != "auto":
        return device == "cpu"
    import torch  # takes a second, and few texts are so long that the device matters

    return not torch.cuda.is_available()


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"
