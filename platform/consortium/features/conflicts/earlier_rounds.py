"""What parties remember of earlier rounds: what they withdrew, which answers stand, and which were merged.

A worker stands in for its parties and may be new, so it resolves earlier rounds again where it is asked about them.
"""

from __future__ import annotations

from collections.abc import Sequence

from consortium.data.edit import Edit
from consortium.data.request import Request
from consortium.features.conflicts.keyed_digests import KeyedDigests, keyed_digests_of, shared_key
from consortium.features.conflicts.resolution import RequestPlace
from consortium.features.conflicts.resolver import ConflictResolver
from consortium.features.hooks import PartyData


class EarlierRounds:
    """Questions about rounds, in any order; what was found out goes on to the next question.

    Args:
        data: the parties' edits.
    """

    def __init__(self, data: PartyData) -> None:
        self._data = data
        self._conflicts = data.scenario.conflicts
        self._withdrawn: dict[int, frozenset[RequestPlace]] = {}
        self._resolver = ConflictResolver(self._conflicts)
        self._taught: tuple[int, dict[int, frozenset[str]]] = (1, {})

    def keyed_digests(self, round_number: int, number: int) -> KeyedDigests:
        """What a batch's parties announce of their edits: digests."""
        asked = [(each.party, self._data.edit(each)) for each in self._data.requests(round_number, number)]
        return self._keyed_digests_of(round_number, asked)

    def _keyed_digests_of(self, round_number: int, asked: Sequence[tuple[int, Edit]]) -> KeyedDigests:
        is_comparable = self._conflicts.scope == "run"
        return keyed_digests_of(shared_key(self._data.scenario.seed), None if is_comparable else round_number, asked)

    def stands(self, edit: Edit, round_number: int) -> bool:
        """Whether an edit's answer is the one that stands after a round; where policies reach over rounds."""
        if self._resolver.round > round_number:
            self._resolver, self._withdrawn = ConflictResolver(self._conflicts), {}
        self.withdrawn_in(round_number)
        own = self._keyed_digests_of(round_number, [(0, edit)])
        return self._resolver.answer(own.slots[0]) == own.answers[0]

    def withdrawn_in(self, round_number: int) -> frozenset[RequestPlace]:
        """Requests of an earlier round that were rejected."""
        if self._conflicts.policy == "none":
            return frozenset()
        if round_number not in self._withdrawn:
            for number in self._resolver.missing(round_number):
                keyed_digests = [
                    self.keyed_digests(number, each) for each in range(self._data.scenario.num_party_batches)
                ]
                groups = self._resolver.resolve(number, keyed_digests)
                found = [
                    place
                    for each in groups
                    for place, decision in each.decisions.items()
                    if decision.status == "rejected"
                ]
                self._withdrawn[number] = frozenset(found)
        return self._withdrawn[round_number]

    def contradicts(self, request: Request) -> bool:
        """Whether another answer was merged in the last earlier round in which anybody's about the same fact was."""
        before = self._taught_before(request.round).get(request.fact, frozenset())
        return bool(before - {self._data.edit(request).target_new})

    def _taught_before(self, round_number: int) -> dict[int, frozenset[str]]:
        """Fact → answers that were merged in the last of the rounds before in which any was; goes on as it did last."""
        known_until, known = self._taught if self._taught[0] <= round_number else (1, {})
        for number in range(known_until, round_number):
            batches = range(self._data.scenario.num_party_batches)
            asked = [each for batch in batches for each in self._data.requests(number, batch)]
            merged = [each for each in asked if (each.party, each.index) not in self.withdrawn_in(number)]
            taught: dict[int, frozenset[str]] = {}
            for each in merged:
                taught[each.fact] = taught.get(each.fact, frozenset()) | {self._data.edit(each).target_new}
            known = known | taught
        self._taught = (round_number, known)
        return known
