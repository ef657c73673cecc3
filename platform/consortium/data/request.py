"""A request: which edit a party asks for, in which round, and how it stands to others' requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RequestKind = Literal["fresh", "overlap", "conflict-party", "conflict-round", "repeat"]


@dataclass(frozen=True)
class Request:
    """One entry of a party's stream.

    Attributes:
        round: round number, from 1.
        party: party number, from 0.
        index: place among the party's requests of this round, from 0.
        fact: number of the fact in the fact set.
        variant: which target is asked for (see :meth:`FactSet.edit`).
        kind: ``fresh`` (nobody had this fact before), ``overlap`` (another party asks for the same in
            this round), ``conflict-party`` (another party asks for another target in this round),
            ``conflict-round`` (an earlier round asked for another target), ``repeat`` (asked for in
            an earlier round, with the same target).
        rival_variant: for conflicts, the variant that the other side asked for; else None.
        asked_in: the earlier round in which the party asked for it, where it comes later in virtual time; else None.
    """

    round: int
    party: int
    index: int
    fact: int
    variant: int
    kind: RequestKind
    rival_variant: int | None = None
    asked_in: int | None = None
