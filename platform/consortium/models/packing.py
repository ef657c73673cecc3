"""Packing token sequences into rows without padding: many short prompts share a row and do not see each other.

Prompts of different lengths in one batch would be half padding. Here each row of a batch holds several
sequences, and the attention mask keeps them apart. A sequence may be cut in two: all prefixes stand in the
columns before ``split`` and all suffixes behind it, so that suffixes can be run again without their prefixes.

Shapes: N sequences, R rows, T columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

#: Columns of suffixes in a row, unless one sequence is longer. Wider rows spend more on attention that is masked
#: out, narrower ones pad more.
_ROW_TOKENS = 64


@dataclass(frozen=True)
class Packing:
    """Token sequences laid out in rows.

    Attributes:
        sequences: token ids of each sequence.
        splits: length of each sequence's prefix; 0 for an uncut one.
        row_N: the row that holds each sequence.
        prefix_N: column at which each prefix begins.
        suffix_N: column at which each suffix begins; at least ``split``.
        split: first column of suffixes.
        width: number of columns.
    """

    sequences: tuple[tuple[int, ...], ...]
    splits: tuple[int, ...]
    row_N: tuple[int, ...]
    prefix_N: tuple[int, ...]
    suffix_N: tuple[int, ...]
    split: int
    width: int

    @property
    def num_rows(self) -> int:
        """R."""
        return max(self.row_N) + 1

    def columns(self, number: int) -> list[int]:
        """The columns in which a sequence's tokens stand."""
        cut = self.splits[number]
        before = range(self.prefix_N[number], self.prefix_N[number] + cut)
        behind = range(self.suffix_N[number], self.suffix_N[number] + len(self.sequences[number]) - cut)
        return [*before, *behind]

    def place(self, number: int, token: int) -> tuple[int, int]:
        """Row and column of a sequence's token."""
        return self.row_N[number], self.columns(number)[token]

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ids [R, T], positions [R, T] within each sequence, and the mask [R, T, T]: which column sees which.

        Padding sees itself alone (a row of the mask without any True would give not-a-number).
        """
        ids_RT = torch.zeros(self.num_rows, self.width, dtype=torch.long)
        positions_RT = torch.zeros_like(ids_RT)
        owner_RT = torch.full_like(ids_RT, -1)
        for number, ids in enumerate(self.sequences):
            row, columns = self.row_N[number], self.columns(number)
            ids_RT[row, columns] = torch.tensor(ids)
            positions_RT[row, columns] = torch.arange(len(ids))
            owner_RT[row, columns] = number
        same = (owner_RT[:, :, None] == owner_RT[:, None, :]) & (owner_RT[:, :, None] >= 0)
        mask_RTT = same & (positions_RT[:, :, None] >= positions_RT[:, None, :])
        mask_RTT |= torch.eye(self.width, dtype=torch.bool)
        return ids_RT, positions_RT, mask_RTT


def pack(
    sequences: Sequence[Sequence[int]], splits: Sequence[int] | None = None, row_tokens: int = _ROW_TOKENS
) -> Packing:
    """Lay sequences out in rows of nearly equal length; by the sequences alone, so that equal calls give equal rows.

    Longest first, each into the row that is emptiest so far (Graham 1969). Rows have ``row_tokens`` columns of
    suffixes, unless one sequence is longer.
    """
    cuts = [0] * len(sequences) if splits is None else list(splits)
    suffixes = [len(ids) - cut for ids, cut in zip(sequences, cuts, strict=True)]
    row_tokens = max(row_tokens, *suffixes)
    num_rows = -(-sum(suffixes) // row_tokens)
    loads = [(0, 0)] * num_rows
    row_N, prefix_N, suffix_N = ([0] * len(sequences) for _ in range(3))
    for number in sorted(range(len(sequences)), key=lambda n: (-suffixes[n], -cuts[n], n)):
        row = min(range(num_rows), key=lambda r: (loads[r], r))
        behind, before = loads[row]
        row_N[number], prefix_N[number], suffix_N[number] = row, before, behind
        loads[row] = (behind + suffixes[number], before + cuts[number])
    split = max(before for _, before in loads)
    width = split + max(behind for behind, _ in loads)
    return Packing(
        tuple(tuple(ids) for ids in sequences),
        tuple(cuts),
        tuple(row_N),
        tuple(prefix_N),
        tuple(split + column for column in suffix_N),
        split,
        width,
    )
