"""What a run needs before its first round: the prior's sums, from the disk cache where they are, and contexts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from consortium.editing.editors.registry import create
from consortium.editing.prior import PriorCache
from consortium.merging.history import GramHistory
from consortium.merging.solver import PriorSolver
from consortium.merging.solvers import Solvers
from consortium.rounds import not_finite
from consortium.scenario.editor_schema import EditorSpec
from consortium.scenario.schema import Scenario

LayerSums = Mapping[int, NDArray[np.float64]]
LayerWeights = Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True)
class Prior:
    """Σ k·kᵀ [K, K] of each edited layer over ``num_tokens`` tokens."""

    sums: LayerSums
    num_tokens: int
    _solvers: dict[EditorSpec, Solvers] = field(default_factory=dict, init=False, repr=False, compare=False)

    def solver(self, scenario: Scenario, layer: int, history: GramHistory | None) -> PriorSolver:
        """The solver of a layer for the editor's prior and a history; what solvers share is kept."""
        spec = scenario.editor
        if spec not in self._solvers:
            self._solvers[spec] = create(spec).solvers(self.sums, self.num_tokens)
        return self._solvers[spec].get(layer, history.version if history else None, lambda: history)


def unmeasured(base_weights: LayerWeights) -> Prior:
    """What stands for the prior where the editor uses none: identities."""
    return Prior({layer: np.eye(weight_VK.shape[1]) for layer, weight_VK in base_weights.items()}, 1)


def cached_prior(fingerprint: Mapping[str, object] | None, layers: Sequence[int]) -> Prior | None:
    """The prior from disk, or None when a layer of it is missing."""
    if fingerprint is None:
        return None
    cache = PriorCache(fingerprint)
    found = {layer: cache.load(layer) for layer in layers}
    sums = {layer: entry[0] for layer, entry in found.items() if entry is not None}
    counts = {entry[1] for entry in found.values() if entry is not None}
    return Prior(sums, counts.pop()) if len(sums) == len(layers) and len(counts) == 1 else None


def add_chunk(total: Prior | None, chunk: tuple[LayerSums, int]) -> Prior:
    """The prior so far and one more chunk's sums; None stands for nothing so far."""
    sums, num_tokens = chunk
    if total is None:
        return Prior(sums, num_tokens)
    added = {layer: total.sums[layer] + gram_KK for layer, gram_KK in sums.items()}
    return Prior(added, total.num_tokens + num_tokens)


def left_out_of(prior: Prior, length: int, most: float) -> str | None:
    """What was left out of the prior since its keys are not finite, in words; None for nothing.

    Args:
        prior: the prior as it was measured.
        length: tokens of its text.
        most: the share of them that may be left out.

    Raises:
        RunError: more were.
    """
    bad = length - prior.num_tokens
    if bad > most * length or bad == length:
        raise not_finite(f"the keys of {bad} of {length} tokens of the prior's text are not finite", most)
    return f"tokens of the prior's text left out: {bad} of {length}" if bad else None


def keep_prior(fingerprint: Mapping[str, object] | None, prior: Prior) -> None:
    """Put a prior on disk for later runs."""
    if fingerprint is not None:
        cache = PriorCache(fingerprint)
        for layer, gram_KK in prior.sums.items():
            cache.store(layer, gram_KK, prior.num_tokens)
