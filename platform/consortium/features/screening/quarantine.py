"""Quarantine: whose messages count for nothing, in which rounds of a lane.

A party is refused in a lane's round; it is out for the rest of the round, for some rounds, or for the rest of the run
(``admission.quarantine``). Each lane has a door of its own, since its messages are taken against weights of its own:
what is refused in one lane says nothing of another, and no lane waits for another to be judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from consortium.scenario.schema import Scenario

#: Round and party of a refusal.
Refused = tuple[int, int]


@dataclass(frozen=True)
class Quarantine:
    """Who was refused so far in one lane, and for how long that keeps a party out.

    Attributes:
        length: rounds that a refused party is out, the one of the refusal included; ``run`` for all that follow.
        refused: refusals so far, in ascending order.
    """

    length: int | Literal["run"]
    refused: tuple[Refused, ...] = ()

    def absent(self, round_number: int) -> frozenset[int]:
        """Parties that are out in a round."""
        return frozenset(
            party
            for refused_in, party in self.refused
            if refused_in <= round_number and (self.length == "run" or round_number < refused_in + self.length)
        )

    def with_refused(self, round_number: int, parties: Iterable[int]) -> Quarantine:
        """The same, some parties having been refused in a round."""
        return replace(self, refused=tuple(sorted({*self.refused, *((round_number, party) for party in parties)})))


def quarantine_of(scenario: Scenario, refused: Sequence[Refused]) -> Quarantine:
    """The quarantine of a lane with these refusals so far."""
    length = scenario.admission.quarantine
    return Quarantine(1 if length == "round" else length, tuple(refused))
