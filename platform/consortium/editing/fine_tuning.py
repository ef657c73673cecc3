"""Fine-tuning of edited layers on some edits: Adam on changes Δ of the weights, kept within a bound.

    Δ_l ← clip(Δ_l − Adam(∂/∂Δ_l mean_e −log p(target_e | prompt_e)), −ε, ε)        for all edited layers at once

This is the editor `ft`: no targets, no keys, no key covariance, no history; the baseline that shows what editing spares
a model. All edited layers change together, so one exchange a round is all there is (`merge.exchange: round`). A party's
update is what it sends, dense, and updates are averaged, added or voted on. Nothing adds up to what one owner of all
edits would do, and edits do not leave their parties, so there is no `global`; one party with all the edits is such an
owner.

The model's weights are never touched: a layer's change is added to what the layer puts out, W·k + Δ·k. Blocks below the
first edited layer run once.

Source: Zhu et al. 2020 (arXiv 2012.00363), section 3, as the baseline FT+L of Meng et al. 2022, ROME (arXiv
2202.05262): the MLP's last projection of one layer, 25 steps at 5e-4, ε from 5e-5 (GPT-J) to 5e-4 (GPT-2 XL). What
differs: any number of layers; the mean over all of a target's tokens, not its first alone; all of a party's edits in
every step.

Shapes: E edits, M places where a loss is read, R rows, T columns, K key width, V value width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from consortium.data.edit import Edit
from consortium.editing.backend import Tuning
from consortium.models.hooks import PassOn, attention_mask_of, blocks_replaced, hooked
from consortium.models.language import LanguageModel
from consortium.models.packing import Packing, pack
from consortium.models.partial_forward import run_blocks
from consortium.models.tokens import document_start, encode, target_ids
from consortium.scenario.editor import FineTuningSpec

#: Layer → Δ [V, K].
Deltas = Mapping[int, torch.Tensor]
#: Adds the gradient of the edits' mean loss to the changes, and gives each edit's loss.
Descent = Callable[[Deltas], list[float]]

#: Tokens that run together; what a run keeps for its gradient grows with them.
_TOKENS_AT_ONCE = 1024


def descend(
    losses_and_gradient: Descent,
    shapes: Mapping[int, tuple[int, int]],
    settings: FineTuningSpec,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tuning:
    """Step until the mean loss is low enough, or the steps are spent; without edits nothing changes.

    It ends, too, where a loss is not finite, and says so by its losses.
    """
    deltas = {layer: torch.zeros(shape, dtype=dtype, device=device) for layer, shape in shapes.items()}
    for delta_VK in deltas.values():
        delta_VK.requires_grad_()
    optimiser = torch.optim.Adam(deltas.values(), lr=settings.learning_rate)
    losses: list[float] = []
    num_steps = 0
    for _ in range(settings.steps):
        optimiser.zero_grad()
        losses = losses_and_gradient(deltas)
        if not losses or sum(losses) / len(losses) < settings.stop_loss or not all(map(math.isfinite, losses)):
            break
        optimiser.step()
        num_steps += 1
        if settings.max_change is not None:
            for delta_VK in deltas.values():
                delta_VK.data.clamp_(-settings.max_change, settings.max_change)
    return Tuning({layer: delta_VK.detach().cpu() for layer, delta_VK in deltas.items()}, num_steps, tuple(losses))


@dataclass(frozen=True)
class _Batch:
    """Edits whose prompts with their targets run together.

    Attributes:
        rows: prompts and targets but for the targets' last tokens.
        hidden_RTV: their hidden states at the input of the first edited block; None where that is block 0.
        places_M: rows and columns at which target tokens are read.
        token_M: these tokens.
        edit_M: the edit that each is of.
        weight_M: its weight in the edit's loss.
        numbers: the edits' own numbers.
    """

    rows: Packing
    hidden_RTV: torch.Tensor | None
    places_M: tuple[torch.Tensor, torch.Tensor]
    token_M: torch.Tensor
    edit_M: torch.Tensor
    weight_M: torch.Tensor
    numbers: tuple[int, ...]


def language_losses(model: LanguageModel, edits: Sequence[Edit], layers: Sequence[int]) -> Descent:
    """The loss of a language model: mean negative log likelihood of a target's tokens after the bare prompt.

    It is the mean over the prompt with and without the token that begins documents, where those are two.
    """
    batches = _batches(model, edits, min(layers))

    def losses_and_gradient(deltas: Deltas) -> list[float]:
        losses = [0.0] * len(edits)
        for batch in batches:
            losses_E = _losses(model, batch, deltas)
            (losses_E.sum() / len(edits)).backward()
            for number, loss in zip(batch.numbers, losses_E.tolist(), strict=True):
                losses[number] = loss
        return losses

    return losses_and_gradient


def _batches(model: LanguageModel, edits: Sequence[Edit], first_layer: int) -> list[_Batch]:
    """Edits in their order, as many together as there is room for; by the edits alone."""
    batches: list[_Batch] = []
    starts = (True, False) if document_start(model.tokenizer) else (False,)
    waiting: list[_Asked] = []
    for number, edit in enumerate(edits):
        prompts = [encode(model.tokenizer, edit.text, with_start) for with_start in starts]
        waiting.append(_Asked(number, prompts, target_ids(model.tokenizer, edit.text, edit.target_new, edit.join)))
        num_tokens = sum(len(ids) + len(each.target) - 1 for each in waiting for ids in each.prompts)
        if num_tokens >= _TOKENS_AT_ONCE or number == len(edits) - 1:
            batches.append(_batch(model, waiting, first_layer))
            waiting = []
    return batches


class _Asked(NamedTuple):
    """An edit: its number, its prompts, and the target that is to follow each of them."""

    number: int
    prompts: list[list[int]]
    target: list[int]


def _batch(model: LanguageModel, asked: Sequence[_Asked], first_layer: int) -> _Batch:
    sequences = [(place, prompt) for place, each in enumerate(asked) for prompt in each.prompts]
    rows = pack([[*prompt, *asked[place].target[:-1]] for place, prompt in sequences])
    read = [
        (*rows.place(row, len(prompt) - 1 + step), token, place, 1 / (len(target) * len(asked[place].prompts)))
        for row, (place, prompt) in enumerate(sequences)
        for target in [asked[place].target]
        for step, token in enumerate(target)
    ]
    row_M, column_M, token_M, edit_M, weight_M = (
        torch.tensor(each, device=model.device) for each in zip(*read, strict=True)
    )
    hidden_RTV = run_blocks(model, rows, range(first_layer)) if first_layer else None
    numbers = tuple(each.number for each in asked)
    return _Batch(rows, hidden_RTV, (row_M, column_M), token_M, edit_M, weight_M, numbers)


def _losses(model: LanguageModel, batch: _Batch, deltas: Deltas) -> torch.Tensor:
    """Loss of each edit [E] with its graph."""
    first, as_tuple = min(deltas), model.layout.returns_tuple
    blocks = list(model.blocks)
    if first:
        blocks[:first] = [*[PassOn(as_tuple)] * (first - 1), PassOn(as_tuple, batch.hidden_RTV)]
    ids_RT, positions_RT, mask_RTT = batch.rows.tensors()
    inputs = {
        "input_ids": ids_RT.to(model.device),
        "attention_mask": attention_mask_of(model, mask_RTT, positions_RT),
        "position_ids": positions_RT.to(model.device),
    }
    handles = [model.projection(layer).register_forward_hook(_adds(delta_VK)) for layer, delta_VK in deltas.items()]
    with torch.enable_grad(), hooked(handles), blocks_replaced(model, blocks):
        final_MV = model.base(**inputs, use_cache=False).last_hidden_state[batch.places_M]
        log_MN = torch.log_softmax(model.logits(final_MV).float(), dim=-1)
        nll_M = -log_MN.gather(1, batch.token_M[:, None])[:, 0]
        return nll_M.new_zeros(len(batch.numbers)).index_add(0, batch.edit_M, nll_M * batch.weight_M)


def _adds(delta_VK: torch.Tensor) -> Callable[[Any, Any, torch.Tensor], torch.Tensor]:
    """A hook that adds Δ·k to what a projection puts out."""

    def add(_module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = args[0].to(delta_VK.dtype) @ delta_VK.T
        return output + added.to(output.dtype)

    return add
