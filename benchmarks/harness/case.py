"""A case: one size of a benchmark, that is the same work in two ways and what is needed to judge it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

#: Does the first so many items of a case and returns what came of it.
Work = Callable[[int], Any]


@dataclass(frozen=True)
class Product:
    """A matrix product [rows, inner]·[inner, columns], whose rate says what the machine can do."""

    rows: int
    inner: int
    columns: int
    dtype: torch.dtype
    device: torch.device

    @property
    def flops(self) -> int:
        """Floating-point operations of one product: a multiplication and an addition count as two."""
        return 2 * self.rows * self.inner * self.columns

    def __str__(self) -> str:
        return f"[{self.rows}, {self.inner}]·[{self.inner}, {self.columns}] {str(self.dtype).removeprefix('torch.')}"


@dataclass(frozen=True)
class Moved:
    """Bytes that are sent or stored, and what they are; ``count`` is None where no bytes leave the work."""

    count: int | None
    meaning: str


@dataclass(frozen=True)
class Case:
    """One size of a benchmark.

    Attributes:
        label: the size in words (``64 edits``).
        unit: what an item is, in the singular.
        items: number of items.
        ours: our way.
        naive: the naive twin; None where nothing compares.
        difference: greatest relative difference between our result and the naive one; ours may be of more items,
            in the same order, unless ``is_whole``.
        product: a matrix product of the shape that is typical for the work.
        prepare: makes what both ways begin with, before anything is measured.
        parameters: what else the numbers depend on, in plain values.
        granule: the naive way does a multiple of so many items.
        is_whole: a result is one sum over all items, so that ours must be done again on the naive one's items.
        has_fixed_part: the naive way has a part that does not grow with the items, so that its time for all of
            them is the straight line through two measured sizes rather than a multiple of one.
        share: of a result of ours and a number of items, the share of all work that these first items are; None where
            items are alike. Decides what the naive way's time on some of them stands for.
        moved: bytes that came of our result.
        floor: floating-point operations without which our result cannot be had, from that result.
        least_flops: floating-point operations of the naive way on so many items, by formula; where they would take
            too long the naive way is left out.
        needed_bytes: memory that either way needs, by formula.
        written_bytes: memory that our way writes to at least, by formula; a case that would take too long is left out.
    """

    label: str
    unit: str
    items: int
    ours: Work
    naive: Work | None
    difference: Callable[[Any, Any], float]
    product: Product
    prepare: Callable[[], object] = lambda: None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    granule: int = 1
    is_whole: bool = False
    has_fixed_part: bool = False
    share: Callable[[Any, int], float] | None = None
    moved: Callable[[Any], Moved] = lambda _: Moved(None, "nothing is sent or stored")
    floor: Callable[[Any], float] | None = None
    least_flops: Callable[[int], float] | None = None
    needed_bytes: int = 0
    written_bytes: int = 0


def relative_difference(ours: torch.Tensor, naive: torch.Tensor) -> float:
    """Greatest absolute difference over the greatest absolute value of the naive result."""
    assert ours.shape == naive.shape, f"{tuple(ours.shape)} against {tuple(naive.shape)}"
    if not naive.numel():
        return 0.0
    ours, naive = ours.double().cpu(), naive.double().cpu()
    largest, apart = float(naive.abs().max()), float((ours - naive).abs().max())
    return apart / largest if largest else apart
