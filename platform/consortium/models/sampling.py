"""Sampling text from a language model with a generator of one's own (transformers' generate draws globally).

Shapes: B texts, T tokens.
"""

from __future__ import annotations

import torch
from transformers.cache_utils import DynamicCache

from consortium.models.language import LanguageModel

#: Ordinary ways to begin a text; sampled texts start with one of them.
OPENERS = (
    "The", "In", "A", "This", "It", "When", "For", "As", "On", "At", "He", "She", "They", "We", "There", "One",
    "After", "During", "While", "Many", "Most", "Some", "If", "But", "According to", "The first", "In the",
    "Because", "Although", "Since", "New", "From", "By", "With", "How", "What", "Who", "Today", "People", "Research",
)  # fmt: skip


@torch.inference_mode()
def sample_tokens(
    model: LanguageModel, start_ids: list[list[int]], num_tokens: int, generator: torch.Generator, top_k: int = 50
) -> torch.Tensor:
    """Continue each start until it is ``num_tokens`` long; [B, num_tokens] ids on the CPU.

    Draws from the ``top_k`` likeliest tokens at temperature 1. Draws are made on the CPU in float64, so
    that one generator gives the same text wherever the logits agree.
    """
    longest = max(len(ids) for ids in start_ids)
    assert num_tokens >= longest
    ids_BT = torch.zeros(len(start_ids), num_tokens, dtype=torch.long)
    known_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    for row, ids in enumerate(start_ids):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        known_BT[row, : len(ids)] = True
    cache = DynamicCache()
    for column in range(num_tokens - 1):
        step = ids_BT[:, column : column + 1].to(model.device)
        hidden = model.base(input_ids=step, past_key_values=cache, use_cache=True).last_hidden_state[:, -1]
        values, candidates = model.logits(hidden).float().topk(top_k, dim=-1)
        chances = values.double().cpu().softmax(-1)
        drawn = candidates.cpu().gather(1, torch.multinomial(chances, 1, generator=generator))[:, 0]
        ids_BT[:, column + 1] = torch.where(known_BT[:, column + 1], ids_BT[:, column + 1], drawn)
    return ids_BT
