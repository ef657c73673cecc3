"""Token sequences as trees: what sequences have in common at their beginning is computed once.

Prompts share much: the token that begins every text, the contexts, a relation's wording, a prompt's two
continuations. Attention is causal, so a token's hidden states depend on the tokens before it alone, and sequences
that begin alike may share the columns of their beginning (the prefix tree of Fredkin 1960, laid out as in tree
attention, arXiv 2305.09781). A column's position is its depth; it sees its ancestors and itself. Several trees may
stand in one row; they do not see each other.

Shapes: N sequences, R rows, T columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

#: Columns of a row, unless one sequence is longer. Wider rows repeat fewer beginnings, but spend more on attention
#: that is masked out.
ROW_TOKENS = 96

#: Columns that run together, padding included. On a CPU more is slower, since less stays in its caches.
TOKENS_AT_ONCE = {"cpu": 512, "cuda": 16384}

Tokens = tuple[int, ...]
TreePlaces = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class PrefixTrees:
    """Some token sequences of a call of :func:`build_trees`, laid out in the rows of one batch.

    Attributes:
        numbers: the sequences that are in this batch, as numbered in the call.
        sequences: their tokens.
        row_N: the row that holds each.
        columns_N: the columns in which each one's tokens stand, ascending.
        num_rows: R.
        width: T.
    """

    numbers: tuple[int, ...]
    sequences: tuple[Tokens, ...]
    row_N: tuple[int, ...]
    columns_N: tuple[tuple[int, ...], ...]
    num_rows: int
    width: int

    def ends(self) -> TreePlaces:
        """Row and column of each sequence's last token."""
        return torch.tensor(self.row_N), torch.tensor([columns[-1] for columns in self.columns_N])

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ids [R, T], positions [R, T] within the sequences, and the mask [R, T, T]: which column sees which.

        Padding sees itself alone (a row of the mask without any True would give not-a-number). It is the row's own
        first token, whose values are finite where the row's are: what is hidden is multiplied by zero, and zero times
        not-a-number is not-a-number.
        """
        return self._tensors

    @cached_property
    def _tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ids_RT = np.zeros((self.num_rows, self.width), np.int64)
        positions_RT = np.zeros_like(ids_RT)
        mask_RTT = np.tile(np.eye(self.width, dtype=np.bool_), (self.num_rows, 1, 1))
        ids_RT[list(reversed(self.row_N))] = np.array([tokens[0] for tokens in reversed(self.sequences)])[:, None]
        for row, tokens, place in zip(self.row_N, self.sequences, self.columns_N, strict=True):
            columns = np.array(place)
            ids_RT[row, columns] = tokens
            positions_RT[row, columns] = np.arange(len(columns))
            mask_RTT[row, columns[:, None], columns] |= np.tri(len(columns), dtype=np.bool_)
        return torch.from_numpy(ids_RT), torch.from_numpy(positions_RT), torch.from_numpy(mask_RTT)


@dataclass
class _Row:
    """A row that is being filled: its sequences in ascending order, their columns, and its length so far."""

    columns_of: dict[Tokens, tuple[int, ...]] = field(default_factory=dict)
    last: Tokens = ()
    length: int = 0

    def new_columns(self, tokens: Tokens) -> int:
        """Columns that a sequence would add."""
        return len(tokens) - self._shared(tokens)

    def add(self, tokens: Tokens) -> None:
        shared = self._shared(tokens)
        end = self.length + len(tokens) - shared
        own = range(self.length, end)
        self.columns_of[tokens] = (*(self.columns_of[self.last][:shared] if shared else ()), *own)
        self.last, self.length = tokens, end

    def _shared(self, tokens: Tokens) -> int:
        # In ascending order the sequence before has as much in common with this one as any before it.
        for length, (one, other) in enumerate(zip(self.last, tokens, strict=False)):
            if one != other:
                return length
        return min(len(self.last), len(tokens))


def build_trees(
    sequences: Sequence[Sequence[int]], tokens_at_once: int, row_tokens: int | None = None
) -> list[PrefixTrees]:
    """Lay sequences out as trees in rows, and rows in batches; by the sequences alone, so equal calls give equal ones.

    Sequences are taken in ascending order, so that those which share most are neighbours and mostly share a row.

    Args:
        sequences: token ids; none is empty.
        tokens_at_once: columns of a batch, all rows together, unless one row is wider.
        row_tokens: columns of a row, unless one sequence is longer; ``ROW_TOKENS`` unless given.
    """
    limit = ROW_TOKENS if row_tokens is None else row_tokens
    numbers_of: dict[Tokens, list[int]] = {}
    for number, tokens in enumerate(sequences):
        numbers_of.setdefault(tuple(tokens), []).append(number)
    rows: list[_Row] = []
    for tokens in sorted(numbers_of):
        assert tokens, "an empty sequence has no place"
        if not rows or rows[-1].length + rows[-1].new_columns(tokens) > limit:
            rows.append(_Row())
        rows[-1].add(tokens)
    return [_trees(batch, numbers_of) for batch in _batches(rows, tokens_at_once)]


def _batches(rows: list[_Row], tokens_at_once: int) -> list[list[_Row]]:
    """Rows by length, longest first, so that those of a batch are padded little; batches of nearly equal size."""
    rows = sorted(rows, key=lambda row: -row.length)
    batches: list[list[_Row]] = []
    while rows:
        most = max(1, tokens_at_once // rows[0].length)
        size = -(-len(rows) // -(-len(rows) // most))
        batches.append(rows[:size])
        rows = rows[size:]
    return batches


def _trees(rows: list[_Row], numbers_of: dict[Tokens, list[int]]) -> PrefixTrees:
    placed = [
        (number, tokens, place, columns)
        for place, row in enumerate(rows)
        for tokens, columns in row.columns_of.items()
        for number in numbers_of[tokens]
    ]
    numbers, sequences, row_N, columns_N = zip(*placed, strict=True)
    return PrefixTrees(numbers, sequences, row_N, columns_N, len(rows), rows[0].length)
