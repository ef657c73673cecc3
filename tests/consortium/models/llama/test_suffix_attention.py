"""Attention of suffixes in one table, against each sequence by itself with torch's own attention and autograd."""

from __future__ import annotations

import pytest
import torch
from consortium.common.seeds import torch_generator
from consortium.models.llama.buffers import BufferPool
from consortium.models.llama.suffix_attention import (
    Portion,
    SuffixAttention,
    attend,
    attend_backward,
    heads_first,
    like_lengths,
)

PREFIXES, SUFFIXES = (3, 0, 5), (2, 4, 1)
EVERYONE = [range(2), range(4), range(1)]
SOME = [range(1, 2), range(1, 4), range(1)]
H, G, D = 6, 2, 4


def drawn(purpose: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch_generator(0, purpose))


@pytest.mark.parametrize("asking", [EVERYONE, SOME], ids=["all ask", "some ask"])
def test_what_is_read_and_its_gradients(asking: list[range]) -> None:
    num_asking, tokens = sum(map(len, asking)), sum(SUFFIXES)
    query_MHD = drawn("query", num_asking, H, D).requires_grad_()
    key_TGD, value_TGD = (drawn(name, tokens, G, D).requires_grad_() for name in ("key", "value"))
    grad_MX = drawn("grad", num_asking, H * D)
    tables = [torch.zeros(G, len(PREFIXES), max(PREFIXES) + max(SUFFIXES), D) for _ in range(2)]
    read = []
    first_asking = first = 0
    for number, (prefix, suffix, wanted) in enumerate(zip(PREFIXES, SUFFIXES, asking, strict=True)):
        whole = []
        for table, own_TGD in zip(tables, (key_TGD, value_TGD), strict=True):
            table[:, number, :prefix] = drawn(f"prefix {number}", G, prefix, D)
            own_GSD = own_TGD[first : first + suffix].transpose(0, 1)
            whole.append(torch.cat([table[:, number, :prefix], own_GSD], dim=1).repeat_interleave(H // G, dim=0))
        queries_HQD = query_MHD[first_asking : first_asking + len(wanted)].transpose(0, 1)
        seen_QL = torch.arange(prefix + suffix) <= prefix + torch.tensor(wanted)[:, None]
        out_HQD = torch.nn.functional.scaled_dot_product_attention(queries_HQD, *whole, attn_mask=seen_QL, scale=1.0)
        read.append(out_HQD.transpose(0, 1).flatten(1))
        first, first_asking = first + suffix, first_asking + len(wanted)
    expected_MX = torch.cat(read)
    expected = torch.autograd.grad(expected_MX, (query_MHD, key_TGD, value_TGD), grad_MX)

    attention = SuffixAttention.of(PREFIXES, SUFFIXES, asking, torch.device("cpu"))
    buffer_pool = BufferPool()
    kept = tables[0], tables[1]
    portions = [Portion(0, attention, slice(0, tokens), slice(0, num_asking))]
    with torch.no_grad():
        read_MX, attended = attend(portions, query_MHD, key_TGD, value_TGD, [kept], buffer_pool, 0)
        found = attend_backward(portions, grad_MX.unflatten(1, (H, D)), attended, buffer_pool)
    torch.testing.assert_close(read_MX, expected_MX.detach())
    for gradient, wanted_gradient in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, wanted_gradient.flatten(1))


@pytest.mark.parametrize(
    ("suffixes", "groups"),
    [
        ([4], [(0, 1)]),
        ([2, 3, 3, 4, 6, 7], [(0, 3), (3, 5), (5, 6)]),
        ([6, 4, 3, 9], [(0, 2), (2, 3), (3, 4)]),
        ([1, 1, 2, 2], [(0, 2), (2, 4)]),
    ],
)
def test_like_suffixes_share_a_table(suffixes: list[int], groups: list[tuple[int, int]]) -> None:
    """The longest of a group is at most one and a half times the shortest."""
    assert [(group.start, group.stop) for group in like_lengths(suffixes)] == groups


def test_heads_first_shares_the_memory() -> None:
    table = torch.zeros(G, 2, 3, D)
    heads_first(table)[1, 4] = 1.0
    assert table[1, 1, 1].tolist() == [1.0] * D
