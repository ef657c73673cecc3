"""Keys and residuals of edits under the model's present weights.

MEMIT (arXiv 2210.07229), section 4.3 and the released ``compute_ks``: a key is the input of the MLP's last
projection at the subject's last token, averaged over contexts; the residual is what the hidden state after the
last edited layer still lacks to be the target.

Shapes: E edits, N prompts (an edit in a context), R packed rows, T columns, K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from consortium.editing.backend import Targets
from consortium.editing.contexts import BARE, context_weights
from consortium.facts.edit import Edit
from consortium.models.language import LanguageModel
from consortium.models.packing import Packing, pack
from consortium.models.segments import run_bottom
from consortium.models.tokens import subject_last_token

#: Tokens that run through the model at once; bounds memory.
_TOKENS_AT_ONCE = 4096


def mean_keys(
    model: LanguageModel, edits: Sequence[Edit], contexts: Sequence[str], layers: Sequence[int]
) -> dict[int, torch.Tensor]:
    """Keys [K, E] float64 on the CPU for each of ``layers``: weighted means over contexts."""
    sequences = [_up_to_subject(model, edit, context) for edit in edits for context in contexts]
    keys_NK = {layer: torch.empty(len(sequences), model.key_width(layer), dtype=torch.float64) for layer in layers}
    for numbers, packing, ends in _batches(sequences):

        def read(layer: int, keys_RTK: torch.Tensor, numbers: range = numbers, ends: Ends = ends) -> None:
            keys_NK[layer][numbers] = keys_RTK[ends].double().cpu()

        run_bottom(model, packing, max(layers), layers, read)
    weights = context_weights(len(contexts))
    return {
        layer: torch.einsum("ecK,c->Ke", keys.view(len(edits), len(contexts), keys.shape[1]), weights)
        for layer, keys in keys_NK.items()
    }


def residuals(model: LanguageModel, edits: Sequence[Edit], targets: Targets, layer: int) -> torch.Tensor:
    """What the bare prompts' hidden states lack to be their targets, as a change [V, E] of ``layer``'s output.

    Where a block norms the projection's output before adding it (Gemma), the change is taken back through
    that norm (see :meth:`LanguageModel.output_scale`).
    """
    sequences = [_up_to_subject(model, edit, BARE) for edit in edits]
    hidden_EV = torch.empty(len(edits), model.hidden_width, dtype=torch.float64)
    scale_EV = torch.ones_like(hidden_EV)
    # The projection is run after the model has: to run it from within its own hook would call that hook again.
    read_layers = [] if model.layout.output_norm is None else [layer]
    for numbers, packing, ends in _batches(sequences):
        keys_RTK: dict[int, torch.Tensor] = {}
        hidden_RTV = run_bottom(model, packing, targets.layer, read_layers, keys_RTK.__setitem__)
        hidden_EV[numbers] = hidden_RTV[ends].double().cpu()
        for at, keys in keys_RTK.items():
            scale_EV[numbers] = model.output_scale(at, model.projection(at)(keys[ends])).double().cpu()
    return ((targets.vectors_EV.double() - hidden_EV) / scale_EV).T.contiguous()


def _up_to_subject(model: LanguageModel, edit: Edit, context: str) -> list[int]:
    ids, subject = subject_last_token(model.tokenizer, edit.prompt, edit.subject, context)
    return list(ids[: subject + 1])


Ends = tuple[list[int], list[int]]


def _batches(sequences: Sequence[Sequence[int]]) -> Iterator[tuple[range, Packing, Ends]]:
    """Sequences in packed batches: their numbers, their layout, and rows and columns of their last tokens."""
    start = 0
    while start < len(sequences):
        end, num_tokens = start + 1, len(sequences[start])
        while end < len(sequences) and num_tokens + len(sequences[end]) <= _TOKENS_AT_ONCE:
            num_tokens += len(sequences[end])
            end += 1
        chosen = sequences[start:end]
        packing = pack(chosen)
        places = [packing.place(number, -1) for number in range(len(chosen))]
        yield range(start, end), packing, ([row for row, _ in places], [column for _, column in places])
        start = end
