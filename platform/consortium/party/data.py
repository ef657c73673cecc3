"""What parties keep to themselves: their edits, round by round. Nothing of it leaves a host but slips, digests."""

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
from consortium.features.conflicts.commitments import Slips, shared_key, slips_of
from consortium.features.conflicts.resolution import Place
from consortium.features.conflicts.resolver import Standing
from consortium.features.conflicts.selected import accepted
from consortium.features.virtual_time.stream import open_stream
from consortium.scenario.schema import Scenario

#: Edits kept at most, of the cohorts asked about last.
_EDITS_KEPT = 4096


@dataclass(frozen=True)
class _Own:
    """What of a cohort's round goes into the merge, party after party, and the edits of it."""

    accepted: list[WeightedEdit]
    edits: list[Edit]


class PrivateEdits:
    """All parties' edits, by cohort.

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
        self._withdrawn: dict[int, frozenset[Place]] = {}
        self._standing = Standing(scenario.conflicts)
        self._taught: tuple[int, dict[int, frozenset[str]]] = (1, {})

    def requests(self, round_number: int, cohort: int) -> list[Request]:
        """What a cohort's parties ask for in a round, party after party."""
        parties = self.scenario.cohort(cohort)
        return [request for party in parties for request in self.stream.requests(round_number, party)]

    def edit(self, request: Request) -> Edit:
        """The edit that a request asks for."""
        asked = asked_for(self.scenario, self.stream, request)
        return self.facts.edit(asked.fact, asked.variant)

    def slips(self, round_number: int, cohort: int) -> Slips:
        """What a cohort's parties announce of their edits: digests."""
        asked = [(request.party, self.edit(request)) for request in self.requests(round_number, cohort)]
        return self._slips_of(round_number, asked)

    def _slips_of(self, round_number: int, asked: Sequence[tuple[int, Edit]]) -> Slips:
        is_comparable = self.scenario.conflicts.span == "run"
        return slips_of(shared_key(self.scenario.seed), None if is_comparable else round_number, asked)

    def accepted(self, batch: PartyBatch) -> list[WeightedEdit]:
        """What of a batch goes into the merge, party after party."""
        return self._own(batch).accepted

    def taken_back(self, round_number: int, cohort: int, absent: Mapping[int, frozenset[int]]) -> list[WeightedEdit]:
        """What of earlier rounds a cohort's parties take back in a round, party after party.

        ``absent`` maps earlier rounds to the parties that were out in them: what these asked for was not merged.
        """
        gone = (each for party in self.scenario.cohort(cohort) for each in self.stream.taken_back(round_number, party))
        return [WeightedEdit(each) for each in gone if each.party not in absent.get(each.round, ())]

    def edits(self, batch: PartyBatch) -> list[Edit]:
        """The edits of :meth:`accepted`."""
        return self._own(batch).edits

    def _own(self, batch: PartyBatch) -> _Own:
        """What several questions about one cohort, one after the other, are answered from."""

        def make() -> _Own:
            found = accepted(self.scenario, batch, self.requests(batch.round, batch.number), self.edit)
            return _Own(found, [each.copy or self.edit(each.request) for each in found])

        return self._accepted.get(batch.key, make)

    def columns(self, batch: PartyBatch) -> dict[int, slice]:
        """Party → where its edits stand among :meth:`edits`; nowhere for a party that has left."""
        parties = self.scenario.cohort(batch.number)
        counts = Counter(each.request.party for each in self.accepted(batch))
        ends = accumulate((counts[party] for party in parties), initial=0)
        return dict(zip(parties, (slice(*ends_of) for ends_of in pairwise(ends)), strict=True))

    def asked(self, batch: PartyBatch) -> list[Asked]:
        """How each of :meth:`edits` was asked for."""
        requests = [each.request for each in self.accepted(batch)]
        return [(request.kind, times_asked(self.stream, request)) for request in requests]

    def standing(self, rounds: range, round_number: int, parties: range) -> list[tuple[int, Request]]:
        """Sampled requests of earlier rounds that were not withdrawn, and none up to now contradicted or took back."""
        return [
            (earlier, request)
            for earlier in rounds
            for request in sampled_requests(self.scenario, self.stream, earlier, parties)
            if not self._is_overruled(request, round_number)
            and self.stream.is_live(request, round_number)
            and (request.party, request.index) not in self.withdrawn_in(earlier)
        ]

    def _is_overruled(self, request: Request, round_number: int) -> bool:
        """Whether another answer than an earlier request's stands after a round."""
        if self.scenario.conflicts.span == "run":
            return not self.stands(self.edit(request), round_number)
        return self.contradicted_until(round_number).get(request.fact, 0) > request.round

    def stands(self, edit: Edit, round_number: int) -> bool:
        """Whether an edit's answer is the one that stands after a round; where policies reach over rounds."""
        if self._standing.round > round_number:
            self._standing, self._withdrawn = Standing(self.scenario.conflicts), {}
        self.withdrawn_in(round_number)
        own = self._slips_of(round_number, [(0, edit)])
        return self._standing.answer(own.slots[0]) == own.answers[0]

    def withdrawn_in(self, round_number: int) -> frozenset[Place]:
        """Requests of an earlier round that were withdrawn.

        A party remembers what it withdrew. A host stands in for parties and may be new, so it settles that round again.
        """
        if self.scenario.conflicts.policy == "none":
            return frozenset()
        if round_number not in self._withdrawn:
            for number in self._standing.missing(round_number):
                slips = [self.slips(number, each) for each in range(self.scenario.num_cohorts)]
                groups = self._standing.settle(number, slips)
                found = [
                    place for each in groups for place, verdict in each.verdicts.items() if verdict.fate == "withdrawn"
                ]
                self._withdrawn[number] = frozenset(found)
        return self._withdrawn[round_number]

    def contradicts_earlier(self, request: Request) -> bool:
        """Whether another answer was merged in the last earlier round in which anybody's about the same fact was."""
        before = self._taught_before(request.round).get(request.fact, frozenset())
        return bool(before - {self.edit(request).target_new})

    def _taught_before(self, round_number: int) -> dict[int, frozenset[str]]:
        """Fact → answers that were merged in the last of the rounds before in which any was; goes on as it did last."""
        known_until, known = self._taught if self._taught[0] <= round_number else (1, {})
        for number in range(known_until, round_number):
            asked = [each for cohort in range(self.scenario.num_cohorts) for each in self.requests(number, cohort)]
            merged = [each for each in asked if (each.party, each.index) not in self.withdrawn_in(number)]
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
            known_until < each <= round_number for each in self.stream.departures.rounds()
        ):
            known_until, known = 0, {}  # what was taken back since contradicts nothing any more
        if round_number > known_until:
            known = known | superseded(self.stream, range(known_until + 1, round_number + 1))
        self._contradicted = (round_number, known)
        return known
