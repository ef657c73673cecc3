"""Running the lower blocks of a language model: from its tokens, or on from hidden states kept at some block's input.

As in :mod:`consortium.models.upper_layers`, the model's own forward does the work, with stand-ins for the blocks that
shall not run. A block's MLP works on each token by itself, so where only some tokens of the last block are wanted,
its MLP runs for those alone; its attention needs all.

Blocks that run on hidden states of their own making give the bits they would have given in one run: each operation
sees the same numbers in the same layout.

Shapes: R rows, T columns, M places in them, U different ones of these, K key width, V hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from consortium.models.hooks import PassOn, attention_mask_of, blocks_replaced, first_output, hooked
from consortium.models.language import LanguageModel

#: ``read(layer, keys)``: takes the input of the MLP's last projection at a layer.
KeyReader = Callable[[int, torch.Tensor], None]
TokenPlaces = tuple[torch.Tensor, torch.Tensor]


class TokenRows(Protocol):
    """Token sequences laid out in rows: a :class:`~consortium.models.packing.Packing` or a prefix trees."""

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ids [R, T], positions [R, T] and mask [R, T, T]."""
        ...


def run_lower_layers(
    model: LanguageModel, rows: TokenRows, last_layer: int, key_layers: Sequence[int], read: KeyReader
) -> torch.Tensor:
    """Run blocks 0 … ``last_layer`` and return the hidden states [R, T, V] after the last of them.

    ``read(layer, keys_RTK)`` is called with the input of the MLP's last projection at each of ``key_layers``.
    """
    return run_blocks(model, rows, range(last_layer + 1), None, key_layers, read)


@torch.no_grad()
def run_blocks(
    model: LanguageModel,
    rows: TokenRows,
    blocks: range,
    hidden_RTV: torch.Tensor | None = None,
    key_layers: Sequence[int] = (),
    read: KeyReader | None = None,
) -> torch.Tensor:
    """Run consecutive blocks and return the hidden states [R, T, V] after the last of them.

    Args:
        model: the model.
        rows: what to run on.
        blocks: which blocks, at least one.
        hidden_RTV: hidden states at the first one's input; None to begin with the tokens, at block 0.
        key_layers: blocks of these at which keys are read.
        read: called with layer and keys [R, T, K].
    """
    assert blocks, "no block to run"
    assert (hidden_RTV is None) == (blocks[0] == 0), "block 0 begins with tokens, and no other does"
    layers = list(model.blocks[: blocks[-1] + 1])
    if hidden_RTV is not None:
        as_tuple = model.layout.returns_tuple
        layers[: blocks[0]] = [*[PassOn(as_tuple)] * (blocks[0] - 1), PassOn(as_tuple, hidden_RTV)]
    seen: list[torch.Tensor] = []
    handles = [] if read is None else [_key_hook(model, layer, read) for layer in key_layers]
    handles.append(layers[-1].register_forward_hook(lambda _m, _a, out: seen.append(first_output(out))))
    ids_RT, positions_RT, mask_RTT = rows.tensors()
    # Made here, since stand-ins know of no device.
    inputs = {
        "input_ids": ids_RT.to(model.device),
        "attention_mask": attention_mask_of(model, mask_RTT, positions_RT),
        "position_ids": positions_RT.to(model.device),
    }
    with hooked(handles), blocks_replaced(model, layers):
        model.base(**inputs, use_cache=False)
    return seen[0]


def run_blocks_to(
    model: LanguageModel,
    rows: TokenRows,
    blocks: range,
    places: TokenPlaces,
    hidden_RTV: torch.Tensor | None = None,
    key_layers: Sequence[int] = (),
    read: KeyReader | None = None,
) -> torch.Tensor:
    """Like :func:`run_blocks`, for some places [M] only (rows and columns): hidden states [M, V], and keys [M, K]."""
    last, width = blocks[-1], rows.tensors()[0].shape[1]
    # A place may be asked for twice; its MLP runs once.
    flat_U, place_M = torch.unique(places[0] * width + places[1], return_inverse=True)
    here = (flat_U // width).to(model.device), (flat_U % width).to(model.device)
    place_M = place_M.to(model.device)

    def read_here(layer: int, keys: torch.Tensor) -> None:
        assert read is not None
        read(layer, (keys if layer == last else keys[here])[place_M])

    handles = [_key_hook(model, layer, read_here) for layer in key_layers]
    with hooked([*handles, *_mlp_hooks(model, last, here)]):
        return run_blocks(model, rows, blocks, hidden_RTV)[here][place_M]


def _key_hook(model: LanguageModel, layer: int, read: KeyReader) -> Any:
    return model.projection(layer).register_forward_pre_hook(lambda _module, args: read(layer, args[0]))


def _mlp_hooks(model: LanguageModel, layer: int, places: TokenPlaces) -> tuple[Any, Any]:
    """Hooks by which a block's MLP runs at some places only, and gives zeros elsewhere."""
    whole: list[torch.Tensor] = []

    def gather(_module: Any, args: Any) -> Any:
        whole.append(args[0])
        return (args[0][places],)

    def scatter(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
        output_RTV = torch.zeros_like(whole.pop())
        output_RTV[places] = output
        return output_RTV

    mlp = model.blocks[layer].get_submodule(model.layout.projection.split(".")[0])
    return mlp.register_forward_pre_hook(gather), mlp.register_forward_hook(scatter)
