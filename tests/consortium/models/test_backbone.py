"""The backbone above a layer: by any architecture's own code and by hand, against the whole model."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.models.backbone import AnyBackbone, Backbone, backbone_above
from consortium.models.language import LanguageModel
from consortium.models.llama.buffers import BufferPool
from consortium.models.llama.upper_layers import FAMILY, LlamaBackbone
from consortium.models.packing import pack
from consortium.models.upper_layers import top_above
from support.pico import PICO_TYPES, pico_model


@dataclass(frozen=True)
class Sequence:
    ids: tuple[int, ...]
    subject: int
    num_read: int


#: With and without a prefix, prefixes in common and not; one token, all tokens and some tokens read; suffixes of like
#: length together and not.
ENDS = (
    Sequence((5, 6, 7, 8, 9, 10), 2, 2),
    Sequence((11, 12, 13), 0, 3),
    Sequence((5, 6, 7, 17, 18, 19, 20, 21), 5, 1),
    Sequence((5, 6, 17, 18), 2, 2),
    Sequence((5, 6, 7, 17, 18, 19, 20, 22), 6, 1),
    Sequence((11, 12, 14), 0, 1),
    Sequence((5, 6, 7, 8), 3, 1),
)
#: Architectures that know windows, and a config of theirs by which blocks have one and have none.
WINDOWED = ("mistral", "phi3", "qwen2", "qwen3", "gemma2", "gemma3_text", "gemma3")


def windows_of(window: int) -> dict[str, object]:
    return {
        "sliding_window": window,
        "use_sliding_window": True,
        "max_window_layers": 2,
        "sliding_window_pattern": 2,
    }


NO_PREFIX = (Sequence((5, 6, 7), 0, 1), Sequence((8, 9), 0, 2))


def drawn(purpose: str, num: int, width: int) -> torch.Tensor:
    return torch.randn(num, width, generator=torch_generator(0, purpose, num))


def whole_model(
    model: LanguageModel, ends: tuple[Sequence, ...], layer: int, delta_NV: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """States at the subjects before δ, and the final states that are read; one unpadded sequence at a time."""
    starts, finals = [], []
    for end, delta_V in zip(ends, delta_NV, strict=True):

        def add(_module: object, _args: object, out: object, end: Sequence = end, delta_V: torch.Tensor = delta_V):
            hidden = (out[0] if isinstance(out, tuple) else out).clone()
            starts.append(hidden[0, end.subject].detach().clone())
            hidden[0, end.subject] = hidden[0, end.subject] + delta_V
            return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

        handle = model.blocks[layer].register_forward_hook(add)
        finals.append(model.base(input_ids=torch.tensor([end.ids])).last_hidden_state[0, -end.num_read :])
        handle.remove()
    return torch.stack(starts), torch.cat(finals)


def assert_computes(backbone: Backbone, model: LanguageModel, ends: tuple[Sequence, ...], layer: int) -> None:
    """Two times, with different δ, since a backbone is run many times: states and gradients."""
    for purpose in ("first", "second"):
        delta_NV = drawn(purpose, len(ends), model.hidden_width).requires_grad_()
        start_NV, expected_MV = whole_model(model, ends, layer, delta_NV)
        grad_MV = drawn("grad", len(expected_MV), model.hidden_width)
        (expected_NV,) = torch.autograd.grad(expected_MV, delta_NV, grad_MV)
        final_MV, regularizer = backbone.run(delta_NV.detach())
        torch.testing.assert_close(backbone.start_NV, start_NV, atol=5e-6, rtol=1e-5)
        torch.testing.assert_close(final_MV, expected_MV.detach(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(regularizer(grad_MV), expected_NV, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("model_type", PICO_TYPES)
def test_states_and_gradients_are_the_whole_models(model_type: str, layer: int) -> None:
    model = pico_model(model_type)
    assert_computes(backbone_above(model, ENDS, layer), model, ENDS, layer)


@pytest.mark.parametrize("model_type", FAMILY)
def test_the_family_of_llama_runs_by_hand_and_by_its_own_code_alike(model_type: str) -> None:
    model = pico_model(model_type)
    assert isinstance(backbone_above(model, ENDS, 0), LlamaBackbone)
    top = top_above(model, pack([end.ids for end in ENDS], [end.subject for end in ENDS]), 0)
    assert_computes(AnyBackbone(ENDS, top), model, ENDS, 0)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("model_type", WINDOWED)
def test_windows_that_are_shorter_than_the_sequences(model_type: str, window: int) -> None:
    model = pico_model(model_type, num_layers=4, config=windows_of(window))
    for layer in (0, 1):
        backbone = backbone_above(model, ENDS, layer)
        assert_computes(backbone, model, ENDS, layer)
        some = [0, 1, 4, 6]
        assert_computes(backbone.take(some), model, tuple(ENDS[number] for number in some), layer)


@pytest.mark.parametrize("model_type", WINDOWED)
def test_a_window_that_no_sequence_is_longer_than_changes_no_bit(model_type: str) -> None:
    longest = max(len(end.ids) for end in ENDS)
    delta_NV, grad_MV = drawn("first", len(ENDS), 32), drawn("grad", sum(end.num_read for end in ENDS), 32)
    outcomes = []
    for window in (longest, 1000):
        final_MV, regularizer = backbone_above(pico_model(model_type, config=windows_of(window)), ENDS, 0).run(delta_NV)
        outcomes.append((final_MV, regularizer(grad_MV)))
    assert all(torch.equal(one, other) for one, other in zip(*outcomes, strict=True))


@pytest.mark.parametrize("model_type", [*FAMILY, "gpt2"])
@pytest.mark.parametrize("numbers", [[1, 3], [2], [0, 1, 2, 6], [4, 6]])
def test_some_of_the_sequences(model_type: str, numbers: list[int]) -> None:
    """Also after a run, which leaves keys of suffixes behind."""
    model = pico_model(model_type)
    backbone = backbone_above(model, ENDS, 0)
    backbone.run(drawn("before", len(ENDS), model.hidden_width))
    some = tuple(ENDS[number] for number in numbers)
    assert_computes(backbone.take(numbers), model, some, 0)


class Poisoned(BufferPool):
    """Memory that forgets at once what it is no longer asked to hold."""

    def __call__(self, name: Hashable, *shape: int, like: torch.Tensor) -> torch.Tensor:
        return super().__call__(name, *shape, like=like).fill_(torch.nan)


@pytest.mark.parametrize("arithmetic", [None, torch.bfloat16])
@pytest.mark.parametrize("model_type", FAMILY)
def test_memory_is_not_written_over_while_it_is_needed(model_type: str, arithmetic: torch.dtype | None) -> None:
    model = pico_model(model_type)
    backbone = backbone_above(model, ENDS, 0, arithmetic)
    assert isinstance(backbone, LlamaBackbone)
    poisoned = replace(backbone_above(model, ENDS, 0, arithmetic), buffer_pool=Poisoned())
    for numbers in (range(len(ENDS)), [0, 1, 2, 5, 6], [0, 1, 4]):
        backbone, poisoned = backbone.take(numbers), poisoned.take(numbers)
        delta_NV, grad_MV = drawn("delta", len(numbers), 32), drawn("grad", len(backbone.layout.read_M), 32)
        (final_MV, regularizer), (other_MV, other_regularizer) = backbone.run(delta_NV), poisoned.run(delta_NV)
        assert torch.equal(final_MV, other_MV)
        assert torch.equal(regularizer(grad_MV), other_regularizer(grad_MV))


def test_memory_does_not_grow_when_sequences_leave() -> None:
    """Sixty suffixes of two tokens, and a group of one sequence before and behind them, which leave first."""
    ends = (Sequence((5,), 0, 1), *[Sequence((6, number), 0, 1) for number in range(60)], Sequence((7, 8, 9, 10), 0, 1))
    model = pico_model("llama")
    backbone = backbone_above(model, ends, 0)
    assert isinstance(backbone, LlamaBackbone)
    backbone.run(drawn("all", len(ends), 32))[1](drawn("grad", len(ends), 32))
    held = backbone.buffer_pool.num_bytes
    backbone = backbone.take(range(1, 61))
    backbone.run(drawn("some", 60, 32))[1](drawn("grad", 60, 32))
    assert backbone.buffer_pool.num_bytes == held


def test_sequences_are_taken_in_their_order() -> None:
    with pytest.raises(AssertionError, match="ascend"):
        backbone_above(pico_model("llama"), ENDS, 0).take([1, 0])


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_sequences_without_any_prefix(model_type: str) -> None:
    model = pico_model(model_type)
    assert_computes(backbone_above(model, NO_PREFIX, 0), model, NO_PREFIX, 0)


@pytest.mark.parametrize("model_type", FAMILY)
def test_products_in_bfloat16_are_near_those_of_the_model(model_type: str) -> None:
    model = pico_model(model_type)
    delta_NV, grad_MV = drawn("first", len(ENDS), 32), drawn("grad", sum(end.num_read for end in ENDS), 32)
    exact_MV, exact_regularizer = backbone_above(model, ENDS, 0).run(delta_NV)
    rough_MV, rough_regularizer = backbone_above(model, ENDS, 0, torch.bfloat16).run(delta_NV)
    assert rough_MV.dtype == torch.float32
    assert not torch.equal(rough_MV, exact_MV)
    assert torch.cosine_similarity(rough_MV, exact_MV).min() > 0.999
    assert torch.cosine_similarity(rough_regularizer(grad_MV), exact_regularizer(grad_MV)).min() > 0.998
