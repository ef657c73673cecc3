"""Answers are those of a plain loop that runs the whole model before each token."""

from __future__ import annotations

import math

import pytest
from consortium.common.errors import FactsError
from consortium.models import decoding as answering
from consortium.models import generation, prefix_tree
from consortium.models.decoding import answer_probes
from consortium.models.queries import Answer, Probe
from consortium.models.scoring import score_probes
from consortium.models.tokens import target_ids
from consortium.scenario.schema import Decoding
from support.pico import PICO_TYPES, pico_model

from benchmarks.naive.decoding import answer_probes_naively

DECODINGS: tuple[Decoding, ...] = ("teacher_forcing", "greedy")
PROBES = (
    Probe("The Eiffel Tower is in the city of", "Paris", "Rome"),
    Probe("The Eiffel Tower is in the city of", "Paris and London"),
    Probe("The Eiffel Tower is in the city of", "London and Paris, and not Rome"),
    Probe("The capital of Japan is", "the oldest city"),
    Probe("Tower", "in the city of Lyon and in London"),
    Probe("People say that the tower in the city is the oldest one, and that 東京 is", "in Zoë's garden"),
)


@pytest.mark.parametrize("model_type", PICO_TYPES)
@pytest.mark.parametrize("decoding", DECODINGS)
def test_answers_are_those_of_a_plain_loop(model_type: str, decoding: Decoding) -> None:
    model = pico_model(model_type)
    assert answer_probes(model, PROBES, decoding) == answer_probes_naively(model, PROBES, decoding)


def test_the_two_decodings_differ_after_the_first_wrong_token() -> None:
    model = pico_model()
    forced, written = (answer_probes(model, PROBES, decoding) for decoding in DECODINGS)
    assert forced != written
    for one, other in zip(forced, written, strict=True):
        assert one.wanted == other.wanted
        assert one.said[0] == other.said[0]


def test_by_hand_on_a_model_that_always_says_city() -> None:
    """Whatever it reads: of " city tower city" it says the first and the last token, and of " city city" all."""
    model = pico_model("phi")
    (city,) = target_ids(model.tokenizer, "The", "city")
    model.head.weight.zero_()
    model.head.bias.zero_()
    model.head.bias[city] = 1.0
    probes = [Probe("The", "city tower city"), Probe("The", "city city")]
    for decoding in DECODINGS:
        mixed, whole = answer_probes(model, probes, decoding)
        assert (mixed.said, mixed.is_target) == ((city, city, city), False)
        assert [one == other for one, other in zip(mixed.said, mixed.wanted, strict=True)] == [True, False, True]
        assert whole == Answer((city, city), (city, city), is_target=True)
        chance = math.e / (math.e + len(model.head.bias) - 1)
        assert mixed.chances == pytest.approx([chance] * 3 if decoding == "teacher_forcing" else [])
    assert [score.strict for score in score_probes(model, probes)] == [False, True]


@pytest.mark.parametrize("decoding", DECODINGS)
def test_answers_do_not_depend_on_the_batch(decoding: Decoding, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pico_model()
    together = answer_probes(model, PROBES, decoding)
    assert [answer_probes(model, [probe], decoding)[0] for probe in PROBES] == together
    assert answer_probes(model, [*PROBES, PROBES[1]], decoding) == [*together, together[1]]
    monkeypatch.setitem(prefix_tree.TOKENS_AT_ONCE, "cpu", 20)
    monkeypatch.setattr(generation, "KEPT_TOKENS", 1)
    assert answer_probes(model, PROBES, decoding) == together


def test_a_text_counts_however_it_is_cut_into_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that spells " city" letter by letter says "city", though none of its tokens is the target's."""
    model = pico_model()
    probe = Probe("The oldest", "city")
    letters = [token for letter in "city" for token in model.tokenizer(letter)["input_ids"]]
    assert model.tokenizer.decode(letters) == "city"
    monkeypatch.setattr(answering, "_written", lambda model, forced: dict.fromkeys(forced, tuple(letters)))
    assert answer_probes(model, [probe], "greedy")[0].is_target
    assert not answer_probes(model, [Probe("The oldest", "town")], "greedy")[0].is_target


def test_no_probes_and_empty_prompts() -> None:
    model = pico_model()
    for decoding in DECODINGS:
        assert answer_probes(model, [], decoding) == []
        with pytest.raises(FactsError, match="empty prompt"):
            answer_probes(model, [Probe("", "Paris")], decoding)
