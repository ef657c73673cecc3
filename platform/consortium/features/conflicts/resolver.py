"""What policies resolve over all rounds of a run (``conflicts.scope: run``), and what has to be kept for it.

In a round a slot's candidates are the answer that stands, if there is one, and those that are asked for now. Of several
candidates the policy takes one, which stands from then on; requests of this round for another one are rejected:

==========  =====================================================================================================
latest      the answer that is asked for now, and of several the last one, as within a round
priority    the answer of the party that ranks first among all that have asked so far
majority    the answer that most parties want; of equals the one that stands, else the one announced first
==========  =====================================================================================================

A party wants what it asked for last, in whatever round, rejected or not: so it may change its mind, and takes its vote
along. An answer that was rejected is in no model; it is a candidate again only when somebody asks for it again.

What is kept for each slot is the answer that stands, and with ``priority`` the first-ranking of all parties that asked,
with ``majority`` every party's answer. ``docs/conflicts.md`` says what the coordinator learns from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from consortium.features.conflicts.keyed_digests import KeyedDigests
from consortium.features.conflicts.resolution import (
    Answers,
    Resolution,
    decisions,
    ranks,
    requests_by_slot,
    resolve_conflicts,
)
from consortium.scenario.schema import ConflictsSpec


@dataclass(frozen=True)
class _First:
    """The first-ranking of all parties that asked about a slot: its rank, and the answer it asked for last."""

    rank: tuple[int, int]
    answer: bytes


class ConflictResolver:
    """What the rounds so far have resolved; rounds are resolved one after the other.

    With ``conflicts.scope: round`` nothing is kept, and every round is resolved by itself.

    Args:
        conflicts: the policy and its span.
    """

    def __init__(self, conflicts: ConflictsSpec) -> None:
        self.round = 0
        self._conflicts = conflicts
        self._rank = ranks(conflicts.priorities)
        self._answers: dict[bytes, bytes] = {}
        self._first: dict[bytes, _First] = {}
        self._votes: dict[bytes, dict[int, bytes]] = {}

    def missing(self, round_number: int) -> range:
        """Rounds that are to be resolved for a round to be: it and, where policies reach over rounds, those before."""
        return range(self.round + 1 if self._conflicts.scope == "run" else round_number, round_number + 1)

    def resolve(self, round_number: int, keyed_digests: Sequence[KeyedDigests]) -> tuple[Resolution, ...]:
        """The decisions of a round for each group of parties, from the groups' keyed digests in the order of their
        parties."""
        if self._conflicts.scope == "round":
            return resolve_conflicts(keyed_digests, self._conflicts)
        assert round_number == self.round + 1, f"round {round_number} after round {self.round}"
        self.round = round_number
        asked = requests_by_slot(keyed_digests)
        conflicting: dict[bytes, bytes | None] = {}
        for slot, answers in asked.items():
            before = self._answers.get(slot)
            self._answers[slot] = self._winner(slot, before, answers)
            if {before or self._answers[slot], *answers} != {self._answers[slot]}:
                conflicting[slot] = self._answers[slot]
        return tuple(decisions(group, asked, conflicting) for group in keyed_digests)

    def answer(self, slot: bytes) -> bytes | None:
        """The answer that stands; None where nobody has asked."""
        return self._answers.get(slot)

    def _winner(self, slot: bytes, before: bytes | None, asked: Answers) -> bytes:
        """The answer that stands from now on; of ``asked`` answers and their requests, as they were announced."""
        if self._conflicts.policy == "latest":
            return max(asked, key=lambda answer: asked[answer][-1].number)
        if self._conflicts.policy == "majority":
            return self._most_wanted(slot, before, asked)
        return self._first_ranking(slot, asked)

    def _first_ranking(self, slot: bytes, asked: Answers) -> bytes:
        """What the first-ranking of all parties that ever asked wants.

        It stood since that party asked for it last, so nobody else's wishes need to be kept.
        """
        requests = [(self._rank(each.party), -each.number, answer) for answer in asked for each in asked[answer]]
        rank, _, answer = min(requests)
        if slot not in self._first or rank <= self._first[slot].rank:
            self._first[slot] = _First(rank, answer)
        return self._first[slot].answer

    def _most_wanted(self, slot: bytes, before: bytes | None, asked: Answers) -> bytes:
        votes = self._votes.setdefault(slot, {})
        requests = sorted((each.number, each.party, answer) for answer in asked for each in asked[answer])
        votes.update({party: answer for _, party, answer in requests})
        counts = Counter(votes.values())
        candidates = dict.fromkeys([*([before] if before is not None else []), *asked])
        return max(candidates, key=lambda answer: counts[answer])
