"""What breaks on purpose, and what is done about whatever breaks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from consortium.scenario.spec import Positive, Seconds, Spec, Thousand

FaultPhase = Literal["covariance", "announce", "targets", "collect", "unlearn", "merge", "evaluate", "commit"]

#: The phases in which workers are called; in the others the coordinator works.
CALLED = ("covariance", "announce", "targets", "collect", "unlearn", "evaluate")

_ACTIONS = ("kill", "cut", "slow", "corrupt", "fill")


class FaultSpec(Spec):
    """Something that breaks, on purpose: one of kill, cut, slow, corrupt and fill; a worker dies if none is named."""

    round: Annotated[int, Field(ge=0)] | None = Field(
        None, description="the round in which it happens, 0 for what comes before the first; null for any"
    )
    during: FaultPhase | None = Field(None, description="the phase in which it happens; null for any that suits")
    kill: Literal["worker", "coordinator", "node"] | None = Field(
        None, description="what dies: a worker, the coordinator, or a node that is not the head, with its workers"
    )
    cut: Seconds | None = Field(
        None, description="seconds for which a node that is not the head is cut off, with its workers, and comes back"
    )
    slow: Seconds | None = Field(None, description="seconds by which a worker's answer is late")
    corrupt: Literal["answer"] | None = Field(None, description="`answer`: one bit of a worker's answer is flipped")
    fill: Literal["disk"] | None = Field(None, description="`disk`: there is no space left while a round is written")
    rate: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="share of the occasions at which it happens, drawn from the seed"
    )
    max: Positive = Field(1, description="how often it happens at most")

    @model_validator(mode="before")
    @classmethod
    def _a_worker_dies_if_nothing_is_said(cls, value: Any) -> Any:
        if isinstance(value, dict) and all(value.get(action) is None for action in _ACTIONS):
            return {**value, "kill": "worker"}
        return value

    @property
    def actions(self) -> dict[str, str | float]:
        """What breaks, by the key that says it; one entry in a scenario that was checked."""
        found = {action: getattr(self, action) for action in _ACTIONS}
        return {action: value for action, value in found.items() if value is not None}

    @property
    def words(self) -> str:
        """What breaks, for people: ``kill worker``."""
        return ", ".join(
            f"{action} {value:g}" if isinstance(value, float) else f"{action} {value}"
            for action, value in self.actions.items()
        )

    @property
    def befalls_node(self) -> bool:
        """Whether it befalls a whole node: the one whose worker was just given a call."""
        return self.kill == "node" or self.cut is not None

    @property
    def needs_call(self) -> bool:
        """Whether it befalls a call to a worker."""
        return self.befalls_node or self.slow is not None or self.corrupt is not None


class OnFailureSpec(Spec):
    """What is done when something breaks, on purpose or not."""

    worker: Literal["replace", "stop"] = Field(
        "replace", description="a worker is lost: start another, or stop the run"
    )
    coordinator: Literal["restart", "stop"] = Field(
        "restart", description="the coordinator dies: another goes on from the last committed round, or the run stops"
    )
    disk: Literal["retry", "stop"] = Field(
        "retry", description="no space is left for a round: wait and write it again, or stop the run"
    )
    max_losses: Thousand = Field(
        5,
        description="failures of one kind that are borne in a row: of one call, of opening the model on workers, of "
        "workers without an answer to any call between them, of coordinators without a committed round, of writing "
        "without success",
    )
    wait_s: Seconds = Field(5.0, description="seconds before a full disk is written to again; twice as many each time")
