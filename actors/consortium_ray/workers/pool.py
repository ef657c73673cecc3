"""What the coordinator needs of its hosts, and what it hears of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from consortium_ray.messages import NO_TROUBLE, Answer, Call, Trouble

#: Why an answer is refused.
DAMAGED = "its answer arrived damaged: the checksum differs"


@dataclass(frozen=True)
class Answered:
    """A host answered a call."""

    call: Call
    answer: Answer


@dataclass(frozen=True)
class Lost:
    """A host is gone; ``call`` is what it was doing, if anything."""

    incarnation: int
    call: Call | None
    reason: str


@dataclass(frozen=True)
class Started:
    """A host is ready for calls."""

    incarnation: int


@dataclass(frozen=True)
class Parked:
    """A host that had nothing to do was ended."""

    incarnation: int


@dataclass(frozen=True)
class Refused:
    """A host's answer arrived damaged; the host is there and waits for a call."""

    incarnation: int
    call: Call
    reason: str


PoolEvent = Answered | Lost | Started | Parked | Refused


class Pool(Protocol):
    """What the coordinator needs of its hosts."""

    def greet(self, method: str, arguments: tuple[Any, ...]) -> None:
        """Every host, present or to come, does this before any further call."""
        ...

    def idle(self) -> list[int]:
        """Incarnations of the hosts that wait for a call."""
        ...

    def alive(self, incarnation: int) -> bool:
        """Whether a host is still in the pool."""
        ...

    def machines(self) -> Mapping[int, str]:
        """Host → machine that it is on, of those that have started."""
        ...

    def start(self, incarnation: int, call: Call, trouble: Trouble = NO_TROUBLE) -> None:
        """Give an idle host a call, and what shall go wrong with it."""
        ...

    def wait(self, timeout_s: float) -> list[PoolEvent]:
        """What happened since; waits for at most ``timeout_s`` if nothing has."""
        ...

    def kill(self, incarnation: int) -> None:
        """End a host as if its machine had died."""
        ...

    def can_lose_node(self, incarnation: int) -> bool:
        """Whether the run survives that a host's node ends, or is cut off."""
        ...

    def kill_coordinator(self) -> None:
        """End the process that holds this pool, as if its machine had died."""
        ...

    def put(self, array: Any) -> Any:
        """A reference to an array or a history, for use in calls."""
        ...

    def awaits_room(self) -> bool:
        """Whether hosts are wanted, none is there, and none is starting: no node has room for one yet."""
        ...

    def want(self, num_hosts: int, keeping: Collection[int] = ()) -> None:
        """Say how many hosts would find something to do; the pool grows or shrinks towards that when it sees fit.

        ``keeping`` are hosts that keep what others would have to make again.
        """
        ...
