"""The scenario's types for parties that misbehave: whom screening refuses, and for how long."""

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


AttackKind = Literal[
    "nan", "inf", "shape", "non_symmetric", "non_psd", "stale", "replay", "oversized", "scale", "sign_flip", "targeted"
]


class AttackSpec(Spec):
    """Parties that misbehave, on purpose."""

    kind: AttackKind = Field(
        description="what is wrong with their messages; scale, sign_flip and targeted are poisoning that passes "
        "screening"
    )
    parties: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="numbers of the parties, from 0; empty for a share of all"
    )
    share: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None, description="share of all parties, drawn; rounded, at least one; null for those listed"
    )
    rounds: tuple[Positive, Positive] | None = Field(
        None, description="first and last round in which they do, both included; null for all"
    )
    factor: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="of `scale`, and of no other kind: edits overshoot so many times; null for 10"
    )
