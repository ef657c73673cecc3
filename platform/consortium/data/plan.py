"""How many edits of each kind a party asks for in each round; the same for every party of a round.

Shares are turned into whole numbers by largest remainders: a round's number is its share of the edits,
rounded up or down, and what was rounded off is carried to the next round. So every round is less than
one edit away from its share, and a long run hits the shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from consortium.common.errors import ScenarioError
from consortium.scenario.schema import ConflictSpec, PartiesSpec, StreamSpec


@dataclass(frozen=True)
class RoundShares:
    """What a round is asked to be, phases taken into account; all but ``num_edits`` are shares of it."""

    num_edits: int
    overlap: Fraction
    conflict_party: Fraction
    conflict_round: Fraction
    repeat: Fraction


@dataclass(frozen=True)
class RoundCounts:
    """How many edits of each kind a party asks for in one round.

    Of partners the first is the leader, the others are followers. ``overlap`` and ``conflict_party`` are
    facts that followers take over from the leader, so they are fresh facts of the leader's.
    """

    num_edits: int
    overlap: int
    conflict_party: int
    conflict_round: int
    repeat: int

    @property
    def num_shared(self) -> int:
        """Facts that all partners ask for in this round."""
        return self.overlap + self.conflict_party

    @property
    def num_revisits(self) -> int:
        """Facts that a party had in one of its earlier rounds."""
        return self.conflict_round + self.repeat

    @property
    def num_new(self) -> int:
        """Facts that the party did not have before; all of a leader's are fresh."""
        return self.num_edits - self.num_revisits

    @property
    def num_fresh_of_follower(self) -> int:
        """Facts that nobody had before, in a follower's round."""
        return self.num_new - self.num_shared


@lru_cache(maxsize=4)  # asked for several times before a run, and long ones take seconds
def plan(parties: PartiesSpec, stream: StreamSpec) -> tuple[RoundCounts, ...]:
    """The counts of every round, the first round first.

    A party can only repeat or contradict what it asked for in its own earlier rounds: nothing in round 1, and
    later at most as many facts as it had so far. What cannot be is fresh instead, and is not made up for later.

    Raises:
        ScenarioError: overlap, conflict and repeat of a round add up to more than 1.
    """
    plans: list[RoundCounts] = []
    carried: Sequence[Fraction] = [Fraction(0)] * 5
    num_known = 0
    borders = {border for phase in stream.phases for border in (phase.rounds[0], phase.rounds[1] + 1)}
    for number in range(1, stream.rounds + 1):
        if number <= 2 or number in borders:  # in all others as in the round before
            shares = round_shares(parties, stream, number)
            wanted = _quotas(shares, number)
        counts = _round_to_sum(wanted, carried)
        carried = [owed + quota - count for owed, quota, count in zip(carried, wanted, counts, strict=True)]
        overlap, conflict_party, conflict_round, repeat, _ = counts
        conflict_round = min(conflict_round, num_known)
        repeat = min(repeat, num_known - conflict_round)
        plans.append(RoundCounts(shares.num_edits, overlap, conflict_party, conflict_round, repeat))
        num_known += plans[-1].num_new
    return tuple(plans)


def round_shares(parties: PartiesSpec, stream: StreamSpec, number: int) -> RoundShares:
    """The settings of round ``number``: the stream's, overridden by the phases that cover it, the last one winning."""
    edits, overlap, conflict, repeat = parties.edits_per_round, stream.overlap, stream.conflict, stream.repeat
    for phase in stream.phases:
        if phase.rounds[0] <= number <= phase.rounds[1]:
            edits = edits if phase.edits_per_round is None else phase.edits_per_round
            overlap = overlap if phase.overlap is None else phase.overlap
            conflict = conflict if phase.conflict is None else phase.conflict
            repeat = repeat if phase.repeat is None else phase.repeat
    between_parties, between_rounds = _split_conflict(conflict, number)
    return RoundShares(edits, _exact(overlap), between_parties, between_rounds, _exact(repeat))


def _split_conflict(conflict: float | ConflictSpec, number: int) -> tuple[Fraction, Fraction]:
    if isinstance(conflict, ConflictSpec):
        return _exact(conflict.party), _exact(conflict.round)
    if number == 1:
        return _exact(conflict), Fraction(0)
    return _exact(conflict) / 2, _exact(conflict) / 2


def _exact(share: float) -> Fraction:
    # 0.1 as it was written, not the binary fraction nearest to it: 0.29 of 100 edits are 29, not 28.999…
    return Fraction(str(share))


def _quotas(shares: RoundShares, number: int) -> list[Fraction]:
    asked = [shares.overlap, shares.conflict_party, shares.conflict_round, shares.repeat]
    total = sum(asked, start=Fraction(0))
    if total > 1:
        raise ScenarioError(
            f"stream: in round {number}, overlap + conflict + repeat = {float(total):g}",
            "at most 1, since each edit of a round is of one kind",
            "lower stream.overlap, stream.conflict or stream.repeat, or those of the phases that cover this round",
        )
    return [share * shares.num_edits for share in [*asked, 1 - total]]


def _round_to_sum(quotas: Sequence[Fraction], carried: Sequence[Fraction]) -> list[int]:
    """Each quota rounded up or down so that the sum stays; up goes to those who are owed most, ties to the first."""
    counts = [quota.numerator // quota.denominator for quota in quotas]
    fractional = [place for place, quota in enumerate(quotas) if quota.denominator > 1]
    fractional.sort(key=lambda place: -(quotas[place] - counts[place] + carried[place]))
    for place in fractional[: int(sum(quotas)) - sum(counts)]:
        counts[place] += 1
    return counts
