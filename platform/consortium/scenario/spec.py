"""What all parts of a scenario's schema are made of."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag


class Spec(BaseModel):
    """Base of all parts of a scenario: frozen, strict about types, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, serialize_by_alias=True)


def kinds_of(key: str, members: Iterable[type[Any]]) -> dict[str, type[Any]]:
    """Members by what their ``key`` may be, which is a Literal in each of them."""
    return {kind: member for member in members for kind in get_args(member.model_fields[key].annotation)}


def one_of(key: str, members: Iterable[type[Spec]], default: str | None = None) -> Any:
    """The type of a mapping whose ``key`` says which of ``members`` it is; without the key it is ``default``.

    A branch is tagged ``<Title>``, which :mod:`consortium.loading.allowed` tells from keys.
    """
    kinds = kinds_of(key, members)

    def tag_of(value: Any) -> str | None:
        kind = value.get(key, default) if isinstance(value, dict) else getattr(value, key, None)
        member = kinds.get(kind) if isinstance(kind, str) else None
        return None if member is None else f"<{member.__name__}>"

    tagged = [Annotated[member, Tag(f"<{member.__name__}>")] for member in dict.fromkeys(kinds.values())]
    return Annotated[reduce(or_, tagged), Discriminator(tag_of)]


#: A name that becomes part of file names: 255 bytes hold it with a suffix.
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
#: Counts have upper bounds far above what anybody runs: beyond them a typing mistake would take all memory, or no end.
Positive = Annotated[int, Field(ge=1, le=10**9)]
Thousand = Annotated[int, Field(ge=1, le=1_000)]
TenThousand = Annotated[int, Field(ge=1, le=10_000)]
HundredThousand = Annotated[int, Field(ge=1, le=100_000)]
TenMillion = Annotated[int, Field(ge=1, le=10_000_000)]
#: Seconds of this machine's clock: a year at most, since waits overflow the operating system's clock far beyond it.
Seconds = Annotated[float, Field(gt=0.0, le=3.2e7)]
