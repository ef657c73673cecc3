"""Unlearning as a hook: what parties remove is computed again as it was sent, and subtracted before a merge.

Each earlier round is computed again as a whole, since targets depend in their last bits on what is optimised beside
them. A party sends one contribution over all rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch

from consortium.common.arrays import finite_columns
from consortium.data.party_batch import PartyBatch, WeightedEdit
from consortium.features.hooks import Columns, PartyHook, RoundHook


@dataclass(frozen=True)
class ExcludedBefore:
    """Earlier round → the parties that the arm excluded in it: what they asked for then was not merged."""

    parties: Mapping[int, frozenset[int]]

    @property
    def key(self) -> Hashable:
        """As something to look up by."""
        return tuple(sorted((number, tuple(sorted(parties))) for number, parties in self.parties.items()))

    def of(self, round_number: int) -> frozenset[int]:
        """The parties that were excluded in a round."""
        return self.parties.get(round_number, frozenset())


def _excluded_before(batch: PartyBatch) -> ExcludedBefore:
    found = batch.decisions["unlearning"]
    assert isinstance(found, ExcludedBefore), "what was decided under the feature's name"
    return found


class PartiesThatUnlearn(PartyHook):
    """Parties that leave, or remove single edits."""

    name = "unlearning"

    def removed(self, batch: PartyBatch) -> list[WeightedEdit]:
        """What of earlier rounds the batch's parties remove, party after party."""
        excluded, stream = _excluded_before(batch), self.data.stream
        parties = self.data.scenario.party_batch(batch.number)
        gone = (each for party in parties for each in stream.removed(batch.round, party))
        return [WeightedEdit(each) for each in gone if each.party not in excluded.of(each.round)]

    def removed_columns(self, batch: PartyBatch, columns_of: Callable[[PartyBatch], Columns]) -> dict[int, Columns]:
        """Of each party that takes something back; without columns where nothing of it was merged."""
        parties = self.data.scenario.party_batch(batch.number)
        places = {party: self.data.stream.removals.places(batch.round, party) for party in parties}
        nothing: Columns | None = None
        pieces: dict[int, list[Columns]] = {party: [] for party, own in places.items() if own}
        for earlier in sorted({number for own in places.values() for number, _ in own}):
            # Nothing was decided in rounds whose edits can be removed, but who was excluded.
            then = PartyBatch(earlier, batch.number, _excluded_before(batch).of(earlier).intersection(parties))
            keys_KE, residuals_VE = columns_of(then)
            nothing = nothing or (keys_KE[:, :0], residuals_VE[:, :0])
            sound_E = finite_columns(keys_KE, residuals_VE)  # the others were not sent
            for party, own in self.data.columns(then).items():
                indices = [index for number, index in places[party] if number == earlier and party not in then.excluded]
                chosen = [own.start + index for index in indices if sound_E[own.start + index]]
                if chosen:
                    pieces[party].append((keys_KE[:, chosen], residuals_VE[:, chosen]))
        assert nothing is not None, "some party of the batch takes something back"
        return {party: _joined(own or [nothing]) for party, own in sorted(pieces.items())}


def _joined(pieces: Sequence[Columns]) -> Columns:
    keys, residuals = zip(*pieces, strict=True)
    return torch.cat(keys, dim=1), torch.cat(residuals, dim=1)


class Unlearning(RoundHook):
    """Says which batches take something back in a round."""

    name = "unlearning"

    def removals(self, round_number: int, excluded: Mapping[int, frozenset[int]]) -> Sequence[PartyBatch]:
        """Those of which some party does."""
        numbers = self.stream.removals.batches(round_number, self.scenario.cluster.parties_per_batch)
        return [PartyBatch(round_number, each).decided(self.name, ExcludedBefore(excluded)) for each in numbers]


AT_PARTIES = PartiesThatUnlearn
AT_COORDINATOR = Unlearning
