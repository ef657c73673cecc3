"""What running the upper blocks over the ends of token sequences needs from everything before: run once, kept.

Of a sequence, the prefix is frozen: the blocks above a layer see it as keys and values alone. The suffix, which will
run many times, is needed as hidden states after that layer. Sequences share what they begin with alike
(:mod:`consortium.models.prefix_tree`): an edit's prompts stand behind the same few contexts as everybody else's.

Shapes: N sequences, R rows, T tokens of all suffixes (sequence after sequence), P columns of the longest prefix,
G key heads, D width of a head, V hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from transformers.cache_utils import DynamicLayer

from consortium.models.hooks import run_whole
from consortium.models.language import LanguageModel
from consortium.models.partial_forward import run_lower_layers
from consortium.models.prefix_tree import TOKENS_AT_ONCE, PrefixTrees, build_trees

KeysValues = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class PrefixCache:
    """Hidden states of suffixes after a layer, and keys and values of prefixes above it.

    Attributes:
        hidden_TV: hidden states of all suffix tokens after the layer.
        prefix: block number → keys and values, [G, N, P, D] each; zeros behind a shorter prefix's end.
    """

    hidden_TV: torch.Tensor
    prefix: Mapping[int, KeysValues]


@torch.no_grad()
def run_prefixes(
    model: LanguageModel, sequences: Sequence[Sequence[int]], splits: Sequence[int], layer: int
) -> PrefixCache:
    """Run suffixes up to ``layer`` and prefixes through the blocks above it.

    Args:
        model: the model.
        sequences: token ids.
        splits: length of each sequence's prefix; the rest, at least a token, is its suffix.
        layer: number of a block.
    """
    return PrefixCache(_suffixes(model, sequences, splits, layer), _prefixes(model, sequences, splits, layer))


def _at_once(model: LanguageModel) -> int:
    return TOKENS_AT_ONCE["cuda" if model.device.type == "cuda" else "cpu"]


def _suffixes(
    model: LanguageModel, sequences: Sequence[Sequence[int]], splits: Sequence[int], layer: int
) -> torch.Tensor:
    lengths = [len(ids) - split for ids, split in zip(sequences, splits, strict=True)]
    first = [0, *accumulate(lengths)]
    hidden_TV = torch.empty(first[-1], model.hidden_width, dtype=model.dtype, device=model.device)
    for trees in build_trees(sequences, _at_once(model)):
        hidden_RTV = run_lower_layers(model, trees, layer, [], lambda _layer, _keys: None)
        number, token, row, column = _tokens(trees, model.device)
        behind = token >= _on(model.device, splits)[number]
        place = _on(model.device, first)[number] + token - _on(model.device, splits)[number]
        hidden_TV[place[behind]] = hidden_RTV[row[behind], column[behind]]
    return hidden_TV


def _prefixes(
    model: LanguageModel, sequences: Sequence[Sequence[int]], splits: Sequence[int], layer: int
) -> dict[int, KeysValues]:
    begun = [number for number, split in enumerate(splits) if split]
    if not begun:
        return {}
    prefix: dict[int, KeysValues] = {}
    for trees in build_trees([sequences[number][: splits[number]] for number in begun], _at_once(model)):
        cache = run_whole(model, trees.tensors())
        number, token, row, column = _tokens(trees, model.device)
        number = _on(model.device, begun)[number]
        for block in range(layer + 1, model.num_layers):
            kept = cache.layers[block]
            assert isinstance(kept, DynamicLayer)
            for part, states_RGTD in enumerate((kept.keys, kept.values)):
                assert states_RGTD is not None
                if block not in prefix:
                    shape = states_RGTD.shape[1], len(sequences), max(splits), states_RGTD.shape[3]
                    prefix[block] = states_RGTD.new_zeros(shape), states_RGTD.new_zeros(shape)
                prefix[block][part][:, number, token] = states_RGTD.transpose(0, 1)[:, row, column]
    return prefix


def _tokens(trees: PrefixTrees, device: torch.device) -> list[torch.Tensor]:
    """Of every token of every sequence of a prefix trees: sequence, place in it, row and column."""
    found = [
        (number, token, row, column)
        for number, row, columns in zip(trees.numbers, trees.row_N, trees.columns_N, strict=True)
        for token, column in enumerate(columns)
    ]
    return [_on(device, part) for part in zip(*found, strict=True)]


def _on(device: torch.device, numbers: Sequence[int]) -> torch.Tensor:
    return torch.tensor(numbers, device=device)
