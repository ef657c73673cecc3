"""Contexts: the bare prompt first, then short texts that the model writes from a seed."""

from __future__ import annotations

import pytest
import torch
from consortium.editing.contexts import context_weights, generate_contexts
from consortium.models.language import LanguageModel
from consortium.models.tokens import subject_last_token
from support.pico import pico_model


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return pico_model("llama")


@pytest.mark.parametrize("count", [1, 2, 9])
def test_there_are_as_many_as_asked_and_the_first_is_bare(model: LanguageModel, count: int) -> None:
    contexts = generate_contexts(model, count, 8, seed=3)
    assert len(contexts) == count
    assert contexts[0] == "{}"
    for context in contexts[1:]:
        assert context.endswith(". {}")
        assert context.count("{") == context.count("}") == 1
        assert "\n" not in context
        subject_last_token(model.tokenizer, "{} is in", "Rome", context)  # refuses a context without one slot


def test_one_seed_gives_one_set_and_another_seed_another(model: LanguageModel) -> None:
    first, state = generate_contexts(model, 4, 8, seed=3), torch.get_rng_state()
    assert generate_contexts(model, 4, 8, seed=3) == first
    assert generate_contexts(model, 4, 8, seed=4) != first
    assert generate_contexts(model, 6, 8, seed=3)[:4] == first, "a context does not depend on how many there are"
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("written", "context"),
    [
        ("The city {of} Paris", "The city of Paris. {}"),
        ("You {} said\n\nthis", "You said this. {}"),
        ("I was there.", "I was there. {}"),
        ("Because...", "Because. {}"),
    ],
)
def test_what_the_model_writes_is_made_plain(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, written: str, context: str
) -> None:
    """Braces would be taken for a slot, and a second full stop for the end of another sentence."""
    ids = torch.tensor([model.tokenizer(written)["input_ids"]])
    monkeypatch.setattr("consortium.editing.contexts.sample_tokens", lambda *_, **__: ids)
    assert generate_contexts(model, 2, 8, seed=0) == ("{}", context)


@pytest.mark.slow
def test_the_real_model_writes_readable_contexts(smollm2: LanguageModel) -> None:
    contexts = generate_contexts(smollm2, 3, 6, seed=0)
    assert contexts[1].startswith("The ")
    assert contexts[2].startswith("Therefore")
    assert all("<|" not in context for context in contexts)


def test_the_bare_prompt_counts_as_much_as_all_others_together() -> None:
    assert context_weights(1).tolist() == [1.0]
    assert context_weights(2).tolist() == [0.5, 0.5]
    assert context_weights(6).tolist() == pytest.approx([0.5] + [0.1] * 5)
    assert context_weights(6).dtype == torch.float64
