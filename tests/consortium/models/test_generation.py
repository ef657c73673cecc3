"""Writing: the text of a plain loop without a cache, whatever it is batched with."""

from __future__ import annotations

import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.models import generation
from consortium.models.generation import write_texts, write_tokens
from consortium.models.language import LanguageModel
from consortium.models.queries import Generation
from consortium.models.tokens import encode
from support.pico import PICO_TYPES, pico_model

from benchmarks.naive.decoding import write_naively

PROMPTS = (
    "Tower",
    "The capital of Japan is",
    "The Eiffel Tower is in the city of",
    "Tower",
    "People say that the tower in the city is the oldest one, and that 東京 is",
)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return pico_model()


def drawn(model: LanguageModel, seed: int, prompts: tuple[str, ...] = PROMPTS) -> list[str]:
    return write_texts(model, prompts, Generation(12, 5, torch_generator(seed, "test")))


@pytest.mark.parametrize("model_type", PICO_TYPES)
@pytest.mark.parametrize("bos", [False, True])
def test_texts_are_those_of_a_plain_loop(model_type: str, bos: bool) -> None:
    model = pico_model(model_type, bos=bos)
    assert write_texts(model, PROMPTS, Generation(9)) == [write_naively(model, prompt, 9) for prompt in PROMPTS]


@pytest.mark.parametrize("kept_tokens", [1, 30, 60])
def test_texts_do_not_depend_on_the_batch(model: LanguageModel, kept_tokens: int, monkeypatch) -> None:
    together = write_texts(model, PROMPTS, Generation(9))
    monkeypatch.setattr(generation, "KEPT_TOKENS", kept_tokens)
    assert write_texts(model, PROMPTS, Generation(9)) == together
    assert write_texts(model, PROMPTS[::-1], Generation(9)) == together[::-1]


def test_each_start_is_continued_by_its_own_number_of_tokens(model: LanguageModel) -> None:
    """A shorter text is the beginning of a longer one."""
    starts = [tuple(encode(model.tokenizer, prompt)) for prompt in PROMPTS]
    long = write_tokens(model, starts, [9] * 5)
    assert [len(tokens) for tokens in long] == [9] * 5
    counts = [3, 9, 1, 5, 0]
    assert write_tokens(model, starts, counts) == [tokens[:count] for tokens, count in zip(long, counts, strict=True)]
    assert write_tokens(model, [], []) == []


def test_one_generator_gives_one_text_and_another_another(model: LanguageModel) -> None:
    state = torch.get_rng_state()
    first = drawn(model, 1)
    assert drawn(model, 1) == first
    assert drawn(model, 2) != first
    assert first[0] == first[3], "a prompt that is asked twice is continued once"
    assert torch.equal(torch.get_rng_state(), state), "the global generator was drawn from"


def test_draws_are_from_the_likeliest_only(model: LanguageModel) -> None:
    assert write_texts(model, PROMPTS, Generation(9, 1, torch_generator(0, "test"))) == write_texts(
        model, PROMPTS, Generation(9)
    )
    (start,) = {tuple(encode(model.tokenizer, PROMPTS[1]))}
    with torch.no_grad():
        logits = model.model(input_ids=torch.tensor([start])).logits[0, -1]
    first_words = {model.tokenizer.decode([token]) for token in logits.topk(5).indices.tolist()}
    found = {write_texts(model, [PROMPTS[1]], Generation(1, 5, torch_generator(seed, "test")))[0] for seed in range(40)}
    assert found <= first_words
    assert len(found) > 1


def test_writing_leaves_the_model_as_it_is(model: LanguageModel) -> None:
    before = model.weights_hash()
    drawn(model, 1)
    assert model.weights_hash() == before
