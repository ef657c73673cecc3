"""Keys and residuals of edits under the model's present weights.

MEMIT (arXiv 2210.07229), section 4.3 and the released ``compute_ks``: a key is the input of the MLP's last
projection at the subject's last token, averaged over contexts; the residual is what the hidden state after the
last edited layer still lacks to be the target.

Prompts are cut at the subject's last token, and what they have in common at their beginning is run once
(:mod:`consortium.models.prefix_tree`). Hidden states are carried from layer to layer: what is below a layer that was
merged is not run again. :mod:`benchmarks.naive.keys` is the naive twin.

Shapes: E edits, C contexts, N prompts (an edit in a context), R rows, T columns, K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from consortium.data.edit import Edit
from consortium.editing.backend import States, Targets
from consortium.editing.contexts import BARE, context_weights
from consortium.editing.prompts import bare_prompts, mean_by_edit, prompts_in
from consortium.models.language import LanguageModel
from consortium.models.partial_forward import run_blocks, run_blocks_to
from consortium.models.prefix_tree import TOKENS_AT_ONCE, PrefixTrees, build_trees


@dataclass(frozen=True)
class _Batch:
    """Prompts that run together, and their hidden states [R, T, V] at the input of a layer; None at layer 0."""

    prompts: PrefixTrees
    hidden_RTV: torch.Tensor | None


@dataclass(frozen=True)
class HiddenStates(States):
    """Hidden states of some edits' prompts at the input of ``layer``.

    Attributes:
        num_contexts: C.
        bare_N: the edit of each bare prompt; an edit has one or two.
        bare: the bare prompts, by edit. They stand apart, since residuals run them further up.
        others: the prompts in the other contexts, numbered edit by edit.
    """

    num_contexts: int
    bare_N: tuple[int, ...]
    bare: tuple[_Batch, ...]
    others: tuple[_Batch, ...]

    @property
    def nbytes(self) -> int:
        """Size of the hidden states."""
        kept = (batch.hidden_RTV for batch in (*self.bare, *self.others))
        return sum(hidden_RTV.nbytes for hidden_RTV in kept if hidden_RTV is not None)


def hidden_states(
    model: LanguageModel, edits: Sequence[Edit], contexts: Sequence[str], layer: int, below: States | None = None
) -> HiddenStates:
    """Hidden states at the input of ``layer``, under the present weights of the layers before it.

    Args:
        model: the model.
        edits: the edits.
        contexts: templates, the bare one first.
        layer: the layer.
        below: the same edits' states at an earlier layer, to go on from; None to begin at the bottom. The outcome
            is the same, bit for bit.
    """
    if below is None:
        assert contexts[0] == BARE, "the first context is the bare prompt"
        bare_of = [[each.up_to_subject for each in bare_prompts(model.tokenizer, edit)] for edit in edits]
        in_context = [each for edit in edits for each in prompts_in(model.tokenizer, edit, contexts[1:])]
        bare_N = tuple(number for number, prompts in enumerate(bare_of) for _ in prompts)
        below = HiddenStates(
            tuple(edits),
            0,
            len(contexts),
            bare_N,
            _built(model, [ids for prompts in bare_of for ids in prompts]),
            _built(model, [each.up_to_subject for each in in_context]),
        )
    assert isinstance(below, HiddenStates)
    assert below.edits == tuple(edits), "states of other edits"
    blocks = range(below.layer, layer)
    bare, others = (tuple(_carried(model, batch, blocks) for batch in part) for part in (below.bare, below.others))
    return replace(below, layer=layer, bare=bare, others=others)


def keys_and_residuals(
    model: LanguageModel, states: HiddenStates, targets: Targets
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys [K, E] and residuals [V, E] at the layer of ``states``, as :func:`mean_keys` and :func:`residuals` say."""
    found = _bare_means(model, states, targets.layer)
    missing_EV = targets.vectors_EV.double() - found.hidden_NV
    change_EV = model.output_change(states.layer, found.outputs_NV, missing_EV)
    return _mean_keys(model, states, found.keys_NK), change_EV.T.contiguous()


def mean_keys(
    model: LanguageModel, edits: Sequence[Edit], contexts: Sequence[str], layers: Sequence[int]
) -> dict[int, torch.Tensor]:
    """Keys [K, E] float64 on the CPU for each of ``layers``: weighted means over contexts."""
    states: HiddenStates | None = None
    keys_KE = {}
    for layer in sorted(layers):
        states = hidden_states(model, edits, contexts, layer, states)
        keys_KE[layer] = _mean_keys(model, states, _bare_means(model, states, layer).keys_NK)
    return {layer: keys_KE[layer] for layer in layers}


def residuals(model: LanguageModel, edits: Sequence[Edit], targets: Targets, layer: int) -> torch.Tensor:
    """What the bare prompts' hidden states lack to be their targets, as a change [V, E] of ``layer``'s output.

    float64 on the CPU. Where a block norms the projection's output before adding it (Gemma), the change is taken
    back through that norm (see :meth:`LanguageModel.output_change`).
    """
    return keys_and_residuals(model, hidden_states(model, edits, (BARE,), layer), targets)[1]


def _mean_keys(model: LanguageModel, states: HiddenStates, bare_EK: torch.Tensor) -> torch.Tensor:
    """Weighted means [K, E] over contexts."""
    num_edits, num_others = len(states.edits), states.num_contexts - 1
    others = _run_on(model, states.others, num_edits * num_others, states.layer, states.layer)
    others_ECK = others.keys_NK.view(num_edits, num_others, bare_EK.shape[1])
    keys_ECK = torch.cat([bare_EK[:, None], others_ECK], dim=1)
    return torch.einsum("ecK,c->Ke", keys_ECK, context_weights(states.num_contexts))


def _bare_means(model: LanguageModel, states: HiddenStates, last_layer: int) -> _Found:
    """What the bare prompts show, in the mean of each edit's."""
    found = _run_on(model, states.bare, len(states.bare_N), states.layer, last_layer)
    return _Found(*(mean_by_edit(each, states.bare_N, len(states.edits)) for each in found))


def _built(model: LanguageModel, sequences: Sequence[Sequence[int]]) -> tuple[_Batch, ...]:
    return tuple(_Batch(trees, None) for trees in build_trees(sequences, TOKENS_AT_ONCE[model.device.type]))


def _carried(model: LanguageModel, batch: _Batch, blocks: range) -> _Batch:
    return _Batch(batch.prompts, run_blocks(model, batch.prompts, blocks, batch.hidden_RTV)) if blocks else batch


class _Found(NamedTuple):
    """What a run shows at the prompts' last tokens, float64 on the CPU.

    Attributes:
        keys_NK: keys at the layer.
        outputs_NV: outputs of the layer's projection where a norm stands behind it, else zeros.
        hidden_NV: hidden states after the last block that ran.
    """

    keys_NK: torch.Tensor
    outputs_NV: torch.Tensor
    hidden_NV: torch.Tensor


def _run_on(model: LanguageModel, batches: Sequence[_Batch], num_prompts: int, layer: int, last_layer: int) -> _Found:
    """Run blocks ``layer`` … ``last_layer`` over prompts whose states at the input of ``layer`` are known.

    A prompt whose numbers are not finite spoils those that stand in its row, since attention multiplies what it hides
    by zero. So every prompt of which something is not finite runs once more, by itself and from the bottom.
    """
    found = _run_together(model, batches, num_prompts, layer, last_layer)
    sound_N = found.keys_NK.isfinite().all(1) & found.hidden_NV.isfinite().all(1) & found.outputs_NV.isfinite().all(1)
    if bool(sound_N.all()):
        return found
    for batch in batches:
        for number, tokens in zip(batch.prompts.numbers, batch.prompts.sequences, strict=True):
            if not sound_N[number]:
                (alone,) = build_trees([tokens], TOKENS_AT_ONCE[model.device.type])
                own = _run_together(model, [_Batch(alone, None)], 1, layer, last_layer)
                for name in ("keys_NK", "outputs_NV", "hidden_NV"):
                    getattr(found, name)[number] = getattr(own, name)[0]
    return found


def _run_together(
    model: LanguageModel, batches: Sequence[_Batch], num_prompts: int, layer: int, last_layer: int
) -> _Found:
    assert last_layer >= layer, "residuals are measured after the layer that they are for, or a later one"
    hidden_NV = torch.empty(num_prompts, model.hidden_width, dtype=torch.float64)
    found = _Found(hidden_NV.new_empty(num_prompts, model.key_width(layer)), torch.zeros_like(hidden_NV), hidden_NV)
    for batch in batches:
        numbers, ends, seen = list(batch.prompts.numbers), batch.prompts.ends(), dict[int, torch.Tensor]()
        blocks = range(0 if batch.hidden_RTV is None else layer, last_layer + 1)
        hidden = run_blocks_to(model, batch.prompts, blocks, ends, batch.hidden_RTV, [layer], seen.__setitem__)
        found.hidden_NV[numbers] = hidden.double().cpu()
        found.keys_NK[numbers] = seen[layer].double().cpu()
        if model.layout.output_norm is not None:
            # The projection runs after the model has: to run it within its own hook would call that hook again.
            found.outputs_NV[numbers] = model.projection(layer)(seen[layer]).double().cpu()
    return found
