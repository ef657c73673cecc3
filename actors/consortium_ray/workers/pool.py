"""What the coordinator needs of its workers, and what it hears of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from consortium.scenario.faults import FaultSpec

from consortium_ray.messages import Call, Reply

#: Why an answer is refused.
DAMAGED = "its answer arrived damaged: the checksum differs"


@dataclass(frozen=True)
class Returned:
    """A worker answered a call."""

    call: Call
    answer: Reply


@dataclass(frozen=True)
class Lost:
    """A worker is gone; ``call`` is what it was doing, if anything."""

    incarnation: int
    call: Call | None
    reason: str


@dataclass(frozen=True)
class Started:
    """A worker is ready for calls."""

    incarnation: int


@dataclass(frozen=True)
class Stopped:
    """A worker that had nothing to do was ended."""

    incarnation: int


@dataclass(frozen=True)
class Refused:
    """A worker's answer arrived damaged; the worker is there and waits for a call."""

    incarnation: int
    call: Call
    reason: str


PoolEvent = Returned | Lost | Started | Stopped | Refused


class Pool(Protocol):
    """What the coordinator needs of its workers."""

    def add_setup_call(self, method: str, arguments: tuple[Any, ...]) -> None:
        """Every worker, present or to come, does this before any further call."""
        ...

    def idle(self) -> list[int]:
        """Incarnations of the workers that wait for a call."""
        ...

    def alive(self, incarnation: int) -> bool:
        """Whether a worker is still in the pool."""
        ...

    def machines(self) -> Mapping[int, str]:
        """Worker → machine that it is on, of those that have started."""
        ...

    def start(self, incarnation: int, call: Call, fault: FaultSpec | None = None) -> None:
        """Give an idle worker a call, and the fault that strikes it."""
        ...

    def wait(self, timeout_s: float) -> list[PoolEvent]:
        """What happened since; waits for at most ``timeout_s`` if nothing has."""
        ...

    def kill(self, incarnation: int) -> None:
        """End a worker as if its machine had died."""
        ...

    def can_lose_node(self, incarnation: int) -> bool:
        """Whether the run survives that a worker's node ends, or is cut off."""
        ...

    def kill_coordinator(self) -> None:
        """End the process that holds this pool, as if its machine had died."""
        ...

    def put(self, array: Any) -> Any:
        """A reference to an array or a history, for use in calls."""
        ...

    def awaits_room(self) -> bool:
        """Whether workers are wanted, none is there, and none is starting: no node has room for one yet."""
        ...

    def want(self, num_workers: int, keeping: Collection[int] = ()) -> None:
        """Say how many workers would find something to do; the pool grows or shrinks towards that when it sees fit.

        ``keeping`` are workers that keep what others would have to make again.
        """
        ...
