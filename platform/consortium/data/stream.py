"""Who asks for which edit in which round, from a seed and the scenario alone.

Parties 2k and 2k+1 are partners, the leader and the follower. Within a round the follower takes facts over from the
leader, with the same target (overlap) or another one (conflict). ``docs/streams.md`` says why it is done in pairs.
With ``stream.sharing_group_size: G``, parties G·k to G·k + G - 1 are partners: one leader, and followers that all do
the same.

Shapes: P parties, L leaders, F followers, E edits of a party's round, N facts new to a party,
A all facts it had in earlier rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from consortium.common.seeds import numpy_generator
from consortium.data.num_facts import draws_per_party
from consortium.data.partition import Deal, deal_in_stages
from consortium.data.plan import RoundCounts, plan
from consortium.data.removals import Removals, removals
from consortium.data.request import Request, RequestKind
from consortium.scenario.schema import PartiesSpec, StreamSpec
from consortium.scenario.unlearning import UnlearnSpec

PartyNumbers = NDArray[np.int32]


_NOTHING = UnlearnSpec()


@dataclass(frozen=True)
class _Round:
    """One round of all parties, as tables.

    Attributes:
        present_P: the parties that take part.
        alone: followers whose leader has left.
    """

    counts: RoundCounts
    num_partners: int
    facts_PE: PartyNumbers
    variants_PE: PartyNumbers
    present_P: PartyNumbers
    alone: frozenset[int]

    def kinds(self, party: int) -> list[RequestKind]:
        """The kinds of a party's requests, in the order in which they stand in the tables."""
        counts = self.counts
        shares = party % self.num_partners and party not in self.alone
        shared = (counts.overlap, counts.conflict_party) if shares else (0, 0)
        amounts: dict[RequestKind, int] = {
            "fresh": counts.num_new - sum(shared),
            "overlap": shared[0],
            "conflict-party": shared[1],
            "conflict-round": counts.conflict_round,
            "repeat": counts.repeat,
        }
        return [kind for kind, amount in amounts.items() for _ in range(amount)]


class Stream:
    """All requests of a run; small tables inside, :class:`Request` objects made on demand.

    A party's stream depends on the seed, the facts and the parties before it, never on how many come after it.

    Args:
        seed: the run's seed.
        parties: who asks.
        stream: what is asked for.
        relations: the relation of every fact of the fact set, in order.
        unlearn: what is removed again.
        num_facts: how many of them there were at each deal (:class:`~consortium.data.partition.Deal`); None for all.

    Raises:
        ScenarioError: there are too few facts, or shares of a round add up to more than 1.
    """

    def __init__(
        self,
        seed: int,
        parties: PartiesSpec,
        stream: StreamSpec,
        relations: Sequence[str],
        unlearn: UnlearnSpec = _NOTHING,
        num_facts: Sequence[int] | None = None,
    ) -> None:
        self._num_parties = parties.count
        plans = plan(parties, stream)
        is_follower_P = np.arange(parties.count) % stream.sharing_group_size > 0
        num_facts = num_facts or [len(relations)] * (len(stream.prolonged) + 1)
        ends = [0, *stream.prolonged, stream.rounds]
        deals = [
            Deal(_hand_sizes(plans[first:end], is_follower_P), number)
            for (first, end), number in zip(pairwise(ends), num_facts, strict=True)
        ]
        hands = deal_in_stages(seed, parties.partition, relations, deals)
        per_follower = draws_per_party(plans)[1]
        leaders, followers = (
            [hands[party] for party in np.flatnonzero(mask)] for mask in (~is_follower_P, is_follower_P)
        )
        leaders_LN = np.array(leaders, dtype=np.int32)
        followers_FN = np.array(followers, dtype=np.int32).reshape(len(followers), per_follower)
        self.removals = removals(seed, unlearn, [counts.num_edits for counts in plans])
        self._rounds = _build_rounds(seed, plans, stream.sharing_group_size, leaders_LN, followers_FN, self.removals)

    @property
    def num_rounds(self) -> int:
        """Number of rounds."""
        return len(self._rounds)

    def num_edits(self, round: int) -> int:
        """How many edits each party that takes part asks for in a round (numbered from 1)."""
        return self._round(round).counts.num_edits

    def present(self, round: int) -> PartyNumbers:
        """The parties that take part in a round, in order."""
        return self._round(round).present_P

    def num_requests(self, round: int, parties: range | None = None) -> int:
        """How many requests some parties (all, when None) have together in a round."""
        parties = range(self._num_parties) if parties is None else parties
        first, end = np.searchsorted(self.present(round), [parties.start, parties.stop])
        return self.num_edits(round) * int(end - first)

    def places(self, round: int, numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Party and place of requests of a round by their numbers, which count through the parties present in order."""
        rows, indices = np.divmod(numbers, self.num_edits(round))
        return list(zip(self.present(round)[rows].tolist(), indices.tolist(), strict=True))

    def sharing_with(self, party: int) -> range:
        """The parties that may ask for the same facts as a party, itself included: its pair."""
        return range(party - party % 2, min(party - party % 2 + 2, self._num_parties))

    def removed(self, round: int, party: int) -> tuple[Request, ...]:
        """What a party removes at the start of a round: requests of its earlier rounds, in the order of asking."""
        places = self.removals.places(round, party)
        return tuple(self.requests(earlier, party)[index] for earlier, index in places)

    def removed_in(self, request: Request) -> int | None:
        """The round at whose start a request is removed; None for never."""
        return self.removals.removed.get(request.party, {}).get((request.round, request.index))

    def is_live(self, request: Request, round: int) -> bool:
        """Whether a request still stands in a round: it was not removed up to and with this one."""
        gone = self.removed_in(request)
        return gone is None or round < gone

    def requests(self, round: int, party: int) -> tuple[Request, ...]:
        """What a party (numbered from 0) asks for in a round (numbered from 1); no fact occurs twice in it.

        Nothing once it has left.
        """
        tables = self._round(round)
        assert 0 <= party < self._num_parties, f"party {party} of {self._num_parties}"
        if not self.removals.takes_part(round, party):
            return ()
        facts, variants = tables.facts_PE[party].tolist(), tables.variants_PE[party].tolist()
        return tuple(
            Request(round, party, index, fact, variant, kind, variant - 1 if kind.startswith("conflict") else None)
            for index, (fact, variant, kind) in enumerate(zip(facts, variants, tables.kinds(party), strict=True))
        )

    def contradicted(self, round: int, until: int) -> list[int]:
        """Facts that a party contradicts in a round, having asked for them before, party after party.

        A contradiction that is removed up to and with round ``until`` is none.
        """
        tables = self._round(round)
        if not tables.counts.conflict_round:
            return []
        stands_PE = np.zeros(tables.facts_PE.shape, np.bool_)
        first = tables.counts.num_new
        stands_PE[tables.present_P, first : first + tables.counts.conflict_round] = True
        for party, gone in self.removals.removed.items():
            for (number, index), back_in in gone.items():
                stands_PE[party, index] &= number != round or until < back_in
        found: list[int] = tables.facts_PE[stands_PE].tolist()
        return found

    def _round(self, round: int) -> _Round:
        assert 1 <= round <= len(self._rounds), f"round {round} of {len(self._rounds)}"
        return self._rounds[round - 1]


def _hand_sizes(plans: Sequence[RoundCounts], is_follower_P: NDArray[np.bool_]) -> list[int]:
    """How many facts each party draws for some rounds."""
    per_leader, per_follower = draws_per_party(plans)
    return [per_follower if follows else per_leader for follows in is_follower_P.tolist()]


def _build_rounds(
    seed: int,
    plans: Sequence[RoundCounts],
    num_partners: int,
    leaders_LN: PartyNumbers,
    followers_FN: PartyNumbers,
    gone: Removals,
) -> tuple[_Round, ...]:
    """Lay the dealt facts out over the rounds, all parties at once; those that have left keep what was dealt to them.

    So a party that leaves changes nobody else's draws. What its follower would have shared with it is fresh instead.
    """
    num_parties = len(leaders_LN) + len(followers_FN)
    places_P = np.arange(num_parties) % num_partners
    had_facts_PA = np.empty((num_parties, 0), np.int32)
    had_variants_PA = np.empty((num_parties, 0), np.int32)
    is_avoided_PA = np.empty((num_parties, 0), np.bool_)
    rounds = []
    leader_at = follower_at = 0
    for number, counts in enumerate(plans, start=1):
        alone = frozenset(party + 1 for party in gone.left if party % 2 == 0 and not gone.takes_part(number, party))
        new_facts_PN, new_variants_PN = _new_facts(
            counts,
            places_P,
            alone,
            leaders_LN[:, leader_at : leader_at + counts.num_new],
            followers_FN[:, follower_at : follower_at + counts.num_fresh_of_follower],
        )
        leader_at, follower_at = leader_at + counts.num_new, follower_at + counts.num_fresh_of_follower

        places_PE = _revisited_places(seed, number, counts.num_revisits, is_avoided_PA)
        again_PE = np.take_along_axis(had_variants_PA, places_PE, axis=1)
        again_PE[:, : counts.conflict_round] += 1
        np.put_along_axis(had_variants_PA, places_PE, again_PE, axis=1)
        facts_PE = np.hstack([new_facts_PN, np.take_along_axis(had_facts_PA, places_PE, axis=1)])
        present = [party for party in range(num_parties) if gone.takes_part(number, party)]
        variants_PE = np.hstack([new_variants_PN, again_PE])
        rounds.append(_Round(counts, num_partners, facts_PE, variants_PE, np.array(present, np.int32), alone))

        had_facts_PA = np.hstack([had_facts_PA, new_facts_PN])
        had_variants_PA = np.hstack([had_variants_PA, new_variants_PN])
        is_avoided_PA = np.hstack([is_avoided_PA, _to_avoid(counts, places_P)])
    return tuple(rounds)


def _new_facts(
    counts: RoundCounts,
    places_P: NDArray[np.int64],
    alone: frozenset[int],
    leaders_LN: PartyNumbers,
    fresh_FN: PartyNumbers,
) -> tuple[PartyNumbers, PartyNumbers]:
    """Facts that each party had not had before, and their variants; a leader's first ones are the shared ones."""
    facts_PN = np.empty((len(places_P), counts.num_new), np.int32)
    facts_PN[places_P == 0] = leaders_LN
    leader_of_F = np.cumsum(places_P == 0)[places_P > 0] - 1
    facts_PN[places_P > 0] = np.hstack([fresh_FN, leaders_LN[leader_of_F, : counts.num_shared]])
    variants_PN = np.zeros_like(facts_PN)
    variants_PN[places_P > 0, counts.num_new - counts.conflict_party :] = 1
    variants_PN[sorted(party for party in alone if party < len(places_P))] = 0  # with nobody to contradict
    return facts_PN, variants_PN


def _to_avoid(counts: RoundCounts, places_P: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which new facts [P, N] a party comes back to only when it has no others: shared ones, but for one follower's.

    Else partners could come back to one fact in the same round, and so overlap or contradict each other beyond what was
    asked. Shared facts stand first with a leader and last with a follower.
    """
    place_N = np.arange(counts.num_new)
    is_leaders_N, is_followers_N = place_N < counts.num_shared, place_N >= counts.num_new - counts.num_shared
    return np.where(places_P[:, None] == 0, is_leaders_N, is_followers_N & (places_P[:, None] > 1))


def _revisited_places(seed: int, number: int, num_revisits: int, is_avoided_PA: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each party the places, among the facts it had, of those that it asks for again: a draw without repetition."""
    if num_revisits == 0:
        return np.empty((len(is_avoided_PA), 0), np.int64)
    # Row after row from one generator: a party added at the end gets the next row and changes no other.
    lots_PA = numpy_generator(seed, "revisit", number).random(is_avoided_PA.shape)
    lots_PA[is_avoided_PA] += 1.0
    return np.argsort(lots_PA, axis=1, kind="stable")[:, :num_revisits]


def times_asked(stream: Stream, request: Request) -> int:
    """Earlier rounds in which the same party asked for the same fact with the same target."""
    if request.kind != "repeat":
        return 0  # every other kind is new to its party, by definition
    wanted = request.fact, request.variant
    asked = (stream.requests(number, request.party) for number in range(1, request.round))
    return sum(any((each.fact, each.variant) == wanted for each in requests) for requests in asked)
