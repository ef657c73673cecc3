"""What parties keep to themselves: their edits, round by round. Nothing of it leaves a worker but keyed digests,
digests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from consortium.common.cache import Kept
from consortium.data.attackers import asked_for
from consortium.data.edit import Edit, FactSet
from consortium.data.party_batch import PartyBatch, WeightedEdit
from consortium.data.request import Request
from consortium.data.stream import times_asked
from consortium.editing.known_facts import Asked
from consortium.evaluation.schedule import sampled_requests, superseded
from consortium.features.conflicts.keyed_digests import KeyedDigests, keyed_digests_of, shared_key
from consortium.features.conflicts.resolution import Place
from consortium.features.conflicts.resolver import ConflictResolver
from consortium.features.conflicts.selected import accepted
from consortium.features.virtual_time.stream import open_stream
from consortium.scenario.schema import Scenario

#: Edits kept at most, of the party batches asked about last.
_EDITS_KEPT = 4096


@dataclass(frozen=True)
class _Own:
    """What of a party batch's round goes into the merge, party after party, and the edits of it."""

    accepted: list[WeightedEdit]
    edits: list[Edit]


class PartyDataset:
    """All parties' edits, by party batch.

    Args:
        scenario: the scenario as resolved.
        facts: all facts; a party's own follow from the stream.
    """

    def __init__(self, scenario: Scenario, facts: FactSet) -> None:
        self.scenario = scenario
        self.facts = facts
        self.stream = open_stream(scenario, facts.relations())
        self._accepted: Kept[_Own] = Kept(_EDITS_KEPT, lambda own: len(own.edits))
        self._contradicted: tuple[int, dict[int, int]] = (0, {})
        self._rejected: dict[int, frozenset[Place]] = {}
        self._resolver = ConflictResolver(scenario.conflicts)
        self._taught: tuple[int, dict[int, frozenset[str]]] = (1, {})

    def requests(self, round_number: int, party_batch: int) -> list[Request]:
        """What a party batch's parties ask for in a round, party after party."""
        parties = self.scenario.party_batch(party_batch)
        return [request for party in parties for request in self.stream.requests(round_number, party)]

    def edit(self, request: Request) -> Edit:
        """The edit that a request asks for."""
        asked = asked_for(self.scenario, self.stream, request)
        return self.facts.edit(asked.fact, asked.variant)

    def keyed_digests(self, round_number: int, party_batch: int) -> KeyedDigests:
        """What a party batch's parties announce of their edits: digests."""
        asked = [(request.party, self.edit(request)) for request in self.requests(round_number, party_batch)]
        return self._keyed_digests_of(round_number, asked)

    def _keyed_digests_of(self, round_number: int, asked: Sequence[tuple[int, Edit]]) -> KeyedDigests:
        is_comparable = self.scenario.conflicts.scope == "run"
        return keyed_digests_of(shared_key(self.scenario.seed), None if is_comparable else round_number, asked)

    def accepted(self, batch: PartyBatch) -> list[WeightedEdit]:
        """What of a batch goes into the merge, party after party."""
        return self._own(batch).accepted

    def removed(self, round_number: int, party_batch: int, absent: Mapping[int, frozenset[int]]) -> list[WeightedEdit]:
        """What of earlier rounds a party batch's parties remove in a round, party after party.

        ``absent`` maps earlier rounds to the parties that were out in them: what these asked for was not merged.
        """
        gone = (
            each
            for party in self.scenario.party_batch(party_batch)
            for each in self.stream.removed(round_number, party)
        )
        return [WeightedEdit(each) for each in gone if each.party not in absent.get(each.round, ())]

    def edits(self, batch: PartyBatch) -> list[Edit]:
        """The edits of :meth:`accepted`."""
        return self._own(batch).edits

    def _own(self, batch: PartyBatch) -> _Own:
        """What several questions about one party batch, one after the other, are answered from."""

        def make() -> _Own:
            found = accepted(self.scenario, batch, self.requests(batch.round, batch.number), self.edit)
            return _Own(found, [each.copy or self.edit(each.request) for each in found])

        return self._accepted.get(batch.key, make)

    def columns(self, batch: PartyBatch) -> dict[int, slice]:
        """Party → where its edits stand among :meth:`edits`; nowhere for a party that has left."""
        parties = self.scenario.party_batch(batch.number)
        counts = Counter(each.request.party for each in self.accepted(batch))
        ends = accumulate((counts[party] for party in parties), initial=0)
        return dict(zip(parties, (slice(*ends_of) for ends_of in pairwise(ends)), strict=True))

    def asked(self, batch: PartyBatch) -> list[Asked]:
        """How each of :meth:`edits` was asked for."""
        requests = [each.request for each in self.accepted(batch)]
        return [(request.kind, times_asked(self.stream, request)) for request in requests]

    def resolver(self, rounds: range, round_number: int, parties: range) -> list[tuple[int, Request]]:
        """Sampled requests of earlier rounds that were not rejected, and none up to now contradicted or took back."""
        return [
            (earlier, request)
            for earlier in rounds
            for request in sampled_requests(self.scenario, self.stream, earlier, parties)
            if not self._is_overruled(request, round_number)
            and self.stream.is_live(request, round_number)
            and (request.party, request.index) not in self.rejected_in(earlier)
        ]

    def _is_overruled(self, request: Request, round_number: int) -> bool:
        """Whether another answer than an earlier request's stands after a round."""
        if self.scenario.conflicts.scope == "run":
            return not self.stands(self.edit(request), round_number)
        return self.contradicted_until(round_number).get(request.fact, 0) > request.round

    def stands(self, edit: Edit, round_number: int) -> bool:
        """Whether an edit's answer is the one that stands after a round; where policies reach over rounds."""
        if self._resolver.round > round_number:
            self._resolver, self._rejected = ConflictResolver(self.scenario.conflicts), {}
        self.rejected_in(round_number)
        own = self._keyed_digests_of(round_number, [(0, edit)])
        return self._resolver.answer(own.slots[0]) == own.answers[0]

    def rejected_in(self, round_number: int) -> frozenset[Place]:
        """Requests of an earlier round that were rejected.

        A party remembers what it withdrew. A worker stands in for parties and may be new, so it resolves that round
        again.
        """
        if self.scenario.conflicts.policy == "none":
            return frozenset()
        if round_number not in self._rejected:
            for number in self._resolver.missing(round_number):
                keyed_digests = [self.keyed_digests(number, each) for each in range(self.scenario.num_party_batches)]
                groups = self._resolver.resolve(number, keyed_digests)
                found = [
                    place
                    for each in groups
                    for place, decision in each.decisions.items()
                    if decision.status == "rejected"
                ]
                self._rejected[number] = frozenset(found)
        return self._rejected[round_number]

    def contradicts_earlier(self, request: Request) -> bool:
        """Whether another answer was merged in the last earlier round in which anybody's about the same fact was."""
        before = self._taught_before(request.round).get(request.fact, frozenset())
        return bool(before - {self.edit(request).target_new})

    def _taught_before(self, round_number: int) -> dict[int, frozenset[str]]:
        """Fact → answers that were merged in the last of the rounds before in which any was; goes on as it did last."""
        known_until, known = self._taught if self._taught[0] <= round_number else (1, {})
        for number in range(known_until, round_number):
            asked = [
                each
                for party_batch in range(self.scenario.num_party_batches)
                for each in self.requests(number, party_batch)
            ]
            merged = [each for each in asked if (each.party, each.index) not in self.rejected_in(number)]
            taught: dict[int, frozenset[str]] = {}
            for each in merged:
                taught[each.fact] = taught.get(each.fact, frozenset()) | {self.edit(each).target_new}
            known = known | taught
        self._taught = (round_number, known)
        return known

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
