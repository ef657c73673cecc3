"""A party batch in a round: what a worker's answer is about, beside the weights."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from consortium.data.edit import Edit
from consortium.data.request import Request


class FeatureDecision(Protocol):
    """What a feature decided about a party batch; picklable, since it travels with every call."""

    @property
    def key(self) -> Hashable:
        """The decision as something to look up by: equal decisions have equal keys."""
        ...


@dataclass(frozen=True)
class PartyBatch:
    """A party batch in a round of an arm; answers about two batches of one key are the same.

    Attributes:
        round: the round, from 1.
        number: number of the batch, from 0; its parties follow from the scenario.
        excluded: parties of the batch whose edits do not count.
        decisions: feature → what it decided about the batch; nobody else looks into it.
    """

    round: int
    number: int
    excluded: frozenset[int] = frozenset()
    decisions: Mapping[str, FeatureDecision] = field(default_factory=dict)

    @property
    def key(self) -> Hashable:
        """The batch as something to look up by."""
        decided = tuple((name, self.decisions[name].key) for name in sorted(self.decisions))
        return self.round, self.number, tuple(sorted(self.excluded)), decided

    def decided(self, feature: str, decision: FeatureDecision) -> PartyBatch:
        """The same batch with what a feature decided about it."""
        return replace(self, decisions={**self.decisions, feature: decision})

    def without(self, parties: Iterable[int]) -> PartyBatch:
        """The same batch with other parties excluded."""
        return replace(self, excluded=frozenset(parties))


@dataclass(frozen=True)
class WeightedEdit:
    """An edit that goes into a merge.

    Attributes:
        request: the request that it answers.
        weight: how much it counts: its squared error is multiplied by this. 1 for an edit as it is.
        copy: the edit in other words; None for the edit that was asked for.
    """

    request: Request
    weight: float = 1.0
    copy: Edit | None = None
