"""Texts as tokens: prompts, continuations, and where in a prompt the subject ends.

Places are found by character offsets of a fast tokenizer, never by searching for the subject's text or its
tokens: a subject may occur elsewhere too, and its tokens depend on what stands around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from consortium.common.counting import count as counted
from consortium.common.errors import FactsError
from consortium.models.joining import joined_target

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

SLOT = "{}"
#: The prompt whose next word must stay likely while a target is optimised: it says what the subject is (MEMIT).
KL_PROMPT = "{} is a"
_REMEDY = "correct the record, or leave it out"

#: The token that separates documents in pre-training, for tokenizers that put nothing before a text.
_DOCUMENT_START = "<|endoftext|>"


def encode(tokenizer: PreTrainedTokenizerBase, text: str, with_start: bool = False) -> list[int]:
    """Tokens of a text that something may follow: as a user's tokenizer makes them, but never with an end (no EOS).

    What the tokenizer itself puts before a text (BOS) is there. ``with_start`` puts :func:`document_start` before a
    text that has nothing of the kind.
    """
    return _encoding(tokenizer, text, with_start)[0]


def document_start(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token that begins documents, where the vocabulary has it and the tokenizer puts nothing before a text.

    Empty for all other tokenizers: their texts begin in one way alone.
    """
    token: int | None = tokenizer.get_added_vocab().get(_DOCUMENT_START)
    special: list[int] = tokenizer("A", return_special_tokens_mask=True)["special_tokens_mask"]
    return [] if token is None or special[:1] == [1] else [token]


def decode(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """Tokens as text, without those that stand for no text."""
    text = tokenizer.decode(list(tokens), skip_special_tokens=True)
    assert isinstance(text, str)
    return text


def subject_last_token(
    tokenizer: PreTrainedTokenizerBase, template: str, subject: str, context: str = SLOT, with_start: bool = False
) -> tuple[list[int], int]:
    """Tokens of a prompt in its context, and the index of the subject's last token.

    Args:
        tokenizer: a fast tokenizer.
        template: the prompt with one ``{}`` for the subject.
        subject: the subject, with or without white space around it.
        context: a text with one ``{}`` for the prompt.
        with_start: as of :func:`encode`.

    Returns:
        Token ids, and the index of the last token that holds a character (or, in byte-level vocabularies, some
        bytes of a character) of the subject.

    Raises:
        FactsError: template or context has not exactly one slot, or the subject is blank.
    """
    if not subject.strip():
        raise FactsError(
            f"a blank subject for the prompt {template!r}", "a subject with at least one visible character", _REMEDY
        )
    start = slot_of(context) + slot_of(template)
    end = start + len(subject.rstrip())
    prompt = template.replace(SLOT, subject, 1)
    ids, offsets = _encoding(tokenizer, context.replace(SLOT, prompt, 1), with_start)
    touching = [index for index, (first, stop) in enumerate(offsets) if first < end and stop > start]
    assert touching, f"no token covers characters {start} to {end} of {context!r} with {prompt!r}"
    return ids, touching[-1]


def target_ids(tokenizer: PreTrainedTokenizerBase, prompt: str, target: str, join: str | None = None) -> list[int]:
    """Tokens of ``target`` as the continuation of ``prompt``, to be put behind ``encode(prompt)``.

    They are what prompt and target together have beyond the prompt; :mod:`consortium.models.joining` says what stands
    between the two (``join``: what the data say). Where the prompt's last token and the target would melt into one,
    the target is taken as it stands after a full stop instead. (Encoding ``" " + target`` alone would give
    sentencepiece-like tokenizers a second space.)

    Raises:
        FactsError: the target is blank.
    """
    if not target.strip():
        raise FactsError(
            f"a blank target for the prompt {prompt!r}", "a target with at least one visible character", _REMEDY
        )
    continuation = joined_target(prompt, target, join)
    for before in (prompt, "."):
        head = encode(tokenizer, before)
        whole = encode(tokenizer, before + continuation)
        if whole[: len(head)] == head and len(whole) > len(head):
            return whole[len(head) :]
    return list(tokenizer(continuation, add_special_tokens=False)["input_ids"])


def slot_of(template: str) -> int:
    """Where in a template its one slot ``{}`` begins.

    Raises:
        FactsError: there is none, or more than one.
    """
    count = template.count(SLOT)
    if count != 1:
        raise FactsError(
            f"{counted(count, 'slot')} in the template {template!r}", "exactly one {}", "mark one place with {}"
        )
    return template.index(SLOT)


def _encoding(
    tokenizer: PreTrainedTokenizerBase, text: str, with_start: bool
) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids and character offsets of a text, without special tokens at its end; those at its beginning span nothing."""
    encoding: BatchEncoding = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    ids, offsets, special = (encoding[name] for name in ("input_ids", "offset_mapping", "special_tokens_mask"))
    length = len(ids) - special[::-1].index(0) if 0 in special else len(ids)
    start = document_start(tokenizer) if with_start else []
    return [*start, *ids[:length]], [*((0, 0) for _ in start), *(tuple(span) for span in offsets[:length])]
