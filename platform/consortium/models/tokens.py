"""Texts as tokens: prompts, continuations, and where in a prompt the subject ends.

Places are found by character offsets of a fast tokenizer, never by searching for the subject's text or its
tokens: a subject may occur elsewhere too, and its tokens depend on what stands around it.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import BatchEncoding, PreTrainedTokenizerBase

from consortium.errors import FactsError

SLOT = "{}"

#: The token that separates documents in pre-training, for tokenizers that put nothing before a text.
_DOCUMENT_START = "<|endoftext|>"


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a text that something may follow: it begins as documents begin (BOS), and never ends (no EOS).

    Where the tokenizer adds no token of its own before a text, the one that separates documents is put there if
    the vocabulary has it. Without it, a subject of one token that begins a prompt would be the first token, which
    models use to rest their attention on: its hidden state says little about the subject, and an edit of it
    moves the first token of every text.
    """
    return _encoding(tokenizer, text)[0]


def decode(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """Tokens as text, without those that stand for no text."""
    text = tokenizer.decode(list(tokens), skip_special_tokens=True)
    assert isinstance(text, str)
    return text


def subject_last_token(
    tokenizer: PreTrainedTokenizerBase, template: str, subject: str, context: str = SLOT
) -> tuple[list[int], int]:
    """Tokens of a prompt in its context, and the index of the subject's last token.

    Args:
        tokenizer: a fast tokenizer.
        template: the prompt with one ``{}`` for the subject.
        subject: the subject, with or without white space around it.
        context: a text with one ``{}`` for the prompt.

    Returns:
        Token ids, and the index of the last token that holds a character (or, in byte-level vocabularies, some
        bytes of a character) of the subject.

    Raises:
        FactsError: template or context has not exactly one slot, or the subject is blank.
    """
    if not subject.strip():
        raise FactsError(
            f"a blank subject for the prompt {template!r}", "a subject with at least one visible character"
        )
    start = slot_of(context) + slot_of(template)
    end = start + len(subject.rstrip())
    prompt = template.replace(SLOT, subject, 1)
    ids, offsets = _encoding(tokenizer, context.replace(SLOT, prompt, 1))
    touching = [index for index, (first, stop) in enumerate(offsets) if first < end and stop > start]
    assert touching, f"no token covers characters {start} to {end} of {context!r} with {prompt!r}"
    return ids, touching[-1]


def target_ids(tokenizer: PreTrainedTokenizerBase, prompt: str, target: str) -> list[int]:
    """Tokens of ``target`` as the continuation of ``prompt`` after one space, to be put behind ``encode(prompt)``.

    They are what ``prompt + " " + target`` has beyond ``prompt``. Where the prompt's last token and the target
    would melt into one, the target is taken as it stands after a full stop instead. (Encoding ``" " + target``
    alone would give sentencepiece-like tokenizers a second space.)

    Raises:
        FactsError: the target is blank.
    """
    continuation = " " + target.strip()
    if continuation == " ":
        raise FactsError(f"a blank target for the prompt {prompt!r}", "a target with at least one visible character")
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
        raise FactsError(f"{count} slots in the template {template!r}", "exactly one {}", "mark one place with {}")
    return template.index(SLOT)


def _encoding(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids and character offsets of a text, without special tokens at its end; those at its beginning span nothing."""
    encoding: BatchEncoding = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    ids, offsets, special = (encoding[name] for name in ("input_ids", "offset_mapping", "special_tokens_mask"))
    length = len(ids) - special[::-1].index(0) if 0 in special else len(ids)
    start = [] if special[:1] == [1] else _document_start(tokenizer)
    return [*start, *ids[:length]], [*((0, 0) for _ in start), *(tuple(span) for span in offsets[:length])]


def _document_start(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    token: int | None = tokenizer.get_added_vocab().get(_DOCUMENT_START)
    return [] if token is None else [token]
