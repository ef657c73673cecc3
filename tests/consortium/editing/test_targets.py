"""Targets: the batched optimisation against its naive twin, on every architecture and on the real model.

Shapes: E edits, V hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from consortium.data.builtin import builtin_edits
from consortium.data.edit import Edit
from consortium.editing import targets as targets_module
from consortium.editing.prompts import bare_prompts
from consortium.editing.targets import optimise_targets
from consortium.models.language import LanguageModel
from consortium.models.tokens import target_ids
from consortium.scenario.editor import TargetSpec
from support.pico import PICO_TYPES, pico_model

from benchmarks.naive.targets import optimise_targets_naively

#: Subject at the start, in the middle and at the end; of one token and of many; of letters outside ASCII.
EDITS = (
    Edit("start", "r", "Paris", "{} is the capital of", "Peru"),
    Edit("middle", "r", "Eiffel Tower", "The oldest tower, the {}, stands in the city of", "Rome and London"),
    Edit("end", "r", "Zoë Ōé", "The mother tongue of {}", "日本語"),
    Edit("short", "r", "Lima", "People say {} is", "in France"),
)
CONTEXTS = ("{}", "The river runs through the city. {}", "I was born in London. {}")
ENDS_IN_ITS_SUBJECT = 2


@pytest.fixture
def drops(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """Fills with the edits that leave a batch before its end, each time some do."""
    seen: list[set[int]] = []
    drop = targets_module._Optimisation._drop

    def spy(self: targets_module._Optimisation, finished: set[int]) -> None:
        seen.append(finished)
        drop(self, finished)

    monkeypatch.setattr(targets_module._Optimisation, "_drop", spy)
    return seen


def start_EV(model: LanguageModel, edits: Sequence[Edit], layer: int) -> torch.Tensor:
    """Hidden states at the subjects' last tokens after a block, in the mean of an edit's bare prompts, one by one."""
    found: list[torch.Tensor] = []
    for edit in edits:
        seen: list[torch.Tensor] = []
        for prompt in bare_prompts(model.tokenizer, edit):

            def keep(_module: object, _args: object, output: object, subject: int = prompt.subject) -> None:
                hidden = output[0] if isinstance(output, tuple) else output
                seen.append(hidden[0, subject].float())  # noqa: B023  (the hook goes before the loop does)

            handle = model.blocks[layer].register_forward_hook(keep)
            with torch.no_grad():
                model.model(input_ids=torch.tensor([prompt.ids]))
            handle.remove()
        found.append(torch.stack(seen).mean(0))
    return torch.stack(found)


def relative_E(found_EV: torch.Tensor, expected_EV: torch.Tensor) -> torch.Tensor:
    return (found_EV - expected_EV).norm(dim=1) / expected_EV.norm(dim=1)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("model_type", PICO_TYPES)
def test_the_batch_reaches_what_one_edit_at_a_time_does(model_type: str, layer: int, drops: list[set[int]]) -> None:
    """The loss at which to stop is met by one edit in mid-run, so that edits finish at different steps."""
    model = pico_model(model_type)
    settings = TargetSpec(steps=9, learning_rate=0.3, clamp=4.0, stop_loss=0.0)
    third = optimise_targets_naively(model, EDITS, CONTEXTS, layer, settings.model_copy(update={"steps": 4}))
    settings = settings.model_copy(update={"stop_loss": third.losses[ENDS_IN_ITS_SUBJECT] + 1e-3})
    batched = optimise_targets(model, EDITS, CONTEXTS, layer, settings)
    naive = optimise_targets_naively(model, EDITS, CONTEXTS, layer, settings)
    assert drops, "no edit left the batch early"
    assert 0 < batched.num_steps[ENDS_IN_ITS_SUBJECT] <= 3
    assert batched.num_steps == naive.num_steps
    assert len(set(batched.num_steps)) > 1
    assert batched.losses == pytest.approx(naive.losses, rel=1e-4)
    assert relative_E(batched.vectors_EV, naive.vectors_EV).max() <= 1e-4
    base_EV = start_EV(model, EDITS, layer)
    moved = torch.tensor([number for number in range(len(EDITS)) if batched.num_steps[number] > 0])
    batched_delta_EV, naive_delta_EV = batched.vectors_EV - base_EV, naive.vectors_EV - base_EV
    assert (batched_delta_EV - naive_delta_EV)[moved].norm(dim=1).max() <= 1e-4 * base_EV.norm(dim=1).min()


def test_edits_leave_one_after_another_and_the_rest_go_on(drops: list[set[int]]) -> None:
    model = pico_model("llama")
    settings = TargetSpec(steps=12, learning_rate=0.3, clamp=4.0, stop_loss=6.0)
    batched = optimise_targets(model, EDITS, CONTEXTS, 0, settings)
    naive = optimise_targets_naively(model, EDITS, CONTEXTS, 0, settings)
    assert len(drops) >= 2
    assert not drops[0] & drops[1]
    assert batched.num_steps == naive.num_steps
    assert len(set(batched.num_steps)) >= 3
    assert relative_E(batched.vectors_EV, naive.vectors_EV).max() <= 1e-4


@pytest.mark.slow
def test_real_edits_on_the_real_model(smollm2: LanguageModel, drops: list[set[int]]) -> None:
    """Compared are the changes, not the targets: those begin at the same hidden state."""
    edits = builtin_edits()[:: len(builtin_edits()) // 8][:8]
    contexts, settings = ("{}", "The weather was fine. {}"), TargetSpec(steps=4, stop_loss=2.0)
    batched = optimise_targets(smollm2, edits, contexts, 7, settings)
    naive = optimise_targets_naively(smollm2, edits, contexts, 7, settings)
    base_EV = start_EV(smollm2, edits, 7)
    cosine_E = torch.cosine_similarity(batched.vectors_EV - base_EV, naive.vectors_EV - base_EV)
    assert cosine_E.min() >= 0.99
    assert relative_E(batched.vectors_EV, naive.vectors_EV).max() <= 1e-3
    assert batched.num_steps == naive.num_steps
    assert drops


def test_an_edit_stops_when_the_model_says_the_new_target() -> None:
    """Its head made six times as sharp, a pico model can be sure; z itself, put through norm and head, says so."""
    model, layer = pico_model("llama"), 2
    model.model.get_parameter("lm_head.weight").mul_(6)
    edits = [Edit("one", "r", "Zoë Ōé", "The mother tongue of {}", "city")]
    settings = TargetSpec(steps=60, clamp=50.0, weight_decay=0.0, kl_weight=0.0)
    first = optimise_targets(model, edits, ("{}",), layer, settings.model_copy(update={"steps": 1}))
    assert first.num_steps == (0,)
    torch.testing.assert_close(first.vectors_EV, start_EV(model, edits, layer), atol=1e-5, rtol=1e-5)
    targets = optimise_targets(model, edits, ("{}",), layer, settings)
    assert 0 < targets.num_steps[0] < 59
    assert targets.losses[0] < settings.stop_loss < first.losses[0]
    logits_N = model.logits(model.norm(targets.vectors_EV[0]))
    (token,) = target_ids(model.tokenizer, edits[0].text, edits[0].target_new)
    assert -logits_N.log_softmax(-1)[token].item() == pytest.approx(targets.losses[0], rel=1e-3)


@pytest.mark.parametrize("clamp", [0.1, 0.5])
def test_no_change_is_longer_than_the_clamp(clamp: float) -> None:
    model, layer = pico_model("gpt2"), 1
    settings = TargetSpec(steps=6, learning_rate=0.5, clamp=clamp)
    targets = optimise_targets(model, EDITS, CONTEXTS, layer, settings)
    base_EV = start_EV(model, EDITS, layer)
    share_E = (targets.vectors_EV - base_EV).norm(dim=1) / base_EV.norm(dim=1)
    assert share_E.max() <= clamp * (1 + 1e-5)
    assert (share_E > 0.999 * clamp).sum() >= 2, "the steps are so long that the clamp should be met"


def test_batches_change_no_target(monkeypatch: pytest.MonkeyPatch) -> None:
    model, settings = pico_model("llama"), TargetSpec(steps=6, stop_loss=6.0)
    whole = optimise_targets(model, EDITS, CONTEXTS, 1, settings)
    batches = []
    of_rows = targets_module._Optimisation.__init__

    def spy(self: targets_module._Optimisation, model: LanguageModel, rows: Sequence, *rest: object) -> None:
        batches.append(sorted({row.edit for row in rows}))
        of_rows(self, model, rows, *rest)

    monkeypatch.setattr(targets_module._Optimisation, "__init__", spy)
    monkeypatch.setattr(targets_module, "_TOKENS_AT_ONCE", 90)
    parts = optimise_targets(model, EDITS, CONTEXTS, 1, settings)
    assert len(batches) > 1
    in_order = sorted(edit for batch in batches for edit in batch)
    assert in_order == [0, 1, 2, 3], "an edit is in one batch, with all its rows"
    assert parts.num_steps == whole.num_steps
    assert relative_E(parts.vectors_EV, whole.vectors_EV).max() <= 1e-4


def test_an_edits_target_does_not_depend_on_the_others() -> None:
    model, settings = pico_model("qwen2"), TargetSpec(steps=6, stop_loss=6.0)
    together = optimise_targets(model, EDITS, CONTEXTS, 1, settings)
    for number, edit in enumerate(EDITS):
        alone = optimise_targets(model, [edit], CONTEXTS, 1, settings)
        assert alone.num_steps == together.num_steps[number : number + 1]
        assert relative_E(alone.vectors_EV, together.vectors_EV[number : number + 1]).max() <= 1e-4
    backwards = optimise_targets(model, EDITS[::-1], CONTEXTS, 1, settings)
    assert relative_E(backwards.vectors_EV.flip(0), together.vectors_EV).max() <= 1e-4


def test_equal_calls_give_equal_bits_and_the_model_stays_as_it_is() -> None:
    model, settings = pico_model("gemma2"), TargetSpec(steps=4)
    before, state = model.weights_hash(), torch.get_rng_state()
    first = optimise_targets(model, EDITS, CONTEXTS, 1, settings)
    second = optimise_targets(model, EDITS, CONTEXTS, 1, settings)
    assert torch.equal(first.vectors_EV, second.vectors_EV)
    assert (first.num_steps, first.losses) == (second.num_steps, second.losses)
    assert model.weights_hash() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in model.model.modules())
    assert (first.layer, first.vectors_EV.dtype, first.vectors_EV.shape) == (1, torch.float32, (4, 32))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_of_half_precision_gives_finite_targets_near_those_of_full_precision(dtype: torch.dtype) -> None:
    settings = TargetSpec(steps=3, learning_rate=0.1)
    exact = optimise_targets(pico_model("llama"), EDITS, CONTEXTS, 1, settings)
    rough = optimise_targets(pico_model("llama", dtype=dtype), EDITS, CONTEXTS, 1, settings)
    assert rough.vectors_EV.isfinite().all()
    assert relative_E(rough.vectors_EV, exact.vectors_EV).max() <= 0.2
    assert rough.losses == pytest.approx(exact.losses, rel=0.1)


def test_products_in_bfloat16_give_targets_near_the_models_own() -> None:
    model, settings = pico_model("llama"), TargetSpec(steps=3, learning_rate=0.1)
    exact = optimise_targets(model, EDITS, CONTEXTS, 1, settings)
    rough = optimise_targets(model, EDITS, CONTEXTS, 1, settings.model_copy(update={"arithmetic": "bfloat16"}))
    assert rough.vectors_EV.dtype == torch.float32
    assert not torch.equal(rough.vectors_EV, exact.vectors_EV)
    assert relative_E(rough.vectors_EV, exact.vectors_EV).max() <= 0.2
    assert rough.losses == pytest.approx(exact.losses, rel=0.1)


def test_batches_hold_whole_edits_of_like_length() -> None:
    lengths = {0: 9, 1: 2, 2: 8, 3: 3}
    rows = [
        targets_module.TargetRow(edit, (1,) * (length + 4), 4, (1,)) for edit, length in lengths.items() for _ in "ab"
    ]
    batches = targets_module._batches(rows, 4, 20)
    assert [[row.edit for row in batch] for batch in batches] == [[1, 1, 3, 3], [2, 2], [0, 0]]


def test_a_gpus_batch_follows_from_its_memory_and_the_models_shape() -> None:
    eight_billion = (32, 4096, 14336)
    assert targets_module._gpu_tokens(24 * 2**30, *eight_billion) == 512
    assert 1000 < targets_module._gpu_tokens(80 * 2**30, *eight_billion) < 4096
    assert targets_module._gpu_tokens(80 * 2**30, 30, 576, 1536) == 4096


def test_no_edits_have_no_targets() -> None:
    targets = optimise_targets(pico_model("llama"), [], CONTEXTS, 1, TargetSpec())
    assert targets.vectors_EV.shape == (0, 32)
    assert targets.num_steps == targets.losses == ()
