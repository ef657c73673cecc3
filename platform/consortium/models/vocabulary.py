"""Whether a tokenizer and a model belong together."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer

from consortium.common.errors import ModelError

#: A text of ordinary words, by which a tokenizer is tried.
_TRIAL = "The capital of France is Paris."


def check_tokens(name: str, tokenizer: Any, model: Any) -> None:
    """Refuse a tokenizer whose tokens the model has no embedding for, or that knows no ordinary text.

    Added tokens that the model has no embedding for, such as one for padding, are forgotten: a text that names one is
    then read as its characters, which is all that the model could make of it.

    Raises:
        ModelError: names the token and its number, and how many embeddings there are.
    """
    num_rows = int(model.get_input_embeddings().weight.shape[0])
    if tokenizer.is_fast and _beyond(tokenizer, num_rows):
        _forget_added(tokenizer, num_rows)
    ids = tokenizer(_TRIAL)["input_ids"]
    beyond = _beyond(tokenizer, num_rows) or [(number, "of every text") for number in ids if number >= num_rows]
    if beyond:
        number, token = beyond[0]
        more = f", and {len(beyond) - 1} more such" if len(beyond) > 1 else ""
        raise ModelError(
            f"the tokenizer of {name!r} has the token {token!r} with number {number}{more}",
            f"numbers below {num_rows}: so many embeddings does the model have",
            "use the model's own tokenizer, or let the embeddings grow (model.resize_token_embeddings) and save both",
        )
    plain = tokenizer(_TRIAL, add_special_tokens=False)["input_ids"]
    if not plain or (tokenizer.unk_token_id is not None and set(plain) == {tokenizer.unk_token_id}):
        raise ModelError(
            f"the tokenizer of {name!r} makes {'unknown tokens alone' if plain else 'no tokens'} of {_TRIAL!r}",
            "a tokenizer that knows the words or characters of the facts",
            "use the model's own tokenizer",
        )


def _beyond(tokenizer: Any, num_rows: int) -> list[tuple[int, str]]:
    """Numbers and tokens for which there is no embedding, in order."""
    return sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= num_rows)


def _forget_added(tokenizer: Any, num_rows: int) -> None:
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    described["added_tokens"] = [each for each in described["added_tokens"] if each["id"] < num_rows]
    # Transformers has no way to take a token out again.
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(described))
