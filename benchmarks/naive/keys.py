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
from consortium.data.edit import Edit
from consortium.editing.backend import Targets
from consortium.editing.contexts import context_weights
from consortium.editing.prompts import Prompt, bare_prompts, prompts_in
from consortium.models.language import LanguageModel


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
        bare = bare_prompts(model.tokenizer, edit)
        others = prompts_in(model.tokenizer, edit, contexts[1:])
        shares = [*((each, weights[0] / len(bare)) for each in bare), *zip(others, weights[1:], strict=True)]
        for prompt, weight in shares:
            seen = _run(model, prompt, layers)
            for layer in layers:
                keys_KE[layer][:, place] += weight * seen.keys[layer]
    return keys_KE


def naive_residuals(model: LanguageModel, edits: Sequence[Edit], targets: Targets, layer: int) -> torch.Tensor:
    """The same as :func:`consortium.editing.keys.residuals`, prompt by prompt."""
    residuals_VE = torch.zeros(model.hidden_width, len(edits), dtype=torch.float64)
    for place, edit in enumerate(edits):
        seen = [_run(model, prompt, {layer, targets.layer}) for prompt in bare_prompts(model.tokenizer, edit)]
        hidden_V = torch.stack([each.hidden[targets.layer] for each in seen]).mean(0)
        output_V = torch.stack([each.outputs[layer] for each in seen]).mean(0)
        missing_V = targets.vectors_EV[place].double() - hidden_V
        residuals_VE[:, place] = model.output_change(layer, output_V[None], missing_V[None])[0]
    return residuals_VE


@torch.no_grad()
def _run(model: LanguageModel, prompt: Prompt, layers: Sequence[int] | set[int]) -> _Seen:
    seen = _Seen({}, {}, {})

    def there(states: Any) -> torch.Tensor:
        hidden_TV: torch.Tensor = states[0][0] if isinstance(states, tuple) else states[0]
        return hidden_TV[prompt.subject].double().cpu()

    handles = []
    for layer in layers:

        def at_projection(_module: Any, args: Any, output: Any, layer: int = layer) -> None:
            seen.keys[layer], seen.outputs[layer] = there(args), there(output)

        def at_block(_module: Any, _args: Any, output: Any, layer: int = layer) -> None:
            seen.hidden[layer] = there(output)

        handles.append(model.projection(layer).register_forward_hook(at_projection))
        handles.append(model.blocks[layer].register_forward_hook(at_block))
    try:
        model.model(input_ids=torch.tensor([prompt.ids], device=model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return seen
