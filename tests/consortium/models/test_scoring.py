"""Scores are those of a plain loop over probes, whatever they are batched with.

The loop (:mod:`benchmarks.naive.scoring`) runs prompt and continuation through the whole model, one at a time,
and reads every token's log probability at the place before it.
"""

from __future__ import annotations

import math

import pytest
import torch
from consortium.common.errors import FactsError
from consortium.models import prefix_tree, scoring
from consortium.models.language import LanguageModel
from consortium.models.queries import Probe, Score
from consortium.models.scoring import score_probes
from consortium.models.tokens import target_ids
from support.pico import PICO_TYPES, pico_model

from benchmarks.naive.scoring import score_probes_naively

PROBES = (
    Probe("The Eiffel Tower is in the city of", "Paris", "Rome"),
    Probe("The Eiffel Tower is in the city of", "Rome", "Paris"),
    Probe("The capital of Japan is", "Tokyo", "the oldest city"),
    Probe("The capital of Japan is", "the oldest one"),
    Probe("Tower", "in the city of Lyon and in London", "Lima"),
    Probe("People say that the tower in the city is the oldest one, and that 東京 is", "in Peru", "in Zoë's garden"),
)


def assert_close(scores: list[Score], expected: list[Score]) -> None:
    for score, wanted in zip(scores, expected, strict=True):
        assert score.nll_target == pytest.approx(wanted.nll_target, rel=1e-5)
        assert score.nll_rival == (None if wanted.nll_rival is None else pytest.approx(wanted.nll_rival, rel=1e-5))
        assert score.strict == wanted.strict


@pytest.mark.parametrize("model_type", PICO_TYPES)
@pytest.mark.parametrize("bos", [False, True])
def test_scores_are_those_of_a_plain_loop(model_type: str, bos: bool) -> None:
    model = pico_model(model_type, bos=bos)
    assert_close(score_probes(model, PROBES), score_probes_naively(model, PROBES))


def test_scores_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = pico_model()
    together = score_probes(model, PROBES)
    assert_close([score_probes(model, [probe])[0] for probe in PROBES], together)
    monkeypatch.setitem(prefix_tree.TOKENS_AT_ONCE, "cpu", 20)
    monkeypatch.setattr(scoring, "_LOGITS_AT_ONCE", 3 * model.text_config.vocab_size)
    assert_close(score_probes(model, PROBES), together)


def test_equal_calls_give_equal_bits() -> None:
    model = pico_model()
    assert score_probes(model, PROBES) == score_probes(model, PROBES)


def test_by_hand_on_a_model_that_always_says_city() -> None:
    """With logits 1 for " city" and 0 for the other N - 1 tokens, each " city" costs log(N - 1 + e) - 1.

    " city city" is arg-max throughout; " city tower" is not, and costs half a nat more per token (1 over two).
    """
    model = pico_model("phi")
    (city,) = target_ids(model.tokenizer, "The", "city")
    model.head.weight.zero_()
    model.head.bias.zero_()
    model.head.bias[city] = 1.0
    city_nll = math.log(model.text_config.vocab_size - 1 + math.e) - 1
    mixed, reverse = score_probes(
        model, [Probe("The", "city tower", "city city"), Probe("The", "city city", "city tower")]
    )
    assert (mixed.nll_target, mixed.nll_rival) == pytest.approx((city_nll + 0.5, city_nll), rel=1e-6)
    assert (mixed.strict, mixed.success) == (False, False)
    assert (reverse.strict, reverse.success) == (True, True)


def test_beginnings_are_run_once_and_logits_are_where_something_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six continuations of one prompt, and one of another that begins like it, in one row.

    Read are the prompt's last token (for all six), " city" (for " of"), " of" (for two names), and the other's last.
    """
    model = pico_model()
    seen: list[torch.Tensor] = []
    places: list[int] = []
    handles = [
        model.base.register_forward_pre_hook(
            lambda _module, _args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
        ),
        model.head.register_forward_hook(lambda _module, _args, logits: places.append(len(logits))),
    ]
    city = Probe("The tower is in the", "city", "tower")
    others = [Probe("The tower is in the", "city of Paris", "city of Rome"), Probe("The tower is the", "city")]
    score_probes(model, [city, city, *others, city])
    for handle in handles:
        handle.remove()
    (ids_RT,) = seen
    assert [len(target_ids(model.tokenizer, city.prompt, word)) for word in ("city", "city of Paris")] == [1, 3]
    assert model.tokenizer.decode(ids_RT[0]) == "The tower is the in the city of"
    assert places == [4]


def test_scoring_leaves_the_model_as_it_is() -> None:
    model = pico_model()
    before = model.weights_hash()
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    score_probes(model, PROBES)
    assert model.weights_hash() == before
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, grad)
    assert not model.model.training


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_scores_are_near(dtype: torch.dtype) -> None:
    exact = score_probes(pico_model(), PROBES)
    rough = score_probes(pico_model(dtype=dtype), PROBES)
    for one, other in zip(exact, rough, strict=True):
        assert other.nll_target == pytest.approx(one.nll_target, abs=0.2)


def test_no_probes_and_empty_prompts() -> None:
    assert score_probes(pico_model(), []) == []
    with pytest.raises(FactsError, match="empty prompt"):
        score_probes(pico_model(), [Probe("", "Paris")])


def test_the_real_model_knows_some_facts(smollm2: LanguageModel) -> None:
    probes = [
        Probe("The Eiffel Tower is in the city of", "Paris", "Rome"),
        Probe("The capital of Japan is", "Tokyo", "Lima"),
        Probe("The capital of Japan is", "Lima", "Tokyo"),
    ]
    scores = score_probes(smollm2, probes)
    assert_close(scores, score_probes_naively(smollm2, probes))
    assert [score.success for score in scores] == [True, True, False]
    assert scores[0].strict
