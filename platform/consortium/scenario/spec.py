"""What all parts of a scenario's schema are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """Base of all parts of a scenario: frozen, strict about types, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


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
