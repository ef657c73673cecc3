"""What breaks on purpose, and what is done if something breaks.

To add an action: write its specification here, its effect in :mod:`consortium_ray.faults.actions`, and a test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field

from consortium.scenario.spec import Positive, Seconds, Spec, Thousand, kinds_of, one_of

FaultPhase = Literal["covariance", "announce", "targets", "collect", "unlearn", "merge", "evaluate", "commit"]

#: The phases in which workers are called; in the others the coordinator works.
CALLED: tuple[FaultPhase, ...] = ("covariance", "announce", "targets", "collect", "unlearn", "evaluate")

_ACTION = "what breaks"


class FaultSpec(Spec):
    """Something that breaks on purpose."""

    action: str = Field(description=_ACTION)
    round: Annotated[int, Field(ge=0)] | None = Field(
        None, description="the round in which it happens, 0 for before the first; null for any"
    )
    during: FaultPhase | None = Field(None, description="the phase in which it happens; null for any suitable phase")
    rate: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="share of the occasions at which it happens, drawn from the seed"
    )
    max: Positive = Field(1, description="maximum number of times that it happens")

    @property
    def phases(self) -> tuple[FaultPhase, ...]:
        """The phases in which it can happen."""
        return CALLED

    @property
    def strikes_node(self) -> bool:
        """Whether it strikes a whole node: the one whose worker was just given a call."""
        return False

    @property
    def words(self) -> str:
        """What breaks, for people: ``kill worker``."""
        own = [getattr(self, key) for key in type(self).model_fields if key not in _COMMON]
        return " ".join([self.action, *(f"{value:g}" if isinstance(value, float) else str(value) for value in own)])


_COMMON = frozenset(FaultSpec.model_fields)


class KillFault(FaultSpec):
    """A process dies, or a node that is not the head, with its workers."""

    action: Literal["kill"] = Field("kill", description=_ACTION)
    what: Literal["worker", "coordinator", "node"] = Field("worker", description="what dies")

    @property
    def phases(self) -> tuple[FaultPhase, ...]:
        """A node dies in a call, a process at any time."""
        return CALLED if self.what == "node" else get_args(FaultPhase)

    @property
    def strikes_node(self) -> bool:
        """Whether a node dies."""
        return self.what == "node"


class PartitionFault(FaultSpec):
    """A node that is not the head is cut off with its workers, and comes back."""

    action: Literal["partition"] = Field(description=_ACTION)
    seconds: Seconds = Field(description="how long it is cut off, in seconds")

    @property
    def strikes_node(self) -> bool:
        """It does."""
        return True


class DelayFault(FaultSpec):
    """A worker's answer is late."""

    action: Literal["delay"] = Field(description=_ACTION)
    seconds: Seconds = Field(description="the delay in seconds")


class CorruptAnswerFault(FaultSpec):
    """One bit of a worker's answer is flipped."""

    action: Literal["corrupt_answer"] = Field(description=_ACTION)


class DiskFullFault(FaultSpec):
    """There is no space left while a round is written."""

    action: Literal["disk_full"] = Field(description=_ACTION)

    @property
    def phases(self) -> tuple[FaultPhase, ...]:
        """Rounds are written in one phase alone."""
        return ("commit",)


#: All faults by action.
FAULTS: dict[str, type[FaultSpec]] = kinds_of(
    "action", [KillFault, PartitionFault, DelayFault, CorruptAnswerFault, DiskFullFault]
)

if TYPE_CHECKING:
    AnyFault = FaultSpec
else:
    AnyFault = one_of("action", FAULTS.values(), default="kill")


class OnFailureSpec(Spec):
    """What is done if something breaks, on purpose or not."""

    worker: Literal["replace", "stop"] = Field(
        "replace", description="if a worker is lost: start another, or stop the run"
    )
    coordinator: Literal["restart", "stop"] = Field(
        "restart", description="if the coordinator dies: start another from the last committed round, or stop the run"
    )
    disk: Literal["retry", "stop"] = Field(
        "retry", description="if the disk is full: wait and write the round again, or stop the run"
    )
    max_losses: Thousand = Field(
        5,
        description="tolerated failures of one kind in a row: of one call, of opening the model on workers, "
        "of workers without an answer to any call between them, of coordinators without a "
        "committed round, of writing",
    )
    wait_s: Seconds = Field(5.0, description="seconds before a full disk is tried again, doubled each time")
