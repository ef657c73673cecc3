"""Who leaves, and which edits are removed in which round: by the scenario and the run's seed alone.

A party that leaves removes all its edits; one that retracts removes a share of them, drawn from those that it
has not removed yet. What is removed in a round is gone before the round's own edits come.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from consortium.common.seeds import numpy_generator
from consortium.scenario.unlearning import EditRemovalSpec, UnlearnSpec

#: An edit of a party by (round in which it was asked for, place among the party's requests of that round).
EditPlace = tuple[int, int]


@dataclass(frozen=True)
class Removals:
    """What is removed in a run.

    Attributes:
        left: party → first round in which it asks for nothing.
        removed: party → edit → the round at whose start it is removed.
    """

    left: Mapping[int, int]
    removed: Mapping[int, Mapping[EditPlace, int]]

    def takes_part(self, round_number: int, party: int) -> bool:
        """Whether the party asks for edits in this round."""
        return round_number < self.left.get(party, round_number + 1)

    def parties(self, round_number: int) -> list[int]:
        """The parties that take something back in this round."""
        return sorted(self._by_round.get(round_number, {}))

    def places(self, round_number: int, party: int) -> list[EditPlace]:
        """What a party removes in this round, in the order in which it was asked for."""
        return sorted(self._by_round.get(round_number, {}).get(party, []))

    def batches(self, round_number: int, size: int) -> list[int]:
        """Numbers of the batches, of ``size`` parties each, of which some party takes something back, in order."""
        return sorted({party // size for party in self.parties(round_number)})

    def num_edits(
        self, round_number: int, parties: Iterable[int], excluded: Mapping[int, frozenset[int]] | None = None
    ) -> int:
        """Edits that some parties remove in a round.

        ``excluded`` maps earlier rounds to the parties that were out in them: what these asked for was not merged, and
        there is nothing to remove.
        """
        out = excluded or {}
        places = ((party, earlier) for party in parties for earlier, _ in self.places(round_number, party))
        return sum(party not in out.get(earlier, ()) for party, earlier in places)

    def rounds(self) -> list[int]:
        """The rounds in which something is removed."""
        return sorted(self._by_round)

    @cached_property
    def _by_round(self) -> dict[int, dict[int, list[EditPlace]]]:
        """Round → party → what it removes in it; asked for by every party batch."""
        found: dict[int, dict[int, list[EditPlace]]] = {}
        for party, places in self.removed.items():
            for place, number in places.items():
                found.setdefault(number, {}).setdefault(party, []).append(place)
        return found


def removals(seed: int, spec: UnlearnSpec, num_edits: Sequence[int]) -> Removals:
    """Who leaves and what is removed.

    Args:
        seed: the run's seed.
        spec: what the scenario says of it.
        num_edits: edits of a party in each round, the first round first.
    """
    left = {party: leave.round for leave in spec.parties for party in leave.parties}
    removed: dict[int, dict[EditPlace, int]] = {}

    def still_there(party: int, rounds: Iterable[int]) -> list[EditPlace]:
        asked = ((number, index) for number in rounds for index in range(num_edits[number - 1]))
        return [place for place in asked if place not in removed.get(party, {})]

    for round_number in range(1, len(num_edits) + 1):
        for party in (party for party, number in left.items() if number == round_number):
            places = still_there(party, range(1, round_number))
            removed.setdefault(party, {}).update(dict.fromkeys(places, round_number))
        for entry, unlearn in enumerate(spec.edits):
            rounds = range(1, round_number) if unlearn.of_round is None else [unlearn.of_round]
            for party in unlearn.parties if unlearn.round == round_number else ():
                places = _draw(seed, unlearn, entry, party, still_there(party, rounds))
                removed.setdefault(party, {}).update(dict.fromkeys(places, round_number))
    return Removals(left, {party: places for party, places in removed.items() if places})


def _draw(seed: int, spec: EditRemovalSpec, entry: int, party: int, candidates: Sequence[EditPlace]) -> list[EditPlace]:
    """The share of a party's edits that it removes, rounded up, so that one goes at least."""
    size = math.ceil(Fraction(str(spec.share)) * len(candidates))
    generator = numpy_generator(seed, "retract", spec.round, party, entry)
    return [candidates[place] for place in generator.permutation(len(candidates))[:size].tolist()]
