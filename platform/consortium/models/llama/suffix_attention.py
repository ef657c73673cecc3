"""Attention of short suffixes to frozen prefixes and to themselves, sequence by sequence, with its derivative.

The tokens of all sequences stand in one list for everything else; here consecutive sequences of like length are put
into one table, with a line for each, so that little of it is padding (:func:`like_lengths`). Keys of padding are
hidden, whatever they are; asking padding holds zeros, and so are its gradients. Prefixes get no gradients, so none is
computed.

Shapes: N sequences, T tokens of all suffixes, M tokens that ask (all of them, or some), P columns of prefixes,
S columns of suffixes, Q columns of asking tokens, L = P + S, H heads, G key heads, I = H/G, D width of a head,
B = G·N.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import torch

from consortium.models.llama.buffers import BufferPool
from consortium.models.prefix_cache import KeysValues

#: Sequences share a table while the longest suffix is no more than this many times the shortest.
_LIKE = 1.5


def like_lengths(suffixes: Sequence[int]) -> Iterator[slice]:
    """Consecutive sequences whose suffixes are of like length; few slices where ``suffixes`` are sorted."""
    begin = 0
    for end in range(1, len(suffixes) + 1):
        group = suffixes[begin : end + 1]
        if end == len(suffixes) or max(group) > _LIKE * min(group):
            yield slice(begin, end)
            begin = end


@dataclass(frozen=True)
class SuffixAttention:
    """Who sees whom.

    Attributes:
        key_T: the place of each suffix token's key in a table [N·L].
        own_T: the place of each suffix token in a table [N·S].
        query_M: the place of each asking token in a table [N·Q].
        bias_NQ1L: 0 where the key is seen, minus infinity elsewhere.
        num_prefix: P.
    """

    key_T: torch.Tensor
    own_T: torch.Tensor
    query_M: torch.Tensor
    bias_NQ1L: torch.Tensor
    num_prefix: int

    @staticmethod
    def of(
        prefixes: Sequence[int],
        suffixes: Sequence[int],
        asking: Sequence[range],
        device: torch.device,
        window: int | None = None,
    ) -> SuffixAttention:
        """From the lengths of prefixes and suffixes, which tokens of each suffix ask, and how many each one sees."""
        longest_prefix, longest_suffix = max(prefixes), max(suffixes)
        most_asking, width = max(map(len, asking)), longest_prefix + longest_suffix
        keys: list[int] = []
        own: list[int] = []
        queries: list[int] = []
        last_NQ = torch.zeros(len(prefixes), most_asking, dtype=torch.long)  # padding asks the first suffix token
        for number, (suffix, wanted) in enumerate(zip(suffixes, asking, strict=True)):
            keys += range(number * width + longest_prefix, number * width + longest_prefix + suffix)
            own += range(number * longest_suffix, number * longest_suffix + suffix)
            queries += range(number * most_asking, number * most_asking + len(wanted))
            last_NQ[number, : len(wanted)] = torch.tensor(wanted)
        column_L = torch.arange(width)
        in_prefix_N1L = (column_L < torch.tensor(prefixes)[:, None])[:, None]
        in_suffix_NQL = (column_L >= longest_prefix) & (column_L <= longest_prefix + last_NQ[:, :, None])
        seen_NQL = in_prefix_N1L | in_suffix_NQL
        if window is not None:
            prefix_N11 = torch.tensor(prefixes)[:, None, None]
            position_N1L = torch.where(column_L < longest_prefix, column_L, column_L - longest_prefix + prefix_N11)
            seen_NQL &= prefix_N11 + last_NQ[:, :, None] - position_N1L < window
        bias_NQL = torch.zeros(in_suffix_NQL.shape).masked_fill_(~seen_NQL, -torch.inf)
        key_T, own_T, query_M = (torch.tensor(places, device=device) for places in (keys, own, queries))
        return SuffixAttention(key_T, own_T, query_M, bias_NQL[:, :, None].to(device), longest_prefix)

    def forward(
        self,
        query_MHD: torch.Tensor,
        key_TGD: torch.Tensor,
        value_TGD: torch.Tensor,
        kept: KeysValues,
        read_MX: torch.Tensor,
        buffer_pool: BufferPool,
        name: Hashable,
    ) -> Attended:
        """Write what the asking tokens read to ``read_MX`` [M, H·D].

        Args:
            query_MHD: queries, scaled already.
            key_TGD: the suffixes' keys.
            value_TGD: the suffixes' values.
            kept: the prefixes' keys and values [G, N, L, D]; the suffixes' places in them are written over.
            read_MX: where the result goes.
            buffer_pool: where what :meth:`backward` needs stands, by ``name``.
            name: of this use.
        """
        keys_GNLD, values_GNLD = kept
        heads_first(keys_GNLD)[:, self.key_T] = key_TGD.transpose(0, 1)
        heads_first(values_GNLD)[:, self.key_T] = value_TGD.transpose(0, 1)
        groups, (num, asking, _, width) = len(keys_GNLD), self.bias_NQ1L.shape
        query_BQD = self._table(query_MHD, groups, buffer_pool, ("query", name))
        score_BQL = _product(query_BQD, keys_GNLD.flatten(0, 1).mT, buffer_pool, "score")
        score_BQL.view(groups, num, asking, -1, width).add_(self.bias_NQ1L)
        weight_BQL = buffer_pool(("weight", name), *score_BQL.shape, like=score_BQL)
        torch.softmax(score_BQL, -1, out=weight_BQL)
        self._list(_product(weight_BQL, values_GNLD.flatten(0, 1), buffer_pool, "table"), groups, read_MX)
        return Attended(query_BQD, weight_BQL, kept)

    def backward(
        self,
        grad_MHD: torch.Tensor,
        attended: Attended,
        grads: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        buffer_pool: BufferPool,
    ) -> None:
        """Write to ``grads`` those of the scaled queries [M, H·D] and of the suffixes' keys and values [T, G·D]."""
        keys_GNLD, values_GNLD = attended.kept
        grad_query_MX, grad_key_TX, grad_value_TX = grads
        groups, own = len(keys_GNLD), slice(self.num_prefix, None)
        grad_BQD = self._table(grad_MHD, groups, buffer_pool, "grad table")
        weight_BQL = attended.weight_BQL
        self._suffixes(_product(weight_BQL[..., own].mT, grad_BQD, buffer_pool, "table"), groups, grad_value_TX)
        grad_BQL = _product(grad_BQD, values_GNLD.flatten(0, 1).mT, buffer_pool, "score")
        grad_BQL = torch.ops.aten._softmax_backward_data(grad_BQL, weight_BQL, -1, weight_BQL.dtype)
        self._list(_product(grad_BQL, keys_GNLD.flatten(0, 1), buffer_pool, "table"), groups, grad_query_MX)
        self._suffixes(_product(grad_BQL[..., own].mT, attended.query_BQD, buffer_pool, "table"), groups, grad_key_TX)

    def _table(self, list_MHD: torch.Tensor, groups: int, buffer_pool: BufferPool, name: Hashable) -> torch.Tensor:
        """[M, H, D] → [B, Q·I, D]."""
        num, asking, _, _ = self.bias_NQ1L.shape
        list_GMX = list_MHD.reshape(len(list_MHD), groups, -1).transpose(0, 1)
        table_GPX = buffer_pool(name, groups, num * asking, list_GMX.shape[-1], like=list_GMX)
        if len(self.query_M) < num * asking:
            table_GPX.zero_()
        table_GPX[:, self.query_M] = list_GMX
        return table_GPX.view(groups * num, -1, list_MHD.shape[-1])

    def _list(self, table_BQD: torch.Tensor, groups: int, out_MX: torch.Tensor) -> None:
        """[B, Q·I, D] → [M, H·D]."""
        num, asking, _, _ = self.bias_NQ1L.shape
        table_GPX = table_BQD.reshape(groups, num * asking, -1)
        out_MX.unflatten(1, (groups, -1)).copy_(table_GPX[:, self.query_M].transpose(0, 1))

    def _suffixes(self, table_BSD: torch.Tensor, groups: int, out_TX: torch.Tensor) -> None:
        """[B, S, D] → [T, G·D]."""
        table_GPD = table_BSD.view(groups, -1, table_BSD.shape[-1])
        out_TX.unflatten(1, (groups, -1)).copy_(table_GPD[:, self.own_T].transpose(0, 1))


@dataclass(frozen=True)
class Attended:
    """What the derivative of attention needs."""

    query_BQD: torch.Tensor
    weight_BQL: torch.Tensor
    kept: KeysValues


def _product(one: torch.Tensor, other: torch.Tensor, buffer_pool: BufferPool, name: str) -> torch.Tensor:
    return torch.bmm(one, other, out=buffer_pool(name, *one.shape[:2], other.shape[2], like=one))


def heads_first(table_GNLD: torch.Tensor) -> torch.Tensor:
    """[G, N·L, D], the same memory."""
    return table_GNLD.view(len(table_GNLD), -1, table_GNLD.shape[-1])


@dataclass(frozen=True)
class Portion:
    """Consecutive sequences that share a table: who sees whom, whose tokens they are, and which of these ask.

    ``number`` stays when portions before this one vanish: it names memory.
    """

    number: int
    attention: SuffixAttention
    tokens: slice
    asking: slice


def attend(
    portions: Sequence[Portion],
    query_MHD: torch.Tensor,
    key_TGD: torch.Tensor,
    value_TGD: torch.Tensor,
    kept: Sequence[KeysValues],
    buffer_pool: BufferPool,
    name: Hashable,
) -> tuple[torch.Tensor, tuple[Attended, ...]]:
    """What all asking tokens read [M, H·D], until the next call, and what :func:`attend_backward` needs.

    The arguments are those of :meth:`SuffixAttention.forward`, ``kept`` with a part for each portion.
    """
    read_MX = buffer_pool("read", len(query_MHD), query_MHD[0].numel(), like=query_MHD)
    attended = tuple(
        portion.attention.forward(
            query_MHD[portion.asking],
            key_TGD[portion.tokens],
            value_TGD[portion.tokens],
            part,
            read_MX[portion.asking],
            buffer_pool,
            (name, portion.number),
        )
        for portion, part in zip(portions, kept, strict=True)
    )
    return read_MX, attended


def attend_backward(
    portions: Sequence[Portion], grad_MHD: torch.Tensor, attended: Sequence[Attended], buffer_pool: BufferPool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of the scaled queries [M, H·D] and of the suffixes' keys and values [T, G·D], until the next call."""
    num_tokens, (groups, _, _, width) = portions[-1].tokens.stop, attended[0].kept[0].shape
    grads = (
        buffer_pool("grad query", len(grad_MHD), grad_MHD[0].numel(), like=grad_MHD),
        buffer_pool("grad key", num_tokens, groups * width, like=grad_MHD),
        buffer_pool("grad value", num_tokens, groups * width, like=grad_MHD),
    )
    for portion, one in zip(portions, attended, strict=True):
        query_MX, key_TX, value_TX = grads
        parts = query_MX[portion.asking], key_TX[portion.tokens], value_TX[portion.tokens]
        portion.attention.backward(grad_MHD[portion.asking], one, parts, buffer_pool)
    return grads
