"""How long a text a model reads, and what reading one takes, from its config alone.

A limit is what the config says, less where rotary positions turn otherwise in longer texts (longrope): there the states
of a text's beginning would depend on its end, and what texts have in common could not be run once.

Shapes: T tokens of a text, S of them from an edit's subject on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from consortium.models.layouts import LLAMA_FAMILY, layout_of

#: No text is read that is longer, whatever a model's config says: who sees whom takes 1 GiB there.
MOST_TOKENS = 32768

#: The usual reason for a limit.
STATED = "max_position_embeddings in the model's config"
_LONGROPE = "in longer texts the model's positions turn otherwise, from their beginning on (longrope)"

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Reading:
    """How long a text a model reads, and what it takes.

    Attributes:
        max_tokens: tokens of a text, answer included, of which only the last is never read.
        reason: why no more, in words.
        num_heads: attention heads of a block.
        num_blocks: blocks.
        keeps_scores: attention makes scores of all pairs of tokens (eager); others compute them piecewise.
        keeps_weights: where a target is optimised, attention keeps its weights for the gradient.
    """

    max_tokens: int
    reason: str
    num_heads: int = 1
    num_blocks: int = 1
    keeps_scores: bool = False
    keeps_weights: bool = False

    def reading_bytes(self, num_tokens: int) -> int:
        """Memory of attention while one text is read: who sees whom, as truth and as numbers, and eager scores."""
        scores = 3 * self.num_heads * _FLOAT_BYTES if self.keeps_scores else 0
        return int(num_tokens**2 * (1 + _FLOAT_BYTES + scores))

    def optimising_bytes(self, texts: Sequence[tuple[int, int]], layer: int) -> int:
        """Memory of attention while an edit's target is optimised above a layer.

        Where every block keeps the weights with which the tokens from the subject on attend, these are most of it.

        Args:
            texts: T and S of the edit in each of its contexts.
            layer: the layer.
        """
        pairs = sum(tokens * suffix for tokens, suffix in texts)
        kept = self.num_heads * max(1, self.num_blocks - 1 - layer) if self.keeps_weights else 1
        return pairs * _FLOAT_BYTES * kept


def reading_of(config: Any) -> Reading:
    """What a config says: of a model that also sees pictures, its text part."""
    text_config = config.get_text_config()
    max_tokens, reason = _limit(text_config)
    is_eager = layout_of(config.model_type).attention == "eager"
    return Reading(
        max_tokens,
        reason,
        num_heads=int(text_config.num_attention_heads),
        num_blocks=int(text_config.num_hidden_layers),
        keeps_scores=is_eager,
        keeps_weights=is_eager or config.model_type in LLAMA_FAMILY,
    )


def _limit(text_config: Any) -> tuple[int, str]:
    stated = getattr(text_config, "max_position_embeddings", None)
    limits = [
        (MOST_TOKENS, "Consortium reads no longer texts" + ", and the model's config names no limit" * (not stated))
    ]
    if stated:
        limits.append((int(stated), STATED))
    for rope in _ropes(text_config):
        original = rope.get("original_max_position_embeddings")
        if rope.get("rope_type") == "longrope" and original:
            limits.append((int(original), _LONGROPE))
    return min(limits, key=lambda limit: limit[0])


def _ropes(text_config: Any) -> list[dict[str, Any]]:
    """How positions turn: one way, or one for each type of block."""
    ropes = getattr(text_config, "rope_parameters", None) or {}
    nested = [rope for rope in ropes.values() if isinstance(rope, dict)]
    return nested or [ropes]
