"""What parties keep to themselves: their edits, round by round. Nothing of it leaves a host but slips, digests."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate, pairwise

from consortium.agreement.accepted import Accepted, accepted
from consortium.agreement.settlement import UNSETTLED, Place, Settled, settle
from consortium.agreement.slips import Slips, shared_key, slips_of
from consortium.attacks.roles import asked_for
from consortium.editing.overlap import Asked
from consortium.facts.edit import Edit, FactSet
from consortium.rounds import sampled_requests, superseded
from consortium.scenario.schema import Scenario
from consortium.streams.repeats import times_asked
from consortium.streams.request import Request
from consortium.streams.stream import Stream


class PrivateEdits:
    """All parties' edits, by cohort.

    Args:
        scenario: the scenario as resolved.
        facts: all facts; a party's own follow from the stream.
    """

    def __init__(self, scenario: Scenario, facts: FactSet) -> None:
        self.scenario = scenario
        self.facts = facts
        self.stream = Stream(scenario.seed, scenario.parties, scenario.stream, facts.relations())
        self._contradicted: tuple[int, dict[int, int]] = (0, {})
        self._withdrawn: dict[int, frozenset[Place]] = {}

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
        return slips_of(shared_key(self.scenario.seed), round_number, asked)

    def accepted(self, round_number: int, cohort: int, settled: Settled) -> list[Accepted]:
        """What of a cohort's round goes into the merge, party after party."""
        return accepted(self.scenario, settled, self.requests(round_number, cohort), self.edit)

    def edits(self, round_number: int, cohort: int, settled: Settled = UNSETTLED) -> list[Edit]:
        """The edits of :meth:`accepted`."""
        return [each.copy or self.edit(each.request) for each in self.accepted(round_number, cohort, settled)]

    def columns(self, round_number: int, cohort: int, settled: Settled) -> dict[int, slice]:
        """Party → where its edits stand among :meth:`edits`; nowhere for a party that has left."""
        parties = self.scenario.cohort(cohort)
        counts = Counter(each.request.party for each in self.accepted(round_number, cohort, settled))
        ends = accumulate((counts[party] for party in parties), initial=0)
        return dict(zip(parties, (slice(*ends_of) for ends_of in pairwise(ends)), strict=True))

    def asked(self, round_number: int, cohort: int, settled: Settled) -> list[Asked]:
        """How each of :meth:`edits` was asked for."""
        requests = [each.request for each in self.accepted(round_number, cohort, settled)]
        return [(request.kind, times_asked(self.stream, request)) for request in requests]

    def standing(self, rounds: range, round_number: int, parties: range) -> list[tuple[int, Request]]:
        """Sampled requests of earlier rounds that were not withdrawn, and none up to now contradicted or took back."""
        last_contradicted = self.contradicted_until(round_number)
        return [
            (earlier, request)
            for earlier in rounds
            for request in sampled_requests(self.scenario, self.stream, earlier, parties)
            if last_contradicted.get(request.fact, 0) <= earlier
            and self.stream.is_live(request, round_number)
            and (request.party, request.index) not in self.withdrawn_in(earlier)
        ]

    def withdrawn_in(self, round_number: int) -> frozenset[Place]:
        """Requests of an earlier round that were withdrawn.

        A party remembers what it withdrew. A host stands in for parties and may be new, so it settles that round again.
        """
        conflicts = self.scenario.conflicts
        if conflicts.policy == "none":
            return frozenset()
        if round_number not in self._withdrawn:
            groups = settle([self.slips(round_number, each) for each in range(self.scenario.num_cohorts)], conflicts)
            found = [
                place for each in groups for place, verdict in each.verdicts.items() if verdict.fate == "withdrawn"
            ]
            self._withdrawn[round_number] = frozenset(found)
        return self._withdrawn[round_number]

    def contradicted_until(self, round_number: int) -> dict[int, int]:
        """Fact → last round, up to this one, in which it was contradicted; goes on from where it was looked up last."""
        known_until, known = self._contradicted
        if round_number < known_until or any(
            known_until < each <= round_number for each in self.stream.departures.rounds()
        ):
            known_until, known = 0, {}  # what was taken back since contradicts nothing any more
        if round_number > known_until:
            known = known | superseded(self.stream, self.scenario, range(known_until + 1, round_number + 1))
        self._contradicted = (round_number, known)
        return known
