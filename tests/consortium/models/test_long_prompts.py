"""Whatever we run in trees, packings and parts is what the whole model's own forward gives, also for long prompts.

Every architecture with windows shorter than its prompts, and every way to stretch rotary positions. The whole model is
run on one unpadded sequence and makes its masks and positions itself.

Shapes: E edits, T tokens, N vocabulary.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from consortium.data.edit import Edit
from consortium.editing.contexts import generate_contexts, max_context_tokens
from consortium.editing.covariance_text import sampled_texts
from consortium.editing.fine_tuning import language_losses
from consortium.editing.key_covariance import measure_chunk, num_chunks, sum_over_texts
from consortium.editing.keys import mean_keys, residuals
from consortium.editing.targets import optimise_targets
from consortium.models.decoding import answer_probes
from consortium.models.generation import write_texts
from consortium.models.language import LanguageModel
from consortium.models.likelihood import text_nll, windows
from consortium.models.llama.upper_layers import FAMILY
from consortium.models.queries import Generation, Probe
from consortium.models.scoring import asked_of, score_probes
from consortium.models.tokens import decode, encode, subject_last_token, target_ids
from consortium.scenario.editor import CovarianceSpec, TargetSpec
from support.pico import PICO_TYPES, SENTENCES, pico_model

from benchmarks.naive.keys import naive_keys, naive_residuals
from benchmarks.naive.targets import optimise_targets_naively

#: Tokens that a token sees where a model has windows; all texts below are longer.
WINDOW = 8
_WINDOWS = {
    "sliding_window": WINDOW,
    "use_sliding_window": True,
    "max_window_layers": 1,
    "sliding_window_pattern": 2,
    "final_logit_softcapping": 5.0,
    "attn_logit_softcapping": 2.0,
}
_OWN: dict[str, dict[str, Any]] = {
    "gpt2": {"scale_attn_by_inverse_layer_idx": True},
    "gemma2": {"query_pre_attn_scalar": 24},
    "gemma3_text": {"query_pre_attn_scalar": 24},
    "gemma3": {"query_pre_attn_scalar": 24},
}
_YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 16}
_LINEAR = {"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0}
_LLAMA3 = {**_YARN, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_DYNAMIC = {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 4.0}
#: The shorter factors hold for all texts of no more than 192 tokens.
_LONG = {"rope_type": "longrope", "rope_theta": 100.0, "original_max_position_embeddings": 192, "factor": 2.0}
_LONG |= {"short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [2.0, 3.0, 4.0, 5.0]}
_GEMMA_ROPES = {
    "rope_parameters": {
        "full_attention": {**_LINEAR, "rope_theta": 1000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
    }
}

#: Name → architecture, and what its config says besides the usual.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {**_WINDOWS, **_OWN.get(name, {})}) for name in PICO_TYPES},
    **{f"{name}-all-windows": (name, {**_WINDOWS, "max_window_layers": 0}) for name in ("qwen2", "qwen3")},
    "qwen2-named-layers": (
        "qwen2",
        {**_WINDOWS, "layer_types": ["full_attention", "full_attention", "sliding_attention"]},
    ),
    "qwen3-unused-window": ("qwen3", {**_WINDOWS, "use_sliding_window": False}),
    "gemma3_text-ropes": ("gemma3_text", {**_WINDOWS, **_GEMMA_ROPES}),
    "gemma3-ropes": ("gemma3", {**_WINDOWS, **_GEMMA_ROPES}),
    "llama-linear": ("llama", {"rope_parameters": _LINEAR}),
    "llama-llama3": ("llama", {"rope_parameters": _LLAMA3}),
    "llama-dynamic": ("llama", {"rope_parameters": _DYNAMIC}),
    "llama-longrope": ("llama", {"rope_parameters": _LONG}),
    "mistral-yarn": ("mistral", {**_WINDOWS, "rope_parameters": _YARN}),
    "qwen2-yarn": ("qwen2", {**_WINDOWS, "rope_parameters": _YARN}),
    "qwen3-yarn": ("qwen3", {**_WINDOWS, "rope_parameters": _YARN}),
    "phi3-longrope": (
        "phi3",
        {"sliding_window": WINDOW, "original_max_position_embeddings": 192, "rope_parameters": _LONG},
    ),
    "phi-linear": ("phi", {"rope_parameters": {**_LINEAR, "partial_rotary_factor": 0.5}}),
}

_STORY = "People say that the tower in the city is the oldest one. "
EDITS = (
    Edit("start", "r", "Paris", "{} is the capital of the river that runs through the oldest city of", "Peru"),
    Edit("long", "r", "Eiffel Tower", _STORY + "The {} stands in the city of", "Rome and London and Lima and Paris"),
    Edit("end", "r", "Zoë Ōé of Lyon and London", "The mother tongue of the writer, born in the city, {}", "French"),
)
CONTEXTS = ("{}", "The river runs through the city, and the tower is in it. {}")
PROBES = tuple(Probe(edit.text, edit.target_new, rival) for edit in EDITS for rival in ("Tokyo", "London and Rome"))


@pytest.fixture(params=VARIANTS, scope="module")
def model(request: pytest.FixtureRequest) -> LanguageModel:
    model_type, config = VARIANTS[request.param]
    return pico_model(model_type, config=config)


def own_log_TN(model: LanguageModel, ids: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad():
        log_TN: torch.Tensor = model.model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return log_TN


def own_nll(model: LanguageModel, asked: tuple[tuple[int, ...], tuple[int, ...]]) -> torch.Tensor:
    """Negative log likelihoods of a continuation's tokens."""
    prompt, continuation = asked
    log_TN = own_log_TN(model, (*prompt, *continuation[:-1]))
    return -log_TN[range(len(prompt) - 1, len(log_TN)), continuation]


def own_generation(model: LanguageModel, ids: tuple[int, ...], num_tokens: int) -> tuple[int, ...]:
    for _ in range(num_tokens):
        ids = (*ids, int(own_log_TN(model, ids)[-1].argmax()))
    return ids[-num_tokens:]


def test_texts_are_longer_than_windows() -> None:
    model = pico_model("mistral")
    assert all(len(asked_of(model.tokenizer, probe)[0][0]) > WINDOW + 4 for probe in PROBES)


def test_windows_and_caps_matter(model: LanguageModel) -> None:
    """The prompts would be answered otherwise without them: an oracle that ignored them would be no oracle."""
    ids = tuple(encode(model.tokenizer, EDITS[1].text))
    if any(model.windows):
        assert (own_log_TN(model, ids)[-1] - own_log_TN(model, ids[1:])[-1]).abs().max() > 0
        assert set(model.windows) <= {WINDOW, None}
    assert (model.logit_cap is not None) == (model.model.config.model_type in ("gemma2", "gemma3_text"))


def test_scores(model: LanguageModel) -> None:
    for probe, score in zip(PROBES, score_probes(model, PROBES), strict=True):
        target, rival = (own_nll(model, asked).mean().item() for asked in asked_of(model.tokenizer, probe) if asked)
        assert (score.nll_target, score.nll_rival) == pytest.approx((target, rival), rel=1e-4)


def test_answers(model: LanguageModel) -> None:
    forced = answer_probes(model, PROBES, "teacher_forcing")
    greedy = answer_probes(model, PROBES, "greedy")
    for probe, by_force, freely in zip(PROBES, forced, greedy, strict=True):
        prompt, target = asked_of(model.tokenizer, probe)[0]
        log_TN = own_log_TN(model, (*prompt, *target[:-1]))[len(prompt) - 1 :]
        assert by_force.said == tuple(log_TN.argmax(-1).tolist())
        assert freely.said == own_generation(model, prompt, len(target))


def test_texts(model: LanguageModel) -> None:
    prompts = [edit.text for edit in EDITS]
    for prompt, text in zip(prompts, write_texts(model, prompts, Generation(20, 1, None)), strict=True):
        assert text == decode(model.tokenizer, own_generation(model, tuple(encode(model.tokenizer, prompt)), 20))


def test_keys_and_residuals(model: LanguageModel) -> None:
    settings = TargetSpec(steps=1)
    targets = optimise_targets(model, EDITS, CONTEXTS, 1, settings)
    for layer, expected_KE in naive_keys(model, EDITS, CONTEXTS, [0, 1]).items():
        torch.testing.assert_close(mean_keys(model, EDITS, CONTEXTS, [0, 1])[layer], expected_KE, atol=1e-5, rtol=1e-4)
        expected_VE = naive_residuals(model, EDITS, targets, layer)
        torch.testing.assert_close(residuals(model, EDITS, targets, layer), expected_VE, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("layer", [0, 1])
def test_targets(model: LanguageModel, layer: int) -> None:
    """Losses at the start and after a step, which follows the gradient."""
    for steps in (1, 2):
        settings = TargetSpec(steps=steps, learning_rate=0.3, stop_loss=0.0)
        found = optimise_targets(model, EDITS, CONTEXTS, layer, settings)
        expected = optimise_targets_naively(model, EDITS, CONTEXTS, layer, settings)
        assert found.losses == pytest.approx(expected.losses, rel=1e-4)
        apart_E = (found.vectors_EV - expected.vectors_EV).norm(dim=1)
        assert (apart_E / expected.vectors_EV.norm(dim=1)).max() < 1e-3


def test_perplexity(model: LanguageModel) -> None:
    text = " ".join(SENTENCES)
    nll, num_tokens, _ = text_nll(model, text, None, 0, 1)
    asked = windows(model.tokenizer, text, None)
    assert num_tokens == sum(len(counted) for _, counted in asked)
    assert max(len(read) + len(counted) for read, counted in asked) > 4 * WINDOW
    assert nll == pytest.approx(sum(own_nll(model, one).sum().item() for one in asked), rel=1e-4)


def test_the_covariance(model: LanguageModel) -> None:
    ids = encode(model.tokenizer, " ".join(SENTENCES))
    texts_BT = torch.tensor(ids[: len(ids) // 2 * 2]).view(2, -1)
    seen: list[torch.Tensor] = []
    handle = model.projection(1).register_forward_pre_hook(lambda _m, args: seen.append(args[0][0].double()))
    for text in texts_BT:
        own_log_TN(model, tuple(text.tolist()))
    handle.remove()
    expected_KK = sum(keys_TK.T @ keys_TK for keys_TK in seen)
    found_KK = torch.from_numpy(sum_over_texts(model, texts_BT, [1])[0][1])
    torch.testing.assert_close(found_KK, expected_KK, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("layers", [(0,), (1, 2)])
def test_fine_tuning(model: LanguageModel, layers: tuple[int, ...]) -> None:
    deltas = {layer: torch.zeros(tuple(model.weight_VK(layer).shape), requires_grad=True) for layer in layers}
    losses = language_losses(model, EDITS, layers)(deltas)
    weights = {layer: model.projection(layer).weight.requires_grad_() for layer in layers}
    expected = []
    for edit in EDITS:
        prompt, _ = subject_last_token(model.tokenizer, edit.prompt, edit.subject)
        target = target_ids(model.tokenizer, edit.text, edit.target_new)
        log_TN = model.model(input_ids=torch.tensor([[*prompt, *target[:-1]]])).logits[0].log_softmax(-1)
        expected.append(-log_TN[range(len(prompt) - 1, len(log_TN)), target].mean())
    (sum(expected) / len(EDITS)).backward()
    for layer, weight in weights.items():
        own_VK = weight.grad.T if model.layout.transposed else weight.grad
        torch.testing.assert_close(deltas[layer].grad, own_VK, atol=1e-5, rtol=1e-3)
        weight.requires_grad_(False).grad = None
    assert losses == pytest.approx([loss.item() for loss in expected], rel=1e-4)


def test_both_backbones_are_meant() -> None:
    """Variants with windows stand for the backbone by hand as well as for the other."""
    windowed = {model_type for model_type, config in VARIANTS.values() if "sliding_window" in config}
    assert windowed > set(FAMILY)
    assert windowed - set(FAMILY) >= {"gemma2", "gemma3", "gemma3_text", "phi3"}


@pytest.mark.parametrize("model_type", ["gpt2", "gptj", "llama"])
@pytest.mark.parametrize("bos", [False, True])
def test_what_is_ours_to_choose_is_cut_to_what_a_model_reads(model_type: str, bos: bool) -> None:
    """Windows of the perplexity, the key covariance's texts and contexts, with a model of 24 positions; the text is all
    read."""
    positions = "max_position_embeddings" if model_type == "llama" else "n_positions"
    model = pico_model(model_type, bos=bos, config={positions: 24})
    text = " ".join(SENTENCES)
    nll, num_tokens, _ = text_nll(model, text, None, 0, 1)
    asked = windows(model.tokenizer, text, None, 24)
    assert max(len(read) + len(counted) for read, counted in asked) == 24
    assert num_tokens == len(encode(model.tokenizer, text)) - (1 if bos else len(asked))
    assert nll == pytest.approx(sum(own_nll(model, one).sum().item() for one in asked), rel=1e-4)
    assert sampled_texts(model, 0, 3).shape == (3, 24)
    sums, counted = measure_chunk(model, CovarianceSpec(tokens=100), [1], 0)
    assert counted == 24 * 5
    assert num_chunks(CovarianceSpec(tokens=100), 48, 24) == 1
    assert bool(torch.from_numpy(sums[1]).isfinite().all())
    contexts = generate_contexts(model, 6, 8, 0)
    longest = max(len(encode(model.tokenizer, context.replace("{}", "Peru"))) for context in contexts)
    assert longest <= max_context_tokens(model.tokenizer, 8) + len(encode(model.tokenizer, "Peru"))
