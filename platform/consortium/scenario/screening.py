"""Which messages are rejected, and how long such a party is excluded."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from consortium.scenario.spec import Positive, Spec


def _exclude_for_form(value: Any) -> str:
    return "<Word>" if isinstance(value, str) else "<Rounds>"


ExcludeFor = Annotated[
    Annotated[Positive, Tag("<Rounds>")] | Annotated[Literal["round", "run"], Tag("<Word>")],
    Discriminator(_exclude_for_form),
]


class ScreeningSpec(Spec):
    """What a party's message must satisfy to be added to its party batch's sum."""

    max_norm: Annotated[float, Field(gt=0.0)] = Field(
        1000.0,
        description="maximum norm of a message's keys, residuals and updates, as a multiple of the unedited "
        "model's typical norm",
    )
    exclude_for: ExcludeFor = Field(
        "round",
        description="how long a rejected party is excluded: the rest of the round, a number of rounds (this "
        "one included), or the rest of the run",
    )
