"""Attention of short suffixes to frozen prefixes and to themselves, sequence by sequence, with its derivative.

The tokens of all sequences stand in one list for everything else; here they are put into one table with a line for
each sequence. Sequences that run together are of like length, so little of the table is padding, and attention
costs little beside the products with weights. Padding holds zeros: its keys are hidden, its gradients are zero.

Shapes: N sequences, T tokens of all suffixes, M tokens that ask (all of them, or some), P columns of prefixes,
S columns of suffixes, Q columns of asking tokens, L = P + S, H heads, G key heads, I = H/G, D width of a head.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from consortium.models.workspace import Workspace


@dataclass(frozen=True)
class SuffixAttention:
    """Who sees whom.

    Attributes:
        key_T: the place of each suffix token's key in a table [N·L].
        query_M: the place of each asking token in a table [N·Q].
        bias_NQ1L: 0 where the key is seen, minus infinity elsewhere.
    """

    key_T: torch.Tensor
    query_M: torch.Tensor
    bias_NQ1L: torch.Tensor

    @staticmethod
    def of(
        prefixes: Sequence[int], suffixes: Sequence[int], asking: Sequence[range], device: torch.device
    ) -> SuffixAttention:
        """From the lengths of prefixes and suffixes, and which tokens of each suffix ask."""
        longest_prefix, longest_suffix = max(prefixes), max(suffixes)
        most_asking, width = max(map(len, asking)), longest_prefix + longest_suffix
        keys: list[int] = []
        queries: list[int] = []
        last_NQ = torch.zeros(len(prefixes), most_asking, dtype=torch.long)  # padding asks the first suffix token
        for number, (suffix, wanted) in enumerate(zip(suffixes, asking, strict=True)):
            keys += range(number * width + longest_prefix, number * width + longest_prefix + suffix)
            queries += range(number * most_asking, number * most_asking + len(wanted))
            last_NQ[number, : len(wanted)] = torch.tensor(wanted)
        column_L = torch.arange(width)
        in_prefix_N1L = (column_L < torch.tensor(prefixes)[:, None])[:, None]
        in_suffix_NQL = (column_L >= longest_prefix) & (column_L <= longest_prefix + last_NQ[:, :, None])
        bias_NQL = torch.zeros(in_suffix_NQL.shape).masked_fill_(~(in_prefix_N1L | in_suffix_NQL), -torch.inf)
        parts = torch.tensor(keys), torch.tensor(queries), bias_NQL[:, :, None]
        return SuffixAttention(*(part.to(device) for part in parts))

    def forward(
        self,
        query_MHD: torch.Tensor,
        key_TGD: torch.Tensor,
        value_TGD: torch.Tensor,
        keys_GNLD: torch.Tensor,
        values_GNLD: torch.Tensor,
        workspace: Workspace,
        name: Hashable,
    ) -> tuple[torch.Tensor, Attended]:
        """What the asking tokens read, [M, H·D], and what :meth:`backward` needs: in the workspace, by ``name``.

        ``query_MHD`` is scaled already. The suffixes' places of ``keys_GNLD`` and ``values_GNLD`` are written over.
        """
        heads_first(keys_GNLD)[:, self.key_T] = key_TGD.transpose(0, 1)
        heads_first(values_GNLD)[:, self.key_T] = value_TGD.transpose(0, 1)
        groups, (num, asking, _, width) = len(keys_GNLD), self.bias_NQ1L.shape
        query_BQD = self._table(query_MHD, groups, workspace, ("query", name))
        score_BQL = query_BQD @ keys_GNLD.flatten(0, 1).mT
        score_BQL.view(groups, num, asking, -1, width).add_(self.bias_NQ1L)
        weight_BQL = workspace(("weight", name), *score_BQL.shape, like=score_BQL)
        torch.softmax(score_BQL, -1, out=weight_BQL)
        read_BQD = weight_BQL @ values_GNLD.flatten(0, 1)
        return self._list(read_BQD, groups), Attended(query_BQD, weight_BQL, keys_GNLD, values_GNLD)

    def backward(
        self, grad_MHD: torch.Tensor, attended: Attended, workspace: Workspace
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Gradients of the scaled queries [M, H·D] and of the suffixes' keys and values [T, G·D]."""
        keys_GNLD, values_GNLD = attended.keys_GNLD, attended.values_GNLD
        groups = len(keys_GNLD)
        grad_BQD = self._table(grad_MHD, groups, workspace, "grad")
        weight_BQL = attended.weight_BQL
        grad_values_BLD = weight_BQL.mT @ grad_BQD
        grad_BQL = grad_BQD @ values_GNLD.flatten(0, 1).mT
        grad_BQL = torch.ops.aten._softmax_backward_data(grad_BQL, weight_BQL, -1, weight_BQL.dtype)
        grad_query_BQD = grad_BQL @ keys_GNLD.flatten(0, 1)
        grad_keys_BLD = grad_BQL.mT @ attended.query_BQD
        return (
            self._list(grad_query_BQD, groups),
            self._suffixes(grad_keys_BLD, groups),
            self._suffixes(grad_values_BLD, groups),
        )

    def _table(self, list_MHD: torch.Tensor, groups: int, workspace: Workspace, name: Hashable) -> torch.Tensor:
        """[M, H, D] → [B = G·N, Q·I, D]."""
        num, asking, _, _ = self.bias_NQ1L.shape
        list_GMX = list_MHD.reshape(len(list_MHD), groups, -1).transpose(0, 1)
        table_GPX = workspace(name, groups, num * asking, list_GMX.shape[-1], like=list_GMX).zero_()
        table_GPX[:, self.query_M] = list_GMX
        return table_GPX.view(groups * num, -1, list_MHD.shape[-1])

    def _list(self, table_BQD: torch.Tensor, groups: int) -> torch.Tensor:
        """[B, Q·I, D] → [M, H·D]."""
        num, asking, _, _ = self.bias_NQ1L.shape
        table_GPX = table_BQD.reshape(groups, num * asking, -1)
        return table_GPX[:, self.query_M].transpose(0, 1).flatten(1)

    def _suffixes(self, table_BLD: torch.Tensor, groups: int) -> torch.Tensor:
        """[B, L, D] → [T, G·D], the suffixes' places."""
        return table_BLD.view(groups, -1, table_BLD.shape[-1])[:, self.key_T].transpose(0, 1).flatten(1)


@dataclass(frozen=True)
class Attended:
    """What the derivative of attention needs; B = G·N."""

    query_BQD: torch.Tensor
    weight_BQL: torch.Tensor
    keys_GNLD: torch.Tensor
    values_GNLD: torch.Tensor


def heads_first(table_GNLD: torch.Tensor) -> torch.Tensor:
    """[G, N·L, D], the same memory."""
    return table_GNLD.view(len(table_GNLD), -1, table_GNLD.shape[-1])
