"""What the coordinator answers to slips: how many ask for the same, and whose answer is merged where they disagree.

Policies, for a slot in which several answers are wanted:

==========  =====================================================================================================
none        nobody's edit is withdrawn
latest      the answer of the last request in the order of parties: the last writer wins
priority    the answer of the party that comes first in ``conflicts.priorities``; parties that are not listed come after
            those, low numbers first
majority    the answer that most parties want; of equals, the one that was announced first
==========  =====================================================================================================

All are functions of the slips alone and do not depend on how parties are grouped into cohorts. One round's slips are
held at a time, and forgotten when they are answered. :mod:`consortium.features.conflicts.resolver` has the same
policies over all rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from consortium.data.party_batch import PartyBatch
from consortium.features.conflicts.commitments import Slips
from consortium.scenario.schema import ConflictsSpec

Fate = Literal["alone", "shared", "contested", "won", "withdrawn"]

#: A request within a round: party and place among the party's requests.
Place = tuple[int, int]


@dataclass(frozen=True)
class Verdict:
    """What a party is told about one of its edits.

    Attributes:
        num_asking: requests of this round for the same answer, this one included.
        fate: ``alone`` (nobody else asks about this), ``shared`` (others ask for the same and nobody for something
            else), ``contested`` (others want another answer, and all are merged), ``won`` or ``withdrawn``. Where
            policies reach over rounds, one may win or be withdrawn against an answer of an earlier round.
    """

    num_asking: int = 1
    fate: Fate = "alone"


_ALONE = Verdict()


@dataclass(frozen=True)
class Settled:
    """The verdicts for some parties' edits of one round; edits without an entry are alone.

    Attributes:
        verdicts: what was settled, by party and place.
    """

    verdicts: Mapping[Place, Verdict]

    def of(self, party: int, index: int) -> Verdict:
        """What was settled about a party's request."""
        return self.verdicts.get((party, index), _ALONE)

    @property
    def key(self) -> tuple[tuple[Place, Verdict], ...]:
        """The verdicts as something to look up by."""
        return tuple(sorted(self.verdicts.items(), key=lambda entry: entry[0]))


#: Where nothing was announced, every edit counts as it is.
UNSETTLED = Settled({})


def settled_of(batch: PartyBatch) -> Settled:
    """What was settled about a party batch's edits."""
    found = batch.decisions.get("conflicts", UNSETTLED)
    assert isinstance(found, Settled), "what was decided under the feature's name"
    return found


@dataclass(frozen=True)
class _Request:
    """A slip among those who ask for one answer: its number in the order of announcement, and its party."""

    number: int
    party: int


#: Answer → the requests for it, both as they were announced.
Answers = Mapping[bytes, Sequence[_Request]]


def settle(slips: Sequence[Slips], conflicts: ConflictsSpec) -> tuple[Settled, ...]:
    """The verdicts for each group of parties.

    Args:
        slips: the groups' slips, in the order of their parties.
        conflicts: the policy.
    """
    asked = asked_for(slips)
    winners = {slot: _winner(answers, conflicts) for slot, answers in asked.items() if len(answers) > 1}
    return tuple(verdicts(group, asked, winners) for group in slips)


def asked_for(slips: Sequence[Slips]) -> Mapping[bytes, Answers]:
    """Slot → what is asked for about it."""
    asked: dict[bytes, dict[bytes, list[_Request]]] = {}
    number = 0
    for group in slips:
        for party, slot, answer in zip(group.parties, group.slots, group.answers, strict=True):
            asked.setdefault(slot, {}).setdefault(answer, []).append(_Request(number, party))
            number += 1
    return asked


def verdicts(group: Slips, asked: Mapping[bytes, Answers], winners: Mapping[bytes, bytes | None]) -> Settled:
    """What each request of a group is told; ``winners`` has the slots for which several answers are wanted."""
    found: dict[Place, Verdict] = {}
    index, last_party = 0, -1
    for party, slot, answer in zip(group.parties, group.slots, group.answers, strict=True):
        index = index + 1 if party == last_party else 0
        last_party = party
        num_asking = len(asked[slot][answer])
        if slot in winners:
            found[party, index] = Verdict(num_asking, _fate(answer, winners[slot]))
        elif num_asking > 1:
            found[party, index] = Verdict(num_asking, "shared")
    return Settled(found)


def _fate(answer: bytes, winner: bytes | None) -> Fate:
    if winner is None:
        return "contested"
    return "won" if answer == winner else "withdrawn"


def _winner(answers: Answers, conflicts: ConflictsSpec) -> bytes | None:
    """The answer that is merged; None where all are. Answers and their requests stand as they were announced."""
    if conflicts.policy == "none":
        return None
    if conflicts.policy == "latest":
        return max(answers, key=lambda answer: answers[answer][-1].number)
    if conflicts.policy == "majority":
        return max(answers, key=lambda answer: len({request.party for request in answers[answer]}))
    rank = ranks(conflicts.priorities)
    # A party that contradicts itself means what it asked for last.
    return min(answers, key=lambda answer: min((rank(each.party), -each.number) for each in answers[answer]))


def ranks(priorities: Sequence[int]) -> Callable[[int], tuple[int, int]]:
    """Party → its rank, the lowest for the strongest: by its place in a list, or else by its number after all these."""
    listed = {party: place for place, party in enumerate(priorities)}
    return lambda party: (listed.get(party, len(listed)), party)
