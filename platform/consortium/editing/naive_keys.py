"""The naive twin of :mod:`consortium.editing.keys`: one edit, one context, one whole run of the model at a time.

This is how the papers' code does it (MEMIT's released ``compute_ks``), kept as the oracle of tests and as the
baseline of benchmarks: no batch, whole prompts, all layers, logits at every position.

Shapes: E edits, T tokens, K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from consortium.editing.backend import Targets
from consortium.editing.contexts import BARE, context_weights
from consortium.facts.edit import Edit
from consortium.models.language import LanguageModel
from consortium.models.tokens import subject_last_token


@dataclass(frozen=True)
class _Seen:
    """What passes at the subject's last token of one prompt, layer → float64 on the CPU.

    Attributes:
        keys: input [K] of the MLP's last projection.
        outputs: its output [V].
        hidden: hidden state [V] after the block.
    """

    keys: dict[int, torch.Tensor]
    outputs: dict[int, torch.Tensor]
    hidden: dict[int, torch.Tensor]


def naive_keys(
    model: LanguageModel, edits: Sequence[Edit], contexts: Sequence[str], layers: Sequence[int]
) -> dict[int, torch.Tensor]:
    """The same as :func:`consortium.editing.keys.mean_keys`, prompt by prompt."""
    weights = context_weights(len(contexts)).tolist()
    keys_KE = {layer: torch.zeros(model.key_width(layer), len(edits), dtype=torch.float64) for layer in layers}
    for place, edit in enumerate(edits):
        for context, weight in zip(contexts, weights, strict=True):
            seen = _run(model, edit, context, layers)
            for layer in layers:
                keys_KE[layer][:, place] += weight * seen.keys[layer]
    return keys_KE


def naive_residuals(model: LanguageModel, edits: Sequence[Edit], targets: Targets, layer: int) -> torch.Tensor:
    """The same as :func:`consortium.editing.keys.residuals`, prompt by prompt."""
    residuals_VE = torch.zeros(model.hidden_width, len(edits), dtype=torch.float64)
    for place, edit in enumerate(edits):
        seen = _run(model, edit, BARE, {layer, targets.layer})
        missing_V = targets.vectors_EV[place].double() - seen.hidden[targets.layer]
        residuals_VE[:, place] = model.output_change(layer, seen.outputs[layer][None], missing_V[None])[0]
    return residuals_VE


@torch.no_grad()
def _run(model: LanguageModel, edit: Edit, context: str, layers: Sequence[int] | set[int]) -> _Seen:
    ids, subject = subject_last_token(model.tokenizer, edit.prompt, edit.subject, context)
    seen = _Seen({}, {}, {})

    def there(states: Any) -> torch.Tensor:
        hidden_TV: torch.Tensor = states[0][0] if isinstance(states, tuple) else states[0]
        return hidden_TV[subject].double().cpu()

    handles = []
    for layer in layers:

        def at_projection(_module: Any, args: Any, output: Any, layer: int = layer) -> None:
            seen.keys[layer], seen.outputs[layer] = there(args), there(output)

        def at_block(_module: Any, _args: Any, output: Any, layer: int = layer) -> None:
            seen.hidden[layer] = there(output)

        handles.append(model.projection(layer).register_forward_hook(at_projection))
        handles.append(model.blocks[layer].register_forward_hook(at_block))
    try:
        model.model(input_ids=torch.tensor([ids], device=model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return seen
