"""The stream as it is merged in virtual time: what parties put into each round, rather than what they ask for in it.

A party that is not asked, is not there or answers late has nothing in the round; what it asked for comes in a later
one, as ``schedule`` says, in the order in which it asked. A request keeps its kind: that says how it stood to others'
when it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from consortium.data.request import Request
from consortium.data.stream import PartyNumbers, Stream
from consortium.features.virtual_time.timeline import Asks, Timeline
from consortium.scenario.schema import PartiesSpec, StreamSpec


class ParticipationStream(Stream):
    """A stream whose rounds hold what is merged in them.

    Args:
        seed: the run's seed.
        parties: who asks.
        stream: what is asked for; nobody leaves, and nothing is removed.
        relations: the relation of every fact of the fact set, in order.
        follow: the virtual course of what is asked for.
        num_facts: as for :class:`Stream`.

    Raises:
        ScenarioError: as :class:`Stream`.
    """

    def __init__(
        self,
        seed: int,
        parties: PartiesSpec,
        stream: StreamSpec,
        relations: Sequence[str],
        follow: Callable[[Asks], Timeline],
        num_facts: Sequence[int] | None = None,
    ) -> None:
        super().__init__(seed, parties, stream, relations, num_facts=num_facts)
        assert not {*self.removals.left, *self.removals.removed}, "refused by check_schedule"
        self._first_columns = np.cumsum([0, *(self.num_edits(number + 1) for number in range(self.num_rounds))])
        self.timeline: Timeline = follow(self._asks())
        self._ends_RP = np.array(
            [np.cumsum((self.timeline.merged_in_PA == number).sum(axis=1)) for number in range(1, self.num_rounds + 1)]
        )

    def _asks(self) -> Asks:
        round_A = np.repeat(np.arange(1, self.num_rounds + 1, dtype=np.int32), np.diff(self._first_columns))
        facts_PA = np.hstack([each.facts_PE for each in self._rounds])
        comes_back = any(each.counts.num_revisits for each in self._rounds)
        return Asks(len(facts_PA), round_A, _before(facts_PA) if comes_back else None)

    def present(self, round: int) -> PartyNumbers:
        """The parties of which something is merged in a round, in order."""
        return np.flatnonzero(np.diff(self._ends_RP[round - 1], prepend=0)).astype(np.int32)

    def num_requests(self, round: int, parties: range | None = None) -> int:
        """How many requests of some parties (all, when None) are merged in a round."""
        parties = range(self._num_parties) if parties is None else parties
        ends_P = np.concatenate([[0], self._ends_RP[round - 1]])
        return int(ends_P[parties.stop] - ends_P[parties.start])

    def places(self, round: int, numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Party and place of requests of a round by their numbers, which count through the parties in order."""
        ends_P = self._ends_RP[round - 1]
        parties = np.searchsorted(ends_P, numbers, side="right")
        firsts = np.concatenate([[0], ends_P])[parties]
        return list(zip(parties.tolist(), (numbers - firsts).tolist(), strict=True))

    def requests(self, round: int, party: int) -> tuple[Request, ...]:
        """What a party puts into a round; no fact occurs twice in it."""
        assert 1 <= round <= self.num_rounds, f"round {round} of {self.num_rounds}"
        asked: dict[int, tuple[Request, ...]] = {}
        found = []
        for index, column in enumerate(self.timeline.columns(round, party)):
            number = int(self.timeline.asks.round_A[column])
            if number not in asked:
                asked[number] = super().requests(number, party)
            request = asked[number][column - int(self._first_columns[number - 1])]
            earlier = None if number == round else number
            found.append(replace(request, round=round, index=index, asked_in=earlier))
        return tuple(found)


def _before(facts_PA: PartyNumbers) -> NDArray[np.int32]:
    """For each request the place of the party's last one before it for the same fact; -1 for none."""
    order_PA = np.argsort(facts_PA, axis=1, kind="stable")
    in_order_PA = np.take_along_axis(facts_PA, order_PA, axis=1)
    is_same_PA = in_order_PA[:, 1:] == in_order_PA[:, :-1]
    before_PA = np.full(facts_PA.shape, -1, np.int32)
    np.put_along_axis(before_PA, order_PA[:, 1:], np.where(is_same_PA, order_PA[:, :-1], -1).astype(np.int32), axis=1)
    return before_PA
