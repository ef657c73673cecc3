"""What is kept of sequences' beginnings is what the whole model computes."""

from __future__ import annotations

import pytest
import torch
from consortium.models.prefix_cache import run_prefixes
from consortium.models.prefix_tree import TOKENS_AT_ONCE
from support.pico import pico_model
from transformers.cache_utils import DynamicCache

#: Prefixes: within another, none, one that goes on, one that begins like others and goes on by itself.
SEQUENCES = [[5, 6, 7, 8, 9, 10], [11, 12, 13], [5, 6, 7, 17, 18, 19, 20, 21], [5, 30, 31, 32]]
SPLITS = [2, 0, 5, 3]


@pytest.mark.parametrize("at_once", [8, 512])
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gptj"])
def test_suffixes_after_the_layer_and_prefixes_above_it(
    model_type: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOKENS_AT_ONCE, "cpu", at_once)
    model, layer = pico_model(model_type), 0
    found = run_prefixes(model, SEQUENCES, SPLITS, layer)
    first = 0
    for number, (ids, split) in enumerate(zip(SEQUENCES, SPLITS, strict=True)):
        cache = DynamicCache()
        with torch.no_grad():
            ran = model.base(
                input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True, output_hidden_states=True
            )
        suffix_SV = ran.hidden_states[layer + 1][0, split:]
        torch.testing.assert_close(found.hidden_TV[first : first + len(suffix_SV)], suffix_SV, atol=2e-6, rtol=1e-5)
        first += len(suffix_SV)
        for block in (1, 2):
            both = cache.layers[block].keys, cache.layers[block].values
            for part, whole in zip(found.prefix[block], both, strict=True):
                torch.testing.assert_close(part[:, number, :split], whole[0, :, :split], atol=2e-6, rtol=1e-5)
                assert not part[:, number, split:].any()
    assert first == len(found.hidden_TV)
    assert sorted(found.prefix) == [1, 2]
