"""How likely texts are: sums of negative log likelihoods over continuations, and over the windows of a long text.

A text is cut into windows of :data:`WINDOW` tokens that do not overlap. Each is read by itself, behind the token that
begins a document, where the model has one; so every token of the text is read once, with up to a window of text before
it. (Where the model has none, nothing stands before a window's first token, which is then read but not counted.)

Perplexity by windows that do not overlap: the fast form of two in the documentation of transformers; it is higher
than with a sliding window, and comparable between models that read the same windows.

Shapes: none; tokens are tuples of ids.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from consortium.common.counting import count
from consortium.common.errors import FactsError
from consortium.models.context import MOST_TOKENS
from consortium.models.language import LanguageModel
from consortium.models.prefix_tree import Tokens
from consortium.models.scoring import TokensAndTarget, nll_sums
from consortium.models.tokens import encode, target_ids

#: Tokens of a window, long enough for text to be text; fewer where the model reads no more behind a document's start.
WINDOW = 128
#: Characters that are read for each token wanted of a text: a long one is not tokenised whole.
_CHARACTERS_PER_TOKEN = 16


def continuation_nll(model: LanguageModel, asked: Sequence[tuple[str, str]]) -> list[float]:
    """Σ nll in nats of each continuation after its prompt; they join as :mod:`consortium.models.joining` says.

    Raises:
        FactsError: an empty prompt, or a blank continuation.
    """
    return nll_sums(model, [_continued(model.tokenizer, *one) for one in asked])


@lru_cache(maxsize=1 << 14)  # arms and rounds ask the same again
def _continued(tokenizer: PreTrainedTokenizerBase, prompt: str, continuation: str) -> TokensAndTarget:
    ids = tuple(encode(tokenizer, prompt))
    if not ids:
        raise FactsError("a question with an empty prompt", "a prompt that the choices continue", "correct the data")
    return ids, tuple(target_ids(tokenizer, prompt, continuation))


def text_nll(
    model: LanguageModel, text: str, num_tokens: int | None, part: int, num_parts: int
) -> tuple[float, int, int]:
    """Σ nll in nats over the windows ``part``, ``part`` + ``num_parts``, … of a text, and the tokens counted.

    Windows whose likelihoods are not finite are left out; the last number is how many tokens they have.

    Args:
        model: the model, as it is.
        text: the text.
        num_tokens: tokens of it that are read; None for all.
        part: which part, from 0.
        num_parts: parts in all.
    """
    mine = windows(model.tokenizer, text, num_tokens, model.reading.max_tokens)[part::num_parts]
    costs = [(nll, len(counted)) for nll, (_, counted) in zip(nll_sums(model, mine), mine, strict=True)]
    sound = [(nll, size) for nll, size in costs if math.isfinite(nll)]
    num_counted = sum(size for _, size in sound)
    return sum((nll for nll, _ in sound), 0.0), num_counted, sum(size for _, size in costs) - num_counted


@lru_cache(maxsize=4)  # every party batch, arm and round asks for the same text
def windows(
    tokenizer: PreTrainedTokenizerBase, text: str, num_tokens: int | None, max_tokens: int = MOST_TOKENS
) -> tuple[TokensAndTarget, ...]:
    """A text as windows: tokens that are read only, and tokens that are counted; each token of the text is in one.

    Args:
        tokenizer: the model's.
        text: the text.
        num_tokens: tokens of it that are read; None for all.
        max_tokens: tokens that the model reads at most.

    Raises:
        FactsError: the text has less than two tokens.
    """
    start, tokens = _start_and_tokens(tokenizer, _beginning(text, num_tokens))
    if len(tokens) < (num_tokens or 0):
        start, tokens = _start_and_tokens(tokenizer, text)
    tokens = tokens[:num_tokens]
    width = max(1 if start else 2, min(WINDOW, max_tokens - len(start)))
    cuts = [tokens[first : first + width] for first in range(0, len(tokens), width)]
    found = [(start, cut) if start else (cut[:1], cut[1:]) for cut in cuts]
    if len(tokens) < 2:
        raise FactsError(
            f"a text of {count(len(tokens), 'token')} for the perplexity",
            "a text of some hundred words",
            "name another in evaluate.perplexity_text",
        )
    return tuple((read, counted) for read, counted in found if counted)


def _beginning(text: str, num_tokens: int | None) -> str:
    """Enough of a text for so many tokens of usual length, to the end of a word."""
    num_characters = _CHARACTERS_PER_TOKEN * (num_tokens or len(text))
    if len(text) <= num_characters:
        return text
    words = text[:num_characters].rsplit(maxsplit=1)
    return words[0] if len(words) > 1 else text[:num_characters]


def _start_and_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[Tokens, Tokens]:
    """What the tokenizer puts before a text, and the text's own tokens."""
    whole = encode(tokenizer, text, with_start=True)
    num_own = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    return tuple(whole[: len(whole) - num_own]), tuple(whole[len(whole) - num_own :])
