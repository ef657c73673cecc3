"""Losses and their gradients in chunks, against autograd over whole logits."""

from __future__ import annotations

import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.editing import readout
from consortium.editing.readout import divergences, log_probabilities, negative_log_likelihoods
from consortium.models.language import LanguageModel
from support.pico import pico_model

NUM = 7
#: Plain, with a bias in the head, with capped logits.
TYPES = ["llama", "phi", "gemma2"]


def states(model: LanguageModel, purpose: str) -> torch.Tensor:
    return torch.randn(NUM, model.hidden_width, generator=torch_generator(0, purpose))


@pytest.fixture(params=[1, 3, 100], ids=lambda rows: f"{rows} at once")
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(readout._AT_ONCE, "cpu", request.param * 400)


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("model_type", TYPES)
def test_likelihoods(model_type: str) -> None:
    model, token_M = pico_model(model_type), torch.arange(NUM) * 50
    final_MV = states(model, "final").requires_grad_()
    expected_M = torch.nn.functional.cross_entropy(model.logits(final_MV), token_M, reduction="none")
    (expected_MV,) = torch.autograd.grad(expected_M.sum(), final_MV)
    nll_M, grad_MV = negative_log_likelihoods(model, final_MV.detach(), token_M)
    torch.testing.assert_close(nll_M, expected_M.detach())
    torch.testing.assert_close(grad_MV, expected_MV, atol=1e-6, rtol=1e-5)


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("model_type", TYPES)
def test_divergences(model_type: str) -> None:
    model = pico_model(model_type)
    start_MN = log_probabilities(model, states(model, "start"))
    final_MV = states(model, "final").requires_grad_()
    log_MN = model.logits(final_MV).log_softmax(-1)
    expected_M = torch.nn.functional.kl_div(start_MN, log_MN, log_target=True, reduction="none").sum(-1)
    (expected_MV,) = torch.autograd.grad(expected_M.sum(), final_MV)
    kl_M, grad_MV = divergences(model, final_MV.detach(), start_MN)
    torch.testing.assert_close(kl_M, expected_M.detach())
    torch.testing.assert_close(grad_MV, expected_MV, atol=1e-6, rtol=1e-5)


def test_nothing_diverges_from_itself() -> None:
    model = pico_model("llama")
    final_MV = states(model, "final")
    kl_M, grad_MV = divergences(model, final_MV, log_probabilities(model, final_MV))
    assert kl_M.abs().max() < 1e-6
    assert grad_MV.abs().max() < 1e-6
