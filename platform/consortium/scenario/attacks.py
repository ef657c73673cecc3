"""Parties that misbehave on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from consortium.scenario.spec import Positive, Spec, kinds_of, one_of

_KIND = "what is wrong with their messages; scale, sign_flip and targeted pass screening"


class AttackSpec(Spec):
    """Who misbehaves, and when; what they do is :mod:`consortium.features.attacks.attack_messages`'s."""

    kind: str = Field(description=_KIND)
    parties: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="numbers of the parties, from 0; empty for a share of all"
    )
    share: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None, description="share of all parties, drawn at random, at least one; null for those listed"
    )
    rounds: tuple[Positive, Positive] | None = Field(
        None, description="first and last round of the attack, both included; null for all rounds"
    )


class PlainAttackSpec(AttackSpec):
    """An attack without settings of its own."""

    kind: Literal[
        "nan", "inf", "shape", "non_symmetric", "non_psd", "stale", "replay", "oversized", "sign_flip", "targeted"
    ] = Field(description=_KIND)


class ScaleAttackSpec(AttackSpec):
    """Edits overshoot."""

    kind: Literal["scale"] = Field(description=_KIND)
    factor: Annotated[float, Field(gt=0.0)] = Field(10.0, description="factor by which edits overshoot")


#: All attacks by kind.
ATTACKS: dict[str, type[AttackSpec]] = kinds_of("kind", [PlainAttackSpec, ScaleAttackSpec])

if TYPE_CHECKING:
    AnyAttack = AttackSpec
else:
    AnyAttack = one_of("kind", ATTACKS.values())
