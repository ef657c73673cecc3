"""What the coordinator answers to keyed digests: how many ask for the same, and whose answer is merged where they
disagree.

Policies, for a slot in which several answers are wanted:

==========  =====================================================================================================
none        nobody's edit is rejected
latest      the answer of the last request in the order of parties: the last writer wins
priority    the answer of the party that comes first in ``conflicts.priorities``; parties that are not listed come after
            those, low numbers first
majority    the answer that most parties want; of equals, the one that was announced first
==========  =====================================================================================================

All are functions of the keyed digests alone and do not depend on how parties are grouped into party batches. One
round's keyed digests are held at a time, and forgotten when they are answered.
:mod:`consortium.features.conflicts.resolver` has the same policies over all rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from consortium.data.party_batch import PartyBatch
from consortium.features.conflicts.keyed_digests import KeyedDigests
from consortium.scenario.schema import ConflictsSpec

EditStatus = Literal["unique", "duplicate", "conflicting", "accepted", "rejected"]

#: A request within a round: party and place among the party's requests.
RequestPlace = tuple[int, int]


@dataclass(frozen=True)
class Decision:
    """What a party is told about one of its edits.

    Attributes:
        num_asking: requests of this round for the same answer, this one included.
        status: ``unique`` (nobody else asks about this), ``duplicate`` (others ask for the same and nobody for
            something else), ``conflicting`` (others want another answer, and all are merged), ``accepted`` or
            ``rejected``. Where
            policies reach over rounds, one may win or be rejected against an answer of an earlier round.
    """

    num_asking: int = 1
    status: EditStatus = "unique"


_ALONE = Decision()


@dataclass(frozen=True)
class Resolution:
    """The decisions for some parties' edits of one round; edits without an entry are alone.

    Attributes:
        decisions: what was decided, by party and place.
    """

    decisions: Mapping[RequestPlace, Decision]

    def of(self, party: int, index: int) -> Decision:
        """What was decided about a party's request."""
        return self.decisions.get((party, index), _ALONE)

    @property
    def key(self) -> tuple[tuple[RequestPlace, Decision], ...]:
        """The decisions as something to look up by."""
        return tuple(sorted(self.decisions.items(), key=lambda entry: entry[0]))


#: Where nothing was announced, every edit counts as it is.
UNRESOLVED = Resolution({})


def resolution_of(batch: PartyBatch) -> Resolution:
    """What was decided about a party batch's edits."""
    found = batch.decisions.get("conflicts", UNRESOLVED)
    assert isinstance(found, Resolution), "what was decided under the feature's name"
    return found


@dataclass(frozen=True)
class _Request:
    """A keyed digest among those who ask for one answer: its number in the order of announcement, and its party."""

    number: int
    party: int


#: Answer → the requests for it, both as they were announced.
Answers = Mapping[bytes, Sequence[_Request]]


def resolve_conflicts(keyed_digests: Sequence[KeyedDigests], conflicts: ConflictsSpec) -> tuple[Resolution, ...]:
    """The decisions for each group of parties.

    Args:
        keyed_digests: the groups' keyed digests, in the order of their parties.
        conflicts: the policy.
    """
    asked = requests_by_slot(keyed_digests)
    winners = {slot: _winner(answers, conflicts) for slot, answers in asked.items() if len(answers) > 1}
    return tuple(decisions(group, asked, winners) for group in keyed_digests)


def requests_by_slot(keyed_digests: Sequence[KeyedDigests]) -> Mapping[bytes, Answers]:
    """Slot → what is asked for about it."""
    asked: dict[bytes, dict[bytes, list[_Request]]] = {}
    number = 0
    for group in keyed_digests:
        for party, slot, answer in zip(group.parties, group.slots, group.answers, strict=True):
            asked.setdefault(slot, {}).setdefault(answer, []).append(_Request(number, party))
            number += 1
    return asked


def decisions(group: KeyedDigests, asked: Mapping[bytes, Answers], winners: Mapping[bytes, bytes | None]) -> Resolution:
    """What each request of a group is told; ``winners`` has the slots for which several answers are wanted."""
    found: dict[RequestPlace, Decision] = {}
    index, last_party = 0, -1
    for party, slot, answer in zip(group.parties, group.slots, group.answers, strict=True):
        index = index + 1 if party == last_party else 0
        last_party = party
        num_asking = len(asked[slot][answer])
        if slot in winners:
            found[party, index] = Decision(num_asking, _status(answer, winners[slot]))
        elif num_asking > 1:
            found[party, index] = Decision(num_asking, "duplicate")
    return Resolution(found)


def _status(answer: bytes, winner: bytes | None) -> EditStatus:
    if winner is None:
        return "conflicting"
    return "accepted" if answer == winner else "rejected"


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
