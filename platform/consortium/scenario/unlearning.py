"""The schema of a scenario's section ``unlearn``: which parties and which edits are removed, and when."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from consortium.scenario.spec import Positive, Spec


class PartyRemovalSpec(Spec):
    """Parties that leave; all their edits are removed."""

    round: Positive = Field(description="the round from which on they ask for nothing; 1: they never take part")
    parties: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = Field(
        description="numbers of the parties, from 0"
    )


class EditRemovalSpec(Spec):
    """Single edits that are removed at their parties' request."""

    round: Annotated[int, Field(ge=2)] = Field(description="the round in which they are removed")
    parties: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = Field(
        description="numbers of the parties, from 0; each removes its own"
    )
    of_round: Positive | None = Field(
        None, description="the round in which the edits were asked for; null for all earlier rounds"
    )
    share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="share of these edits of a party, drawn at random and rounded up, so at least one is removed"
    )


class UnlearnSpec(Spec):
    """What is removed from the model again; needs merge.reference: initial."""

    parties: tuple[PartyRemovalSpec, ...] = Field((), description="parties that leave, and whose edits are removed")
    edits: tuple[EditRemovalSpec, ...] = Field((), description="single edits that are removed")

    @property
    def is_asked(self) -> bool:
        """Whether anything is removed."""
        return bool(self.parties or self.edits)
