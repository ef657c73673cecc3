"""What parties keep to themselves: their edits, round by round, and what of them goes into merges."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate, pairwise

from consortium.common.cache import BoundedCache
from consortium.data.attackers import really_asked
from consortium.data.edit import Edit, FactSet
from consortium.data.party_batch import PartyBatch, WeightedEdit
from consortium.data.request import Request
from consortium.data.stream import times_asked
from consortium.editing.known_facts import RequestGroup
from consortium.evaluation.schedule import sampled_requests, superseded
from consortium.features.registry import open_stream, party_hooks
from consortium.scenario.schema import Scenario

#: Edits kept at most, of the batches asked about last.
_EDITS_KEPT = 4096


@dataclass(frozen=True)
class _Own:
    """What of a batch goes into the merge, party after party; the edits of it, and the requests by party and place."""

    merged: list[WeightedEdit]
    edits: list[Edit]
    places: frozenset[tuple[int, int]]


class PartyDataset:
    """All parties' edits, by batch.

    Args:
        scenario: the scenario as resolved.
        facts: all facts; a party's own follow from the stream.

    Attributes:
        hooks: feature → its hook with the parties' edits.
    """

    def __init__(self, scenario: Scenario, facts: FactSet) -> None:
        self.scenario = scenario
        self.facts = facts
        self.stream = open_stream(scenario, facts.relations())
        self.hooks = party_hooks(self)
        self._own_of: BoundedCache[_Own] = BoundedCache(_EDITS_KEPT, lambda own: len(own.edits))
        self._contradicted: tuple[int, dict[int, int]] = (0, {})

    def requests(self, round_number: int, number: int) -> list[Request]:
        """What a batch's parties ask for in a round, party after party."""
        parties = self.scenario.party_batch(number)
        return [request for party in parties for request in self.stream.requests(round_number, party)]

    def edit(self, request: Request) -> Edit:
        """The edit that a request asks for."""
        asked = really_asked(self.scenario, self.stream, request)
        return self.facts.edit(asked.fact, asked.variant)

    def merged(self, batch: PartyBatch) -> list[WeightedEdit]:
        """What of a batch goes into the merge, party after party."""
        return self._own(batch).merged

    def edits(self, batch: PartyBatch) -> list[Edit]:
        """The edits of :meth:`merged`."""
        return self._own(batch).edits

    def is_merged(self, batch: PartyBatch, request: Request) -> bool:
        """Whether a request of the batch's round goes into the merge; all do where nothing was decided."""
        if not batch.excluded and not batch.decisions:
            return True
        return (request.party, request.index) in self._own(batch).places

    def _own(self, batch: PartyBatch) -> _Own:
        """What several questions about one batch, one after the other, are answered from."""

        def make() -> _Own:
            requests = self.requests(batch.round, batch.number)
            merged = [WeightedEdit(each) for each in requests if each.party not in batch.excluded]
            for hook in self.hooks.values():
                merged = hook.select(batch, merged)
            places = frozenset((each.request.party, each.request.index) for each in merged)
            return _Own(merged, [each.copy or self.edit(each.request) for each in merged], places)

        return self._own_of.get(batch.key, make)

    def columns(self, batch: PartyBatch) -> dict[int, slice]:
        """Party → where its edits stand among :meth:`edits`; nowhere for a party that has left."""
        parties = self.scenario.party_batch(batch.number)
        counts = Counter(each.request.party for each in self.merged(batch))
        ends = accumulate((counts[party] for party in parties), initial=0)
        return dict(zip(parties, (slice(*ends_of) for ends_of in pairwise(ends)), strict=True))

    def asked(self, batch: PartyBatch) -> list[RequestGroup]:
        """How each of :meth:`edits` was asked for."""
        requests = [each.request for each in self.merged(batch)]
        return [(request.kind, times_asked(self.stream, request)) for request in requests]

    def resolver(self, rounds: range, round_number: int, parties: range) -> list[tuple[int, Request]]:
        """Sampled requests of earlier rounds that still hold, and none up to now contradicted or took back."""
        return [
            (earlier, request)
            for earlier in rounds
            for request in sampled_requests(self.scenario, self.stream, earlier, parties)
            if self.stream.is_live(request, round_number)
            and not self._is_contradicted(request, round_number)
            and all(hook.holds(request, round_number) for hook in self.hooks.values())
        ]

    def stands(self, edit: Edit, round_number: int) -> bool:
        """Whether a policy over all rounds has an edit's answer stand after a round."""
        return all(hook.stands(edit, round_number) for hook in self.hooks.values())

    def _is_contradicted(self, request: Request, round_number: int) -> bool:
        """Whether the last writer wins, and another one came; else a policy over all rounds says what holds."""
        if self.scenario.conflicts.scope == "run":
            return False
        return self.contradicted_until(round_number).get(request.fact, 0) > request.round

    def contradicted_until(self, round_number: int) -> dict[int, int]:
        """Fact → last round, up to this one, in which it was contradicted; goes on from where it was looked up last."""
        known_until, known = self._contradicted
        if round_number < known_until or any(
            known_until < each <= round_number for each in self.stream.removals.rounds()
        ):
            known_until, known = 0, {}  # what was removed since contradicts nothing any more
        if round_number > known_until:
            known = known | superseded(self.stream, range(known_until + 1, round_number + 1))
        self._contradicted = (round_number, known)
        return known
