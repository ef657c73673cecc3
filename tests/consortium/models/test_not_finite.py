"""One prompt whose numbers are not finite, among others: the others get what they would get without it."""

import math

import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.models.decoding import answer_probes
from consortium.models.generation import write_texts
from consortium.models.likelihood import WINDOW, continuation_nll, text_nll
from consortium.models.queries import Generation, Probe
from consortium.models.sampling import draw
from consortium.models.scoring import score_probes
from support.not_finite import with_bad_token
from support.pico import pico_model

SOUND = [
    Probe("The tower is in the city of", "Rome", "Paris"),
    Probe("The capital of Japan is", "Tokyo is it", "Lima"),
    Probe("She works in", "London"),
    Probe("The capital of France is the city of", "Paris"),
]
SPOILT = [
    Probe("The tower Q is in the city of", "Rome", "Paris"),  # the prompt's doing
    Probe("The capital of Japan is", "Tokyo Q is", "Lima"),  # the target's
    Probe("The capital of Japan is", "Lima", "Q and Q"),  # the rival's
]
MIXED = [SPOILT[0], SOUND[0], SOUND[1], SPOILT[1], SOUND[2], SPOILT[2], SOUND[3]]


@pytest.fixture(params=[("llama", math.nan), ("gpt2", math.nan), ("gemma2", math.inf), ("llama", -math.inf)])
def model(request):
    return with_bad_token(pico_model(*request.param[:1]), request.param[1])


def test_a_probe_that_is_not_finite_leaves_the_scores_of_its_neighbours(model):
    scores = dict(zip(MIXED, score_probes(model, MIXED), strict=True))
    for probe, alone in zip(SOUND, score_probes(model, SOUND), strict=True):
        assert scores[probe].is_finite
        assert scores[probe].nll_target == pytest.approx(alone.nll_target, rel=1e-4)
        assert (scores[probe].strict, scores[probe].success) == (alone.strict, alone.success)
    for probe in SPOILT:
        assert not scores[probe].is_finite
        assert not scores[probe].success
        assert not scores[probe].strict


@pytest.mark.parametrize("decoding", ["teacher_forcing", "greedy"])
def test_what_the_model_says_elsewhere_stays(model, decoding):
    answers = dict(zip(MIXED, answer_probes(model, MIXED, decoding), strict=True))
    for probe, alone in zip(SOUND, answer_probes(model, SOUND, decoding), strict=True):
        assert (answers[probe], answers[probe].text) == (alone, alone.text)
        assert answers[probe].is_finite
    assert not answers[SPOILT[0]].is_finite
    assert not answers[SPOILT[0]].is_target


def test_token_0_is_no_answer_although_it_is_the_arg_max_of_what_is_not_finite(model):
    (answer,) = answer_probes(model, [Probe("The tower Q is in the city of", "<s>")], "teacher_forcing")
    assert 0 in answer.said
    assert (answer.is_finite, answer.is_target) == (False, False)


def test_a_target_that_is_not_finite_hides_not_what_the_model_writes_by_itself(model):
    """The model is asked for its own words, and the target is none of them."""
    (free,) = answer_probes(model, [SPOILT[1]], "greedy")
    (same,) = answer_probes(model, [Probe(SPOILT[1].prompt, "Tokyo x is")], "greedy")
    assert free.is_finite
    assert free.said == same.said[: len(free.said)]


@pytest.mark.parametrize("top_k", [1, 5])
def test_texts_are_written_beside_one_that_cannot_be(model, top_k):
    prompts = ["The tower is", "The Q tower is", "She works in"]
    texts = write_texts(model, prompts, Generation(6, top_k, torch_generator(0, "test")))
    assert texts[1] is None
    assert all(text is not None for text in (texts[0], texts[2]))
    if top_k == 1:
        assert [texts[0], texts[2]] == write_texts(model, [prompts[0], prompts[2]], Generation(6))


def test_a_draw_from_logits_that_are_not_finite_draws_as_before_for_the_other_rows():
    logits_BN = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    drawn = draw(logits_BN, 4, torch_generator(0, "test"))
    logits_BN[1] = math.nan
    again = draw(logits_BN, 4, torch_generator(0, "test"))
    assert (drawn[0], drawn[2]) == (again[0], again[2])


def test_a_window_that_is_not_finite_is_left_out_of_a_text_and_counted(model):
    piece = "The capital of France is Paris. She was born in the city of Lyon and works in London. " * 8
    whole, num_tokens, left_out = text_nll(model, piece, None, 0, 1)
    assert (left_out, math.isfinite(whole)) == (0, True)
    spoilt, counted, left_out = text_nll(model, f"{piece} Q {piece}", None, 0, 1)
    assert math.isfinite(spoilt)
    assert left_out <= WINDOW
    assert left_out > 0
    assert counted + left_out > 2 * num_tokens
    assert text_nll(model, "Q " * 20, None, 0, 1)[:2] == (0.0, 0)


def test_costs_of_choices_stay_beside_one_that_is_not_finite(model):
    asked = [("The tower is in", "Rome"), ("The tower Q is in", "Rome"), ("The tower is in", "the Q")]
    found = continuation_nll(model, asked)
    assert found[0] == pytest.approx(continuation_nll(model, asked[:1])[0], rel=1e-4)
    assert not math.isfinite(found[1])
