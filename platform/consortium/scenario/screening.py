"""Whose messages are refused, and for how long."""

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
    """What a party's own message may be like, to be added to its party batch's sum."""

    max_norm: Annotated[float, Field(gt=0.0)] = Field(
        1000.0,
        description="keys, residuals and updates of a message may be so many times as long as is usual in the unedited "
        "model",
    )
    exclude_for: ExcludeFor = Field(
        "round",
        description="how long a refused party is out: the rest of the round, so many rounds (this one included), or "
        "the rest of the run",
    )
