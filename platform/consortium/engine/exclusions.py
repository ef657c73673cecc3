"""Exclusions: whose edits count for nothing, in which rounds of an arm.

A party whose message is refused in an arm's round is out for the rest of the round, for some rounds, or for the rest of
the run (``screening.exclude_for``). Each arm has exclusions of its own, since messages are taken against its own
weights: what is refused in one arm says nothing of another, and no arm waits for another to be judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from consortium.scenario.schema import Scenario


@dataclass(frozen=True)
class Exclusions:
    """Who was refused so far in one arm, and for how long that keeps a party out.

    Attributes:
        length: rounds that a refused party is out, the one of the refusal included; ``run`` for all that follow.
        rejected: round and party of each refusal so far, in ascending order.
    """

    length: int | Literal["run"] = 1
    rejected: tuple[tuple[int, int], ...] = ()

    def of(self, round_number: int) -> frozenset[int]:
        """Parties that are out in a round."""
        return frozenset(
            party
            for rejected_in, party in self.rejected
            if rejected_in <= round_number and (self.length == "run" or round_number < rejected_in + self.length)
        )

    def with_rejected(self, round_number: int, parties: Iterable[int]) -> Exclusions:
        """The same, some parties having been refused in a round."""
        return replace(self, rejected=tuple(sorted({*self.rejected, *((round_number, party) for party in parties)})))


def exclusions_of(scenario: Scenario, rejected: Sequence[tuple[int, int]]) -> Exclusions:
    """The exclusions of an arm with these refusals so far."""
    length = scenario.screening.exclude_for
    return Exclusions(1 if length == "round" else length, tuple(rejected))
