"""Sampling: one generator gives one text, starts are kept, and tokens are drawn as often as they are likely."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.models.language import LanguageModel
from consortium.models.sampling import sample_tokens
from support.pico import PICO_TYPES, pico_model

STARTS = [[5], [6, 7, 8], [9, 10]]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return pico_model("llama")


def sample(model: LanguageModel, seed: int, num_tokens: int = 12, top_k: int = 50) -> torch.Tensor:
    return sample_tokens(model, STARTS, num_tokens, torch_generator(seed, "test"), top_k)


def next_logits(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.model(input_ids=torch.tensor([ids])).logits[0, -1]
    return logits


def test_one_seed_gives_one_text_and_another_seed_another(model: LanguageModel) -> None:
    first, state = sample(model, 1), torch.get_rng_state()
    assert torch.equal(sample(model, 1), first)
    assert not torch.equal(sample(model, 2), first)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was drawn from"


def test_starts_are_kept_and_texts_are_as_long_as_asked(model: LanguageModel) -> None:
    text_BT = sample(model, 1)
    assert text_BT.shape == (3, 12)
    assert text_BT.dtype == torch.long
    for row, start in enumerate(STARTS):
        assert text_BT[row, : len(start)].tolist() == start
    assert sample(model, 1, num_tokens=3)[1].tolist() == STARTS[1]


@pytest.mark.parametrize("model_type", PICO_TYPES)
@pytest.mark.parametrize("top_k", [1, 4])
def test_every_drawn_token_is_among_the_likeliest_by_the_whole_model(model_type: str, top_k: int) -> None:
    """No cache here: each token is looked up after a run of all that stands before it."""
    model = pico_model(model_type)
    text_BT = sample(model, 3, top_k=top_k)
    for row, start in enumerate(STARTS):
        for column in range(len(start), text_BT.shape[1]):
            ids = text_BT[row].tolist()
            assert ids[column] in next_logits(model, ids[:column]).topk(top_k).indices.tolist()


def test_tokens_are_drawn_as_often_as_they_are_likely(model: LanguageModel) -> None:
    """2,000 draws after one start, top 4: each share within four standard errors of its probability."""
    num_draws, top_k = 2000, 4
    values, candidates = next_logits(model, [5]).topk(top_k)
    drawn = sample_tokens(model, [[5]] * num_draws, 2, torch_generator(0, "test"), top_k)[:, 1]
    for token, chance in zip(candidates.tolist(), values.double().softmax(-1).tolist(), strict=True):
        share = (drawn == token).double().mean().item()
        assert abs(share - chance) < 4 * (chance * (1 - chance) / num_draws) ** 0.5


@pytest.mark.parametrize("model_type", PICO_TYPES)
def test_another_type_gives_the_text_of_a_model_with_such_weights(model_type: str) -> None:
    model, rounded = pico_model(model_type), pico_model(model_type)
    for parameter in rounded.model.parameters():
        parameter.data = parameter.data.bfloat16()
    text_BT = sample_tokens(model, STARTS, 40, torch_generator(1, "test"), dtype=torch.bfloat16)
    assert torch.equal(text_BT, sample(rounded, 1, num_tokens=40))
    assert model.dtype == torch.float32


def test_another_type_gives_another_text(model: LanguageModel) -> None:
    """Chances that differ in the third digit lead to another token sooner or later; here within 3 × 60."""
    text_BT = sample_tokens(model, STARTS, 60, torch_generator(1, "test"), dtype=torch.bfloat16)
    assert not torch.equal(text_BT, sample(model, 1, num_tokens=60))


@pytest.mark.parametrize("fails", [False, True])
def test_the_models_own_weights_come_back_in_their_own_storage(fails: bool) -> None:
    model = pico_model("gpt2")
    before, places = model.weights_hash(), [parameter.data_ptr() for parameter in model.model.parameters()]
    seen: list[torch.dtype] = []

    def look(_module: object, args: tuple[torch.Tensor]) -> None:
        seen.append(args[0].dtype)
        if fails and len(seen) == 3:
            raise RuntimeError("out of memory")

    handle = model.head.register_forward_pre_hook(look)
    with pytest.raises(RuntimeError, match="out of memory") if fails else nullcontext():
        sample_tokens(model, STARTS, 12, torch_generator(1, "test"), dtype=torch.bfloat16)
    handle.remove()
    assert set(seen) == {torch.bfloat16}
    assert model.weights_hash() == before
    assert [parameter.data_ptr() for parameter in model.model.parameters()] == places
