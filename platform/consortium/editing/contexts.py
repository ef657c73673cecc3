"""Contexts: short texts put before an edit's prompt, so that what is learned holds in more than one place.

After MEMIT's released code (arXiv 2210.07229; ``get_context_templates``): the bare prompt, and texts that the
unedited model writes itself after a few common words.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedTokenizerBase

from consortium.common.errors import NotFiniteError
from consortium.common.seeds import torch_generator
from consortium.models.language import LanguageModel
from consortium.models.sampling import sample_tokens
from consortium.models.soundness import is_finite_on
from consortium.models.tokens import encode

BARE = "{}"
_STARTS = ("The", "Therefore", "Because", "I", "You")
#: Texts that are drawn for one context at most.
_MOST_DRAWN = 8


#: Tokens of the full stop behind a context, and of how its words and the prompt's meet, at most.
_FULL_STOP = 3
#: Tokens that one written token becomes at most, if its text is encoded again: the sign for bytes that are no
#: text has three bytes.
_GROWTH = 3


def max_context_tokens(tokenizer: PreTrainedTokenizerBase, num_tokens: int) -> int:
    """Tokens by which the longest context of :func:`generate_contexts` makes a prompt longer."""
    return max(len(encode(tokenizer, start)) for start in _STARTS) + _GROWTH * num_tokens + _FULL_STOP


def generate_contexts(model: LanguageModel, count: int, num_tokens: int, seed: int) -> tuple[str, ...]:
    """``count`` templates with one ``{}`` each; the first is the bare prompt, the others end in ``. {}``.

    A text on which the model's numbers are not finite would spoil every edit, and is drawn anew.

    Raises:
        NotFiniteError: the model writes no other.
    """
    return (BARE, *(f"{_context(model, number, num_tokens, seed)}. {BARE}" for number in range(count - 1)))


def _context(model: LanguageModel, number: int, num_tokens: int, seed: int) -> str:
    start = encode(model.tokenizer, _STARTS[number % len(_STARTS)], with_start=True)
    for attempt in range(_MOST_DRAWN):
        generator = torch_generator(seed, "contexts", number, *([attempt] if attempt else []))
        ids = sample_tokens(model, [start], len(start) + num_tokens, generator, top_k=5)[0]
        text = _plain(str(model.tokenizer.decode(ids, skip_special_tokens=True)))
        text = _cut(model.tokenizer, text, len(start) + _GROWTH * num_tokens)
        if is_finite_on(model, text):
            return text
    raise NotFiniteError(
        f"the model's numbers are not finite on any of {_MOST_DRAWN} texts that it wrote after {_STARTS[number % 5]!r}",
        "contexts on which they are",
        "set model.dtype to bfloat16 or float32 where it is float16, or editor.contexts.count to 1",
    )


def _cut(tokenizer: PreTrainedTokenizerBase, text: str, num_tokens: int) -> str:
    """The beginning of a text that is ``num_tokens`` tokens at most, if it is encoded again."""
    while len(encode(tokenizer, text, with_start=True)) > num_tokens:
        text = text[:-1].rstrip()
    return text


def _plain(text: str) -> str:
    """One line without braces (they mark the slot) and without a full stop at its end."""
    return " ".join(text.replace("{", " ").replace("}", " ").split()).rstrip(".")


def context_weights(count: int) -> torch.Tensor:
    """Weights of contexts in a mean key: the bare prompt counts as much as all the others together (MEMIT)."""
    if count == 1:
        return torch.ones(1, dtype=torch.float64)
    return torch.tensor([0.5] + [0.5 / (count - 1)] * (count - 1), dtype=torch.float64)
