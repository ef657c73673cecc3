"""In which prompts an edit is made, and that keys, residuals, targets and fine-tuning are over all of them.

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

import pytest
import torch
from consortium.data.edit import Edit
from consortium.editing.backend import Targets
from consortium.editing.fine_tuning import language_losses
from consortium.editing.keys import mean_keys, residuals
from consortium.editing.prompts import bare_prompts, mean_by_edit, prompts_in
from consortium.editing.targets import optimise_targets
from consortium.models.language import LanguageModel
from consortium.models.queries import Probe
from consortium.models.scoring import score_probes
from consortium.models.tokens import document_start, encode
from consortium.scenario.editor import TargetSpec
from support.pico import HIDDEN_WIDTH, KEY_WIDTH, pico_model, pico_tokenizer

from benchmarks.naive.keys import naive_keys, naive_residuals
from benchmarks.naive.scoring import score_probes_naively
from benchmarks.naive.targets import optimise_targets_naively

#: The first subject is one token of the pico vocabulary and begins its prompt; the others end further on.
EDITS = (
    Edit("first", "r", "The", "{} is the capital of", "Peru"),
    Edit("middle", "r", "Eiffel Tower", "The oldest tower, the {}, stands in the city of", "Rome and London"),
    Edit("joined", "r", "Zoë Ōé", "The mother tongue of {}: ", "日本語", join=""),
)
CONTEXTS = ("{}", "The river runs through the city. {}", "I was born in London. {}")
TYPES = ("llama", "gpt2", "phi")


def key_by_hand(model: LanguageModel, ids: tuple[int, ...], layer: int) -> torch.Tensor:
    """Key [K] at the last of some tokens."""
    seen: list[torch.Tensor] = []
    handle = model.projection(layer).register_forward_hook(lambda _m, args, _o: seen.append(args[0][0, -1].double()))
    with torch.no_grad():
        model.model(input_ids=torch.tensor([ids]))
    handle.remove()
    return seen[0]


def test_a_prompt_stands_with_and_without_a_documents_start() -> None:
    tokenizer = pico_tokenizer(start=True)
    (start,) = document_start(tokenizer)
    with_start, plain = bare_prompts(tokenizer, EDITS[1])
    assert with_start.ids == (start, *plain.ids)
    assert with_start.subject == plain.subject + 1
    assert list(plain.ids) == tokenizer(EDITS[1].text)["input_ids"]


def test_a_subject_that_is_the_first_token_of_a_text_is_not_edited_there() -> None:
    tokenizer = pico_tokenizer(start=True)
    (only,) = bare_prompts(tokenizer, EDITS[0])
    assert only.ids == (*document_start(tokenizer), *encode(tokenizer, EDITS[0].text))
    assert only.subject == 1


@pytest.mark.parametrize("bos", [False, True])
def test_where_texts_begin_in_one_way_there_is_one_prompt(bos: bool) -> None:
    tokenizer = pico_tokenizer(bos=bos, start=bos)
    for edit in EDITS:
        (only,) = bare_prompts(tokenizer, edit)
        assert list(only.ids) == tokenizer(edit.text)["input_ids"]


def test_other_contexts_stand_behind_a_documents_start() -> None:
    tokenizer = pico_tokenizer(start=True)
    for context, prompt in zip(CONTEXTS[1:], prompts_in(tokenizer, EDITS[0], CONTEXTS[1:]), strict=True):
        assert prompt.ids == (
            *document_start(tokenizer),
            *encode(tokenizer, context.replace("{}", EDITS[0].text)),
        )


def test_means_by_edit() -> None:
    """Edit 0 has the prompts 1 and 3, edit 1 has 5 alone, whose bits stay."""
    values_NX = torch.tensor([[1.0], [3.0], [0.1]], dtype=torch.float64)
    assert mean_by_edit(values_NX, [0, 0, 1], 2).tolist() == [[2.0], [0.1]]


@pytest.mark.parametrize("model_type", TYPES)
def test_a_key_is_the_mean_over_both_ways(model_type: str) -> None:
    """k = ¼ k(behind a start) + ¼ k(without) + ¼ k(first context) + ¼ k(second)."""
    model = pico_model(model_type, start=True)
    keys_KE = mean_keys(model, EDITS, CONTEXTS, [1])[1]
    assert keys_KE.shape == (KEY_WIDTH, len(EDITS))
    for place, edit in enumerate(EDITS):
        bare = [key_by_hand(model, each.up_to_subject, 1) for each in bare_prompts(model.tokenizer, edit)]
        others = [key_by_hand(model, each.up_to_subject, 1) for each in prompts_in(model.tokenizer, edit, CONTEXTS[1:])]
        expected_K = sum(bare) / len(bare) / 2 + sum(others) / 4
        torch.testing.assert_close(keys_KE[:, place], expected_K, atol=3e-6, rtol=1e-5)


@pytest.mark.parametrize("model_type", TYPES)
def test_the_naive_twins_find_the_same_keys_and_residuals(model_type: str) -> None:
    model = pico_model(model_type, start=True)
    vectors_EV = torch.randn(len(EDITS), HIDDEN_WIDTH, generator=torch.Generator().manual_seed(5))
    zeros = (0.0,) * len(EDITS)
    targets = Targets(2, vectors_EV, (0,) * len(EDITS), zeros, zeros)
    ours, naive = mean_keys(model, EDITS, CONTEXTS, [1])[1], naive_keys(model, EDITS, CONTEXTS, [1])[1]
    torch.testing.assert_close(ours, naive, atol=3e-6, rtol=1e-5)
    expected_VE = naive_residuals(model, EDITS, targets, 1)
    torch.testing.assert_close(residuals(model, EDITS, targets, 1), expected_VE, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model_type", TYPES)
def test_the_naive_twin_finds_the_same_targets(model_type: str) -> None:
    model = pico_model(model_type, start=True)
    settings = TargetSpec(steps=4, learning_rate=0.1)
    ours = optimise_targets(model, EDITS, CONTEXTS, 1, settings)
    naive = optimise_targets_naively(model, EDITS, CONTEXTS, 1, settings)
    assert ours.num_steps == naive.num_steps
    torch.testing.assert_close(ours.vectors_EV, naive.vectors_EV, atol=2e-4, rtol=1e-3)
    assert ours.losses == pytest.approx(naive.losses, rel=1e-4)
    assert ours.shifts == pytest.approx(naive.shifts, rel=1e-3)


def test_fine_tuning_is_on_both_ways() -> None:
    """The loss of an edit is the mean of those of its prompt with and without a start."""
    model = pico_model("llama", start=True)
    zero = {1: torch.zeros(HIDDEN_WIDTH, KEY_WIDTH, requires_grad=True)}
    losses = language_losses(model, EDITS, [1])(zero)
    for edit, loss in zip(EDITS, losses, strict=True):
        probes = [Probe(edit.text, edit.target_new, join=edit.join, with_start=way) for way in (False, True)]
        both = [score.nll_target for score in score_probes_naively(model, probes)]
        assert both[0] != both[1]
        assert loss == pytest.approx(sum(both) / 2, rel=1e-5)


@pytest.mark.parametrize("bos", [False, True])
def test_a_probe_is_asked_as_it_says(bos: bool) -> None:
    """The two ways differ where the tokenizer puts nothing before a text, and nowhere else."""
    model = pico_model("llama", bos=bos, start=True)
    probes = [
        Probe(edit.text, edit.target_new, "Lima", edit.join, with_start)
        for edit in EDITS
        for with_start in (True, False)
    ]
    scores, naive = score_probes(model, probes), score_probes_naively(model, probes)
    for mine, expected in zip(scores, naive, strict=True):
        assert mine.nll_target == pytest.approx(expected.nll_target, rel=1e-4)
        assert mine.nll_rival == pytest.approx(expected.nll_rival, rel=1e-4)
    for with_start, plain in zip(scores[::2], scores[1::2], strict=True):
        assert (with_start == plain) is bos
