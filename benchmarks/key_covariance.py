"""The key covariance: sums of k·kᵀ over texts, many at a time up to the last edited layer, against whole runs text by
text.

Two cases for each number of tokens: the sums alone, over drawn token ids, against the naive twin; and the key
covariance as a run makes it, its text sampled from the model itself, with which nothing naive compares.

Shapes: B texts, T tokens of a text, K key width.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial

import numpy as np
import torch
from consortium.common.seeds import torch_generator
from consortium.editing.covariance_text import TEXT_TOKENS
from consortium.editing.key_covariance import covariance_tokens, measure_chunk, num_chunks, sum_over_texts
from consortium.scenario.editor import CovarianceSpec
from numpy.typing import NDArray

from benchmarks.harness.case import Case, Moved, relative_difference
from benchmarks.harness.fixtures import Fixtures
from benchmarks.harness.measure import measure
from benchmarks.harness.record import Record
from benchmarks.naive.key_covariance import covariance_sum_naively

#: Layer → Σ k·kᵀ [K, K].
Sums = dict[int, NDArray[np.float64]]


def records(bench: Fixtures) -> Iterator[Record]:
    """Two records for each number of tokens; by default one number, the default of a run."""
    for size in bench.options.sizes or (covariance_tokens(CovarianceSpec(), bench.model.key_width(bench.layer)),):
        work = Texts(bench, size)
        yield measure("key_covariance", sums_case(work), bench.options.budget, bench.tell)
        yield measure("key_covariance", whole_case(work), bench.options.budget, bench.tell)


def sums_case(work: Texts) -> Case:
    """The sums over so many tokens of given text."""
    return Case(
        label=f"{work.num_tokens} tokens, sums",
        unit="token",
        items=work.num_tokens,
        ours=lambda count: sum_over_texts(work.model, work.ids_BT[: count // TEXT_TOKENS], work.layers)[0],
        naive=lambda count: covariance_sum_naively(
            work.model, work.ids_BT[: count // TEXT_TOKENS].tolist(), work.layers
        ),
        difference=_difference,
        product=work.bench.mlp_product(work.num_tokens),
        prepare=lambda: work.ids_BT,
        parameters=work.parameters,
        granule=TEXT_TOKENS,
        is_whole=True,
        moved=_stored,
    )


def whole_case(work: Texts) -> Case:
    """The key covariance as a run makes it: text sampled from the model, and the sums over it."""
    return Case(
        label=f"{work.num_tokens} tokens, sampled and summed",
        unit="token",
        items=work.num_tokens,
        ours=work.sampled,
        naive=None,
        difference=_difference,
        product=work.bench.mlp_product(work.num_tokens),
        parameters=work.parameters,
        granule=work.fewest,
        moved=_stored,
    )


def _stored(sums: Sums) -> Moved:
    return Moved(sum(gram_KK.nbytes for gram_KK in sums.values()), "sums, kept on disk for later runs")


def _difference(ours: Sums, naive: Sums) -> float:
    as_tensors = partial(map, torch.from_numpy)
    return max(map(relative_difference, as_tensors(ours.values()), as_tensors(naive.values())))


class Texts:
    """So many tokens of text, in texts of equal length, and the layers that are summed over them."""

    def __init__(self, bench: Fixtures, size: int) -> None:
        self.bench, self.model, self.layers = bench, bench.model, bench.layers
        self.num_tokens = -(-size // TEXT_TOKENS) * TEXT_TOKENS
        self.parameters = {**bench.parameters, "layers": list(bench.layers)}

    @property
    def fewest(self) -> int:
        """The least number of tokens that a run accepts, in whole texts."""
        least = 2 * max(self.model.key_width(layer) for layer in self.layers)
        return min(self.num_tokens, -(-least // TEXT_TOKENS) * TEXT_TOKENS)

    @cached_property
    def ids_BT(self) -> torch.Tensor:
        """Drawn token ids."""
        vocabulary = min(len(self.model.tokenizer), int(self.model.text_config.vocab_size))
        shape = (self.num_tokens // TEXT_TOKENS, TEXT_TOKENS)
        return torch.randint(vocabulary, shape, generator=torch_generator(0, "benchmark-text"))

    def sampled(self, num_tokens: int) -> Sums:
        """The sums over so many tokens that the model writes, chunk after chunk."""
        spec = CovarianceSpec(tokens=num_tokens)
        key_width = max(self.model.key_width(layer) for layer in self.layers)
        chunks = range(num_chunks(spec, key_width))
        total, *others = (measure_chunk(self.model, spec, self.layers, chunk)[0] for chunk in chunks)
        for sums in others:
            total = {layer: gram_KK + sums[layer] for layer, gram_KK in total.items()}
        return total
