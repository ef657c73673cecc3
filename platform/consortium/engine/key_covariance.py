"""What a run needs before its first round: the key covariance's sums, from the disk cache where they are, and
contexts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from consortium.common.counting import count
from consortium.data.edit import FactSet
from consortium.editing.editors.registry import create_editor
from consortium.editing.key_covariance import CovarianceCache
from consortium.engine.metric_rows import not_finite
from consortium.loading.inputs import arithmetic, model_inputs, scenario_inputs, surroundings
from consortium.merging.history import GramHistory
from consortium.merging.solver import CovarianceSolver
from consortium.merging.solvers import Solvers
from consortium.records.directory import RunDirectory
from consortium.scenario.editor import EditorSpec
from consortium.scenario.schema import Scenario

SumsByLayer = Mapping[int, NDArray[np.float64]]
LayerWeights = Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True)
class KeyCovariance:
    """Σ k·kᵀ [K, K] of each edited layer over ``num_tokens`` tokens.

    Attributes:
        sums: layer → its sum.
        num_tokens: tokens that were summed over.
        is_measured: whether it was; else it stands for none.
    """

    sums: SumsByLayer
    num_tokens: int
    is_measured: bool = True
    _solvers: dict[EditorSpec, Solvers] = field(default_factory=dict, init=False, repr=False, compare=False)

    def solver(self, scenario: Scenario, layer: int, history: GramHistory | None) -> CovarianceSolver:
        """The solver of a layer for the editor's key covariance and a history; what solvers share is kept."""
        spec = scenario.editor
        if spec not in self._solvers:
            self._solvers[spec] = create_editor(spec).solvers(self.sums, self.num_tokens)
        return self._solvers[spec].get(layer, history.version if history else None, lambda: history)


def take_up(directory: RunDirectory, facts: FactSet) -> list[str]:
    """Begin or go on with a run: all that it depends on must be as it was when it began.

    Returns:
        What is other than before and gone on with, in words; the next commit tells it as an event.

    Raises:
        RunDirectoryError: a file of the run is damaged, or an input is another one; nothing is changed then.
        ConsortiumError: an input cannot be read.
    """
    changed = hold_against(directory, facts)
    directory.mark_running()
    return changed


def hold_against(directory: RunDirectory, facts: FactSet) -> list[str]:
    """Compare what a run depends on with what it began with; returns what differs and is gone on with, in words.

    Raises:
        RunDirectoryError: an input is another one, and changes are not accepted; nothing is changed then.
        ConsortiumError: an input cannot be read.
    """
    changed = directory.hold_against(scenario_inputs(directory.scenario, facts), surroundings())
    if changed:
        directory.note("changed", "; ".join(changed))
    return changed


def hold_model_against(
    directory: RunDirectory, fingerprint: Mapping[str, object] | None, covariance: KeyCovariance
) -> list[str]:
    """Compare the model and its key covariance with those that the run began with; returns what differs, in words.

    They are written down before the first commit. A covariance that was lost and is measured again passes, if it is
    the same.

    Raises:
        RunDirectoryError: one of them is another.
    """
    sums = covariance.sums if covariance.is_measured else {}
    return directory.hold_against(model_inputs(fingerprint, sums, covariance.num_tokens), arithmetic(fingerprint))


def unmeasured(base_weights: LayerWeights) -> KeyCovariance:
    """What stands for the key covariance where the editor uses none: identities."""
    return KeyCovariance(
        {layer: np.eye(weight_VK.shape[1]) for layer, weight_VK in base_weights.items()}, 1, is_measured=False
    )


def cached_covariance(
    fingerprint: Mapping[str, object] | None, layers: Sequence[int], tell: Callable[[str], None] = lambda words: None
) -> KeyCovariance | None:
    """The key covariance from disk, or None when a layer of it is missing or damaged; ``tell`` is told of damage, in
    words."""
    if fingerprint is None:
        return None
    cache = CovarianceCache(fingerprint, tell=tell)
    found = {layer: cache.load(layer) for layer in layers}
    sums = {layer: entry[0] for layer, entry in found.items() if entry is not None}
    counts = {entry[1] for entry in found.values() if entry is not None}
    return KeyCovariance(sums, counts.pop()) if len(sums) == len(layers) and len(counts) == 1 else None


def add_chunk(total: KeyCovariance | None, chunk: tuple[SumsByLayer, int]) -> KeyCovariance:
    """The key covariance so far and one more chunk's sums; None stands for nothing so far."""
    sums, num_tokens = chunk
    if total is None:
        return KeyCovariance(sums, num_tokens)
    added = {layer: total.sums[layer] + gram_KK for layer, gram_KK in sums.items()}
    return KeyCovariance(added, total.num_tokens + num_tokens)


def left_out_of(covariance: KeyCovariance, length: int, most: float) -> str | None:
    """What was left out of the key covariance since its keys are not finite, in words; None for nothing.

    Args:
        covariance: the key covariance as it was measured.
        length: tokens of its text.
        most: the share of them that may be left out.

    Raises:
        RunError: more were.
    """
    bad = length - covariance.num_tokens
    if bad > most * length or bad == length:
        raise not_finite(
            f"the keys of {bad} of {count(length, 'token')} of the key covariance's text are not finite", most
        )
    return f"tokens of the key covariance's text left out: {bad} of {length}" if bad else None


def keep_covariance(fingerprint: Mapping[str, object] | None, covariance: KeyCovariance) -> None:
    """Put a key covariance on disk for later runs."""
    if fingerprint is not None:
        cache = CovarianceCache(fingerprint)
        for layer, gram_KK in covariance.sums.items():
            cache.store(layer, gram_KK, covariance.num_tokens)
