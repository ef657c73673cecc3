"""Running a model's lower blocks gives what the whole model gives, wherever the run begins."""

from __future__ import annotations

import pytest
import torch
from consortium.models.language import LanguageModel
from consortium.models.packing import pack
from consortium.models.partial_forward import run_blocks, run_blocks_to, run_lower_layers
from consortium.models.prefix_tree import build_trees
from support.pico import PICO_TYPES, pico_model

SEQUENCES = [[5, 6, 7, 8, 9, 10], [11, 12, 13], [5, 6, 7, 17, 18, 19, 20, 21]]


def after_blocks(model: LanguageModel, ids: list[int]) -> list[torch.Tensor]:
    """Hidden states [T, V] after every block of one unpadded sequence."""
    blocks: list[torch.Tensor] = []
    handles = [
        block.register_forward_hook(lambda _m, _a, out: blocks.append(out[0] if isinstance(out, tuple) else out))
        for block in model.blocks
    ]
    with torch.no_grad():
        model.base(input_ids=torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return [hidden[0] for hidden in blocks]


@pytest.mark.parametrize("model_type", PICO_TYPES)
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_bottom_gives_the_hidden_states_and_keys_of_the_whole_model(model_type: str, layer: int) -> None:
    model, packing = pico_model(model_type), pack(SEQUENCES)
    keys: dict[int, torch.Tensor] = {}
    hidden_RTV = run_lower_layers(model, packing, layer, [layer], keys.__setitem__)
    for number, ids in enumerate(SEQUENCES):
        seen = hidden_RTV[packing.row_N[number], packing.columns(number)]
        torch.testing.assert_close(seen, after_blocks(model, ids)[layer], atol=1e-5, rtol=1e-5)
    assert keys[layer].shape == (packing.num_rows, packing.width, model.key_width(layer))
    assert len(model.blocks) == 3


@pytest.mark.parametrize("model_type", PICO_TYPES)
@pytest.mark.parametrize("start", [1, 2])
def test_going_on_from_hidden_states_gives_the_bits_of_one_run(model_type: str, start: int) -> None:
    model = pico_model(model_type)
    (trees,) = build_trees(SEQUENCES, 100)
    whole = run_blocks(model, trees, range(3))
    lower = run_blocks(model, trees, range(start))
    assert torch.equal(run_blocks(model, trees, range(start, 3), lower), whole)
    assert not torch.equal(run_blocks(model, trees, range(start, 3), lower + 1e-3), whole)


@pytest.mark.parametrize("model_type", PICO_TYPES)
@pytest.mark.parametrize("blocks", [range(3), range(1, 3), range(2, 3)])
def test_at_some_places_only_hidden_states_and_keys_are_the_same(model_type: str, blocks: range) -> None:
    model = pico_model(model_type)
    (trees,) = build_trees(SEQUENCES, 100)
    start = run_blocks(model, trees, range(blocks[0])) if blocks[0] else None
    everywhere: dict[int, torch.Tensor] = {}
    there: dict[int, torch.Tensor] = {}
    hidden_RTV = run_blocks(model, trees, blocks, start, blocks, everywhere.__setitem__)
    ends = trees.ends()
    hidden_NV = run_blocks_to(model, trees, blocks, ends, start, blocks, there.__setitem__)
    torch.testing.assert_close(hidden_NV, hidden_RTV[ends], atol=4e-6, rtol=1e-5)
    assert list(there) == list(blocks)
    for layer, keys_NK in there.items():
        torch.testing.assert_close(keys_NK, everywhere[layer][ends], atol=2e-6, rtol=1e-5)


def test_the_last_blocks_mlp_runs_for_the_wanted_places_alone() -> None:
    model = pico_model("llama")
    (trees,) = build_trees(SEQUENCES, 100)
    seen: list[torch.Size] = []
    handle = model.projection(2).register_forward_hook(lambda _m, _a, out: seen.append(out.shape))
    run_blocks_to(model, trees, range(3), trees.ends())
    handle.remove()
    assert seen == [(3, model.hidden_width)]


def test_a_place_may_be_asked_for_twice() -> None:
    model = pico_model("llama")
    (trees,) = build_trees([*SEQUENCES, SEQUENCES[0]], 100)
    hidden_NV = run_blocks_to(model, trees, range(3), trees.ends())
    first, second = (place for place, number in enumerate(trees.numbers) if number in (0, 3))
    assert torch.equal(hidden_NV[first], hidden_NV[second])
    assert len(hidden_NV.unique(dim=0)) == 3


@pytest.mark.parametrize("places_only", [False, True])
def test_the_model_is_put_back_when_a_run_fails(places_only: bool) -> None:
    model = pico_model("llama")
    (trees,) = build_trees(SEQUENCES, 100)
    parts = [name for name, _ in model.model.named_modules()]

    def fail(_layer: int, _keys: torch.Tensor) -> None:
        raise RuntimeError("reader failed")

    def run() -> None:
        if places_only:
            run_blocks_to(model, trees, range(2), trees.ends(), None, [1], fail)
        else:
            run_lower_layers(model, trees, 0, [0], fail)

    with pytest.raises(RuntimeError, match="reader failed"):
        run()
    assert [name for name, _ in model.model.named_modules()] == parts
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.model.modules())
