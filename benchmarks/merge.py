"""Merging by CollabEdit: statistics that add and one Cholesky factor, against dense matrices and inverses.

Both begin with the parties' keys and residuals and with C, and end with Δ. Ours: each party's statistics, in the form
that the case names, their sum in order, the factor of C, and the solution. Naive: an inverse for each party and one
for all, dense products, as the papers' code does it. Numbers are drawn; what they are does not change the time.

Shapes: E edits of a party, K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from consortium.common.arrays import Array, array_of, tensor_of
from consortium.common.seeds import torch_generator
from consortium.merging.method import PartyShare, RunningSum
from consortium.merging.methods.collabedit import CollabEdit
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis
from consortium.scenario.methods import CollabEditSpec

from benchmarks.harness.case import Case, Moved, Product, relative_difference
from benchmarks.harness.fixtures import Fixtures
from benchmarks.harness.measure import measure
from benchmarks.harness.record import Record
from benchmarks.naive.merging import merge_naively

#: Key widths, and the value widths that go with them: SmolLM2-135M, GPT-2 XL, GPT-J.
SIZES = {1536: 576, 6400: 1600, 16384: 4096}
PARTIES = (10, 1000)
Form = Literal["dense", "factored"]
FORMS: tuple[Form, ...] = ("factored", "dense")

#: Edits of a party.
EDITS = 10
#: Columns of the key covariance beside its diagonal.
_COVARIANCE_COLUMNS = 64
#: Rows of a typical product at most; larger ones are no faster.
_PRODUCT_WIDTH = 2048
BASIS = Basis("benchmark", 1, 0)


def records(bench: Fixtures) -> Iterator[Record]:
    """A record for each key width, number of parties and form."""
    for key_width in bench.options.sizes or SIZES:
        for num_parties in bench.options.parties or PARTIES:
            for form in FORMS:
                problem = Problem(key_width, num_parties, form, bench.device)
                yield measure("merge", case(problem), bench.options.budget, bench.tell)


def case(problem: Problem) -> Case:
    """The merge of so many parties."""
    key_width, value_width, parties = problem.key_width, problem.value_width, problem.num_parties
    width = min(key_width, _PRODUCT_WIDTH)
    dense_bytes = 8 * (key_width**2 + key_width * value_width)
    is_dense = problem.form == "dense"
    drawn_bytes = 8 * parties * EDITS * (key_width + value_width)
    return Case(
        label=f"K = {key_width}, {parties} parties, {problem.form}",
        unit="party",
        items=parties,
        ours=problem.ours,
        naive=problem.naive,
        difference=lambda ours, naive: relative_difference(ours.delta_VK, naive),
        product=Product(width, width, width, torch.float64, problem.device),
        prepare=lambda: (problem.covariance_KK, problem.edits),
        parameters={
            "model": "drawn numbers",
            "dtype": "float64",
            "key_width": key_width,
            "value_width": value_width,
            "edits_per_party": EDITS,
        },
        is_whole=True,
        has_fixed_part=True,
        moved=lambda merged: Moved(merged.num_bytes, "statistics that the parties send"),
        least_flops=lambda count: 2 * key_width**2 * ((count + 1) * (key_width + value_width) + count * value_width),
        # Of either way: C and matrices of its size in the making, and contributions in the sum.
        needed_bytes=drawn_bytes + (7 if is_dense else 5) * dense_bytes,
        written_bytes=parties * dense_bytes if is_dense else drawn_bytes,
    )


@dataclass(frozen=True)
class Merged:
    """An update [V, K], and the bytes that all parties sent for it."""

    delta_VK: torch.Tensor
    num_bytes: int


@dataclass(frozen=True)
class Problem:
    """Drawn keys and residuals of some parties, and a key covariance.

    Attributes:
        key_width: K.
        num_parties: parties.
        form: form of the statistics that they send.
        device: where is computed.
    """

    key_width: int
    num_parties: int
    form: Form
    device: torch.device

    @property
    def value_width(self) -> int:
        """V; three eighths of K, as in many models, where K is that of none."""
        return SIZES.get(self.key_width, max(1, 3 * self.key_width // 8))

    @cached_property
    def covariance_KK(self) -> Array:
        """C: a diagonal and a few directions that keys prefer."""
        generator = torch_generator(0, "benchmark-prior", self.key_width)
        columns_KN = torch.randn(self.key_width, _COVARIANCE_COLUMNS, generator=generator, dtype=torch.float64)
        covariance_KK = columns_KN @ columns_KN.T
        covariance_KK.diagonal().add_(self.key_width)
        return array_of(covariance_KK)

    @cached_property
    def edits(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """keys_KE and residuals_VE of each party."""
        generator = torch_generator(0, "benchmark-edits", self.key_width)
        shapes = (self.key_width, EDITS), (self.value_width, EDITS)
        return [(draw(shapes[0], generator), draw(shapes[1], generator)) for _ in range(self.num_parties)]

    def ours(self, num_parties: int) -> Merged:
        """Our way, for the first so many parties."""
        method, total, num_bytes = CollabEdit(CollabEditSpec()), RunningSum(), 0
        for party in range(num_parties):
            (contribution,) = method.contribute([self.share(party)], None)
            num_bytes += contribution.nbytes
            total.add(contribution)
        solver = CovarianceSolver(self.covariance_KK, device=self.device)
        return Merged(method.merge(total.total(), solver).cpu(), num_bytes)

    def share(self, party: int) -> PartyShare:
        """A party's keys and residuals, with a generator of its own to hide them."""
        keys_KE, residuals_VE = self.edits[party]
        generator = torch_generator(0, "benchmark-rotation", party)
        return PartyShare(BASIS, keys_KE, residuals_VE, self.form, generator, party=party)

    def naive(self, num_parties: int) -> torch.Tensor:
        """The naive way, for the first so many parties; their matrices are made one by one."""
        own = [(keys.to(self.device), residuals.to(self.device)) for keys, residuals in self.edits[:num_parties]]
        crosses = (residuals_VE @ keys_KE.T for keys_KE, residuals_VE in own)
        grams = (keys_KE @ keys_KE.T for keys_KE, _ in own)
        return merge_naively(tensor_of(self.covariance_KK, self.device), None, crosses, grams).cpu()


def draw(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """A matrix of standard normal numbers."""
    return torch.randn(shape, generator=generator, dtype=torch.float64)
