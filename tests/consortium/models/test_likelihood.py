"""Sums of negative log likelihoods against transformers' own forward, window by window."""

import pytest
import torch
from consortium.common.errors import FactsError
from consortium.models import likelihood
from consortium.models.likelihood import continuation_nll, text_nll, windows
from consortium.models.queries import Probe
from consortium.models.tokens import target_ids
from support.pico import pico_model

from benchmarks.naive.scoring import score_probes_naively

TEXT = "The tower is in the town. " * 9 + "A river begins where water gathers, and runs to the sea."


@pytest.fixture(scope="module", params=["gpt2", "llama", "llama-bos"])
def model(request):
    return pico_model(request.param.removesuffix("-bos"), bos=request.param.endswith("-bos"))


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    monkeypatch.setattr(likelihood, "WINDOW", 16)
    windows.cache_clear()
    yield
    windows.cache_clear()


def nll_by_transformers(model, read, counted):
    """The loss that transformers computes with labels for the counted tokens, times their number."""
    ids = torch.tensor([[*read, *counted]])
    labels = torch.tensor([[-100] * len(read) + list(counted)])
    with torch.no_grad():
        return float(model.model(input_ids=ids, labels=labels).loss) * len(counted)


def test_a_text_costs_what_transformers_says(model):
    found, num_tokens, _ = text_nll(model, TEXT, None, 0, 1)
    expected = sum(nll_by_transformers(model, *window) for window in windows(model.tokenizer, TEXT, None))
    assert found == pytest.approx(expected, rel=1e-5)
    assert num_tokens == sum(len(counted) for _, counted in windows(model.tokenizer, TEXT, None))


def test_every_token_is_read_once(model):
    """Behind a start each is counted; without one, the first of a window is read and not counted."""
    ids = model.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    cut = windows(model.tokenizer, TEXT, None)
    if model.tokenizer("a")["input_ids"][0] == model.tokenizer.bos_token_id:
        assert [token for _, counted in cut for token in counted] == ids
        assert {read for read, _ in cut} == {(model.tokenizer.bos_token_id,)}
    else:
        assert [token for read, counted in cut for token in (*read, *counted)] == ids


@pytest.mark.parametrize("num_parts", [1, 2, 5, 40])
def test_parts_add_up_to_the_whole(model, num_parts):
    whole, num_tokens, _ = text_nll(model, TEXT, 100, 0, 1)
    parts = [text_nll(model, TEXT, 100, part, num_parts) for part in range(num_parts)]
    assert sum(nll for nll, _, _ in parts) == pytest.approx(whole, rel=1e-6)
    assert sum(number for _, number, _ in parts) == num_tokens <= 100
    assert text_nll(model, TEXT, 100, 0, num_parts) == parts[0]


def test_a_continuation_costs_its_tokens_together(model):
    """As a probe's mean times its tokens, and whatever is asked beside it."""
    asked = [("The tower is in", "Rome"), ("The tower is in", "the old town by the river"), ("A river", "begins")]
    found = continuation_nll(model, asked)
    for cost, (prompt, continuation) in zip(found, asked, strict=True):
        mean = score_probes_naively(model, [Probe(prompt, continuation)])[0].nll_target
        assert cost == pytest.approx(mean * len(target_ids(model.tokenizer, prompt, continuation)), rel=1e-5)
    assert continuation_nll(model, [asked[1], asked[1]]) == pytest.approx([found[1]] * 2, rel=1e-5)


def test_texts_without_tokens_to_count_are_refused(model):
    with pytest.raises(FactsError, match="a text of 0 tokens"):
        text_nll(model, "", None, 0, 1)
