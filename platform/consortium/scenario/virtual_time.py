"""The schema of a scenario's section ``virtual_time``: how long answers take, and who is waited for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from consortium.scenario.spec import Positive, Spec


class LognormalSpec(Spec):
    """A lognormal distribution."""

    median: Annotated[float, Field(gt=0.0)] = Field(description="half of the parties have less")
    sigma: Annotated[float, Field(ge=0.0)] = Field(description="standard deviation of the logarithm; 0: all are equal")


class DistributionSpec(Spec):
    """A number for each party: exactly one of these."""

    constant: float | None = Field(None, description="the same for all; a plain number means this")
    uniform: tuple[float, float] | None = Field(None, description="drawn evenly from the first to the second")
    lognormal: LognormalSpec | None = Field(None, description="drawn from a lognormal distribution")
    choice: Annotated[tuple[float, ...], Field(min_length=1)] | None = Field(
        None, description="one of these, each as likely as the others"
    )


def _number_stands_for_constant(value: Any) -> Any:
    if isinstance(value, dict):  # what passes through here is no JSON any more, and strict types take tuples alone
        return {key: tuple(each) if isinstance(each, list) else each for key, each in value.items()}
    return {"constant": value} if type(value) in (int, float) else value


Distribution = Annotated[
    DistributionSpec,
    BeforeValidator(_number_stands_for_constant, json_schema_input_type=float | DistributionSpec),
]


class DeviceClassSpec(Spec):
    """A kind of device, such as a phone; omitted values are those of ``devices``."""

    name: Annotated[str, Field(min_length=1)] = Field(description="name, used by a trace")
    share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        description="share of the parties that have it, drawn at random"
    )
    speed: Distribution | None = Field(None, description="null for that of all devices")
    upload: Distribution | None = Field(None, description="null for that of all devices")
    download: Distribution | None = Field(None, description="null for that of all devices")
    latency_s: Distribution | None = Field(None, description="null for that of all devices")
    availability: Distribution | None = Field(None, description="null for that of all devices")


class DevicesSpec(Spec):
    """What parties compute on: each value is drawn once for each party, or read from a trace."""

    speed: Distribution | None = Field(
        None, description="edits that a party computes in a second; null: computing takes no time"
    )
    upload: Distribution | None = Field(None, description="bytes that a party sends in a second; null: no time")
    download: Distribution | None = Field(None, description="bytes that a party receives in a second; null: no time")
    latency_s: Distribution | None = Field(
        None, description="seconds that a message takes in addition to its bytes; null: none"
    )
    jitter: Annotated[float, Field(ge=0.0)] = Field(
        0.0,
        description="variation of the time of a party's answers between rounds: standard deviation of its logarithm",
    )
    availability: Distribution | None = Field(
        None, description="probability that a party is available when a round begins; null: always"
    )
    classes: tuple[DeviceClassSpec, ...] = Field((), description="kinds of devices with their own values")
    trace: str | None = Field(
        None,
        description="a CSV or JSON lines file of values that change over time (docs/virtual-time.md); null for none",
    )


class ScheduleSpec(Spec):
    """Which parties a round asks, how long it waits, and what happens to late answers."""

    select: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="share of all parties whose answers a round wants, drawn from those available"
    )
    over_select: Annotated[float, Field(ge=1.0)] = Field(
        1.0, description="number of asked parties, as a multiple of the wanted answers"
    )
    quorum: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="share of the wanted answers that ends a round"
    )
    deadline_s: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="virtual seconds after which a round ends in any case; null for none"
    )
    late: Literal["carry", "wait", "drop"] = Field(
        "carry",
        description="edits of a party that answers late: carry: they come with its next answer, computed "
        "again; wait: the round waits; drop: they are lost",
    )
    absent: Literal["wait", "drop"] = Field(
        "wait", description="edits of a party that is not available or not asked: wait for its next answer, or are lost"
    )
    edits_per_answer: Positive | None = Field(
        None, description="maximum number of edits in one answer, the oldest first; null: all that wait"
    )


class VirtualTimeSpec(Spec):
    """How long parties take, and for whom a round waits; both in virtual time, which costs none."""

    devices: DevicesSpec = Field(
        DevicesSpec(), description="how long parties take in virtual time, and when they are available"
    )
    schedule: ScheduleSpec = Field(ScheduleSpec(), description="which parties are asked, and how long a round waits")
