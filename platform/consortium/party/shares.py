"""Parties' shares of a sum: the keys and residuals that each of a batch's parties makes its message from.

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch

from consortium.common.arrays import finite_columns
from consortium.common.cache import BoundedCache
from consortium.common.seeds import torch_generator
from consortium.data.party_batch import PartyBatch
from consortium.editing.backend import States
from consortium.editing.edited_layers import EditedLayers, Weights
from consortium.editing.editors.editor import KeyMap
from consortium.editing.layer_schedule import Part
from consortium.features.hooks import Columns
from consortium.merging.method import PartyShare
from consortium.merging.sample_weights import weighed
from consortium.merging.statistics import Basis
from consortium.party.data import PartyDataset
from consortium.party.targets import TargetStore

#: Hidden states kept at most, in bytes, on the device; where they had to go, a layer's keys begin at the bottom again.
_STATE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Shares:
    """What a batch's parties make their messages from.

    Attributes:
        shares: one of each party, in order.
        num_skipped: edits that each party does not send.
        num_not_finite: edits that each party leaves out besides, since their numbers are not finite.
        num_summed: edits in all shares, copies included.
    """

    shares: Sequence[PartyShare]
    num_skipped: Sequence[int]
    num_not_finite: Sequence[int]
    num_summed: int


def generators(seed: int, basis: Basis, party: int, what: str = "") -> tuple[torch.Generator, torch.Generator]:
    """A party's generators for hiding its keys and for dropping entries, of what it sends or removes."""
    place = basis.arm, basis.round, basis.layer, party
    return torch_generator(seed, f"rotation{what}", *place), torch_generator(seed, f"drops{what}", *place)


class ShareMaker:
    """Takes keys and residuals of batches' edits; hidden states are kept from layer to layer.

    Args:
        data: the parties' edits.
        layers: the model.
        targets: the edits' targets.
        map_keys: takes keys as they were measured, and gives those that statistics are made of.
    """

    def __init__(self, data: PartyDataset, layers: EditedLayers, targets: TargetStore, map_keys: KeyMap) -> None:
        self._data = data
        self._layers = layers
        self._targets = targets
        self._map_keys = map_keys
        self._states: BoundedCache[States] = BoundedCache(_STATE_BYTES, lambda states: states.nbytes)

    def shares(
        self,
        batch: PartyBatch,
        part: Part,
        basis: Basis,
        weights: Weights,
        targets_at: Weights,
        is_skipped_E: Sequence[bool],
    ) -> Shares:
        """The shares of a batch's parties.

        Args:
            batch: the batch.
            part: the layer and how the residual is shared.
            basis: what they are for.
            weights: weights under which keys and residuals are taken.
            targets_at: weights under which the targets were optimised.
            is_skipped_E: edits that their parties do not send.
        """
        keys_KE, residuals_VE = self.columns(batch, part, weights, targets_at)
        sound_E = finite_columns(keys_KE, residuals_VE)
        merged, columns = self._data.merged(batch), self._data.columns(batch)
        shares, num_skipped, num_not_finite = [], [], []
        for party, own in columns.items():
            # Where all is sent the columns are a slice, which is no copy.
            is_whole = all(sound_E[own]) and not any(is_skipped_E)
            places = [each for each in range(own.start, own.stop) if sound_E[each] and not is_skipped_E[each]]
            chosen = own if is_whole else places
            share = self._share(basis, party, (keys_KE[:, chosen], residuals_VE[:, chosen]))
            shares.append(share)
            num_skipped.append(sum(sound_E[own]) - share.keys_KE.shape[1])
            bad = [not is_sound for is_sound in sound_E[own]]
            num_not_finite.append(
                sum(each.copy is None for each, is_bad in zip(merged[own], bad, strict=True) if is_bad)
            )
        return Shares(shares, num_skipped, num_not_finite, sum(share.keys_KE.shape[1] for share in shares))

    def removed(self, basis: Basis, columns: Mapping[int, Columns]) -> list[PartyShare]:
        """The shares of parties that take something back: party → keys and residuals."""
        return [self._share(basis, party, own, "-back") for party, own in columns.items()]

    def _share(self, basis: Basis, party: int, columns: Columns, what: str = "") -> PartyShare:
        scenario = self._data.scenario
        hiding = generators(scenario.seed, basis, party, what)
        return PartyShare(basis, *columns, scenario.merge.statistics, *hiding, party=party)

    def columns(self, batch: PartyBatch, part: Part, weights: Weights, targets_at: Weights) -> Columns:
        """Keys [K, E] and residuals [V, E], shared out and weighed, of all edits of a batch, by parties."""
        weights_E = [each.weight for each in self._data.merged(batch)]
        if not weights_E:
            value_width, key_width = self._layers.shapes[part.layer]
            nothing = torch.zeros(key_width + value_width, 0, dtype=torch.float64)
            return nothing[:key_width], nothing[key_width:]
        targets = self._targets.targets(batch, targets_at, part.target_layer)
        states = self._states_of(batch, weights, part.layer)
        self._layers.load(weights)
        keys_KE, missing_VE = self._layers.backend.keys_and_residuals(states, targets)
        keys_KE = self._map_keys(part.layer, keys_KE)
        return weighed(keys_KE, missing_VE / part.divisor, torch.tensor(weights_E, dtype=torch.float64))

    def _states_of(self, batch: PartyBatch, weights: Weights, layer: int) -> States:
        """The batch's states at the input of ``layer``, carried on from the nearest edited layer that is kept.

        They depend on the edited layers before alone, so arms share those at the first one.
        """

        def name(at: int) -> Hashable:
            known = tuple((below, version) for below, version in weights.key if below < at)
            return batch.key, at, known

        def make() -> States:
            kept = [self._states.peek(name(at)) for at in sorted(weights.versions) if at < layer]
            nearest = next((states for states in reversed(kept) if states is not None), None)
            self._layers.load(weights)
            return self._layers.backend.states(self._data.edits(batch), layer, nearest)

        return self._states.get(name(layer), make)
