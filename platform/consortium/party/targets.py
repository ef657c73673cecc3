"""Targets of party batches: optimised under an arm's weights or read from the worker's disk, and kept for a while.

Shapes: E edits, V value width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from consortium.common.cache import BoundedCache
from consortium.common.counting import count
from consortium.data.edit import Edit
from consortium.data.party_batch import PartyBatch
from consortium.editing.backend import Targets
from consortium.editing.edited_layers import EditedLayers, Weights
from consortium.editing.known_facts import Detection, RequestGroup, Residuals, residual_sums
from consortium.editing.target_cache import TargetCache
from consortium.party.data import PartyDataset

#: Targets kept at most, in bytes; those that had to go are computed again when they are asked for.
_TARGET_BYTES = 256 * 2**20
#: The same where they are quick to make: so few that a worker weighs the same for a hundred parties and for 10,000.
_QUICK_TARGET_BYTES = 16 * 2**20


@dataclass(frozen=True)
class TargetReport:
    """What a worker says of a batch's targets: counts and sums.

    Attributes:
        num_edits: edits of the batch.
        num_steps: gradient steps spent on all of them, now or when the targets were put on disk.
        loss: sum of the last losses, as far as they are finite.
        num_finished: edits whose loss came under ``editor.target.stop_loss``.
        num_cached: edits whose targets were read from the worker's disk.
        residuals: sums of residuals' lengths, by how the edits were asked for.
        num_mended: edits whose targets were on disk, but damaged, and were made again.
    """

    num_edits: int
    num_steps: int
    loss: float
    num_finished: int
    num_cached: int = 0
    residuals: Mapping[RequestGroup, Residuals] = field(default_factory=dict)
    num_mended: int = 0

    @property
    def note(self) -> str | None:
        """Where the targets came from, in words; None where all were optimised."""
        if self.num_mended:
            return f"{count(self.num_mended, 'target')} made again: their entry in the disk cache was damaged"
        return (
            f"{self.num_cached} of {count(self.num_edits, 'target')} from the disk cache" if self.num_cached else None
        )


@dataclass(frozen=True)
class _Found:
    """A batch's targets, and whether they were read from disk."""

    targets: Targets
    is_cached: bool
    is_mended: bool = False


class TargetStore:
    """The targets of batches under the weights that they are asked for.

    Args:
        data: the parties' edits.
        layers: the model.
    """

    def __init__(self, data: PartyDataset, layers: EditedLayers) -> None:
        self._data = data
        self._layers = layers
        limit = _TARGET_BYTES if layers.backend.targets_are_costly else _QUICK_TARGET_BYTES
        self._found: BoundedCache[_Found] = BoundedCache(limit, lambda found: found.targets.vectors_EV.nbytes)
        self._disk = TargetCache() if data.scenario.cluster.target_cache else None

    def targets(self, batch: PartyBatch, weights: Weights, layer: int) -> Targets:
        """A batch's targets from memory, from disk, or made now."""
        return self._find(batch, weights, layer).targets

    def report(self, batch: PartyBatch, weights: Weights, layer: int, detections: Sequence[Detection]) -> TargetReport:
        """What there is to say of a batch's targets, and of what its parties noticed once they were there."""
        found, scenario = self._find(batch, weights, layer), self._data.scenario
        targets, stop_loss = found.targets, scenario.editor.target.stop_loss
        return TargetReport(
            num_edits=len(targets.losses),
            num_steps=sum(targets.num_steps),
            loss=sum(filter(math.isfinite, targets.losses)),
            num_finished=sum(loss < stop_loss for loss in targets.losses),
            num_cached=len(targets.losses) if found.is_cached else 0,
            num_mended=len(targets.losses) if found.is_mended else 0,
            residuals=residual_sums(self._data.asked(batch), targets.shifts, scenario.overlap, detections),
        )

    def _find(self, batch: PartyBatch, weights: Weights, layer: int) -> _Found:
        """Under the name of all that the targets depend on."""

        def make() -> _Found:
            self._layers.load(weights)
            return self._read_or_optimise(self._data.edits(batch), layer)

        return self._found.get((weights.key, batch.key, layer), make)

    def _read_or_optimise(self, edits: Sequence[Edit], layer: int) -> _Found:
        backend = self._layers.backend
        if not edits:  # all parties of the batch have left, or all edits were withdrawn
            return _Found(Targets(layer, torch.zeros(0, self._layers.shapes[layer][0]), (), (), ()), is_cached=False)
        fingerprint = backend.targets_fingerprint(edits, layer) if self._disk is not None else None
        if self._disk is None or fingerprint is None:
            return _Found(backend.targets(edits, layer), is_cached=False)
        kept = self._disk.load(fingerprint)
        if kept is not None:
            return _Found(kept, is_cached=True)
        is_mended = self._disk.has(fingerprint)
        targets = backend.targets(edits, layer)
        self._disk.store(fingerprint, targets)
        return _Found(targets, is_cached=False, is_mended=is_mended)
