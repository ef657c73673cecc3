"""Fine-tuning at the parties, for editors that tune weights: what each party of a batch makes of an arm's weights.

Shapes: K key width, V value width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from consortium.common.cache import BoundedCache
from consortium.data.edit import Edit
from consortium.data.party_batch import PartyBatch
from consortium.editing.backend import Tuning
from consortium.editing.edited_layers import EditedLayers, Weights
from consortium.merging.method import PartyShare
from consortium.merging.statistics import Basis
from consortium.party.data import PartyDataset
from consortium.party.shares import Shares, generators
from consortium.party.targets import TargetReport
from consortium.scenario.editor import FineTuningSpec

#: Tuned weights kept at most, in bytes, in place of targets.
_TUNING_BYTES = 512 * 2**20
#: What each party of a batch makes of the weights by fine-tuning.
Tunings = tuple[Tuning, ...]


class Tuner:
    """Tunes a model's weights on parties' edits; what was tuned is kept for a while.

    Args:
        data: the parties' edits.
        layers: the model.
    """

    def __init__(self, data: PartyDataset, layers: EditedLayers) -> None:
        self._data = data
        self._layers = layers
        self._tunings: BoundedCache[Tunings] = BoundedCache(
            _TUNING_BYTES, lambda tunings: sum(each.nbytes for each in tunings)
        )

    def report(self, batch: PartyBatch, weights: Weights) -> TargetReport:
        """What there is to say of a batch's tuning."""
        tunings = self._tuned(batch, weights)
        losses = [loss for tuning in tunings for loss in tuning.losses]
        settings = self._data.scenario.editor
        assert isinstance(settings, FineTuningSpec), "an editor of another kind makes targets"
        return TargetReport(
            num_edits=len(losses),
            num_steps=sum(tuning.num_steps * len(tuning.losses) for tuning in tunings),
            loss=sum(filter(math.isfinite, losses)),
            num_finished=sum(loss < settings.stop_loss for loss in losses),
        )

    def shares(self, batch: PartyBatch, basis: Basis, weights: Weights) -> Shares:
        """Parties' shares of what they tuned at one layer; no keys, so nothing for a history."""
        shares, tunings = [], self._tuned(batch, weights)
        for party, tuning in zip(self._data.scenario.party_batch(batch.number), tunings, strict=True):
            delta_VK = tuning.deltas[basis.layer].double()
            no_keys_KE, no_residuals_VE = delta_VK.new_zeros(delta_VK.shape[1], 0), delta_VK[:, :0]
            hiding = generators(self._data.scenario.seed, basis, party)
            shares.append(PartyShare(basis, no_keys_KE, no_residuals_VE, "factored", *hiding, update=(delta_VK,)))
        num_not_finite = tuple(tuning.num_not_finite for tuning in tunings)
        num_summed = len(self._data.merged(batch)) - sum(num_not_finite)
        return Shares(shares, (0,) * len(shares), num_not_finite, num_summed)

    def _tuned(self, batch: PartyBatch, weights: Weights) -> Tunings:
        """What each party of a batch makes of ``weights`` by fine-tuning them on its own edits."""

        def make() -> Tunings:
            self._layers.load(weights)
            edits = self._data.edits(batch)
            return tuple(self._fine_tuned(edits[own]) for own in self._data.columns(batch).values())

        return self._tunings.get((weights.key, batch.key), make)

    def _fine_tuned(self, edits: Sequence[Edit]) -> Tuning:
        """What a party makes of its edits; those that are not finite by themselves are left out, or else all."""
        shapes, backend = self._layers.shapes, self._layers.backend
        nothing = Tuning({layer: torch.zeros(shape) for layer, shape in shapes.items()}, 0, ())
        if not edits:
            return nothing
        tuning = backend.fine_tune(edits)
        if tuning.is_finite:
            return tuning
        sound = [edit for edit in edits if backend.fine_tune([edit]).is_finite]
        tuning = backend.fine_tune(sound) if 0 < len(sound) < len(edits) else nothing
        tuning = tuning if tuning.is_finite else nothing
        return replace(tuning, num_not_finite=len(edits) - len(tuning.losses))
