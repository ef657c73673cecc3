"""The pool: starts hosts, gives them calls, notices those that are lost, and puts others in their place."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from consortium.errors import ConsortiumError, RunError
from consortium.facts.edit import FactSet
from consortium.scenario.schema import HostsSpec, Scenario
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from consortium_ray.host import Host
from consortium_ray.messages import Answer, Call


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


PoolEvent = Answered | Lost | Started


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

    def start(self, incarnation: int, call: Call) -> None:
        """Give an idle host a call."""
        ...

    def wait(self, timeout_s: float) -> list[PoolEvent]:
        """What happened since; waits for at most ``timeout_s`` if nothing has."""
        ...

    def kill(self, incarnation: int) -> None:
        """End a host as if its machine had died."""
        ...

    def put(self, array: Any) -> Any:
        """A reference to an array or a history, for use in calls."""
        ...


@dataclass
class _Member:
    handle: Any
    call: Call | None = None
    pending: Any = None
    since: float = field(default_factory=time.monotonic)
    greetings_done: int = 0
    machine: str | None = None


@dataclass(frozen=True)
class ReplacePolicy:
    """Decides what follows the loss of a host: another in its place, until losses outrun answers.

    Attributes:
        max_losses: losses without any answer in between, after which the run stops.
    """

    max_losses: int = 5

    def decide(self, losses_in_a_row: int, reason: str) -> None:
        """Return to replace the host.

        Raises:
            RunError: it is no use.
        """
        if losses_in_a_row > self.max_losses:
            raise RunError(
                f"{losses_in_a_row} hosts were lost one after another without an answer; the last: {reason}",
                "hosts that stay alive",
                "look at the memory of the machines, at cluster.timeout_s and at Ray's logs; "
                "`consortium resume` continues the run",
            )


class RayPool:
    """Hosts as Ray actors.

    Args:
        scenario: the scenario.
        facts: reference to the facts in the object store.
        size: number of hosts to keep alive.
        policy: what to do when one is lost.
    """

    def __init__(self, scenario: Scenario, facts: FactSet, size: int, policy: ReplacePolicy | None = None) -> None:
        self._scenario = scenario
        self._facts = ray.put(facts)
        self._size = size
        self._policy = policy or ReplacePolicy()
        self._make = _actor_class(scenario.cluster.hosts)
        self._members: dict[int, _Member] = {}
        self._greetings: list[tuple[str, tuple[Any, ...]]] = [("open", ())]
        self._next_incarnation = 0
        self._losses_in_a_row = 0
        self._fill()

    def _fill(self) -> None:
        while len(self._members) < self._size:
            incarnation = self._next_incarnation
            self._next_incarnation += 1
            handle = self._make.remote(incarnation, self._scenario, self._facts)
            self._members[incarnation] = _Member(handle)
            self._greet_next(self._members[incarnation])

    def _greet_next(self, member: _Member) -> None:
        if member.pending is None and member.greetings_done < len(self._greetings):
            member.pending = member.handle.call.remote(*self._greetings[member.greetings_done])
            member.since = time.monotonic()

    def greet(self, method: str, arguments: tuple[Any, ...]) -> None:
        """Every host, present or to come, does this before any further call."""
        self._greetings.append((method, arguments))
        for member in self._members.values():
            self._greet_next(member)

    def idle(self) -> list[int]:
        """Incarnations of the hosts that wait for a call."""
        return [number for number, member in self._members.items() if member.pending is None]

    def alive(self, incarnation: int) -> bool:
        """Whether a host is still in the pool."""
        return incarnation in self._members

    def machines(self) -> Mapping[int, str]:
        """Host → machine that it is on, of those that have started."""
        return {number: member.machine for number, member in self._members.items() if member.machine is not None}

    def start(self, incarnation: int, call: Call) -> None:
        """Give an idle host a call."""
        member = self._members[incarnation]
        assert member.pending is None, f"host {incarnation} is busy"
        member.call, member.since = call, time.monotonic()
        member.pending = member.handle.call.remote(call.method, call.arguments)

    def wait(self, timeout_s: float) -> list[PoolEvent]:
        """What happened since; waits for at most ``timeout_s`` if nothing has."""
        waiting = {member.pending: number for number, member in self._members.items() if member.pending is not None}
        if not waiting:
            return []
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=timeout_s)
        more, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        events = [event for ref in dict.fromkeys([*ready, *more]) for event in self._finish(waiting[ref])]
        return events + self._overdue()

    def _finish(self, incarnation: int) -> list[PoolEvent]:
        member = self._members[incarnation]
        try:
            answer = ray.get(member.pending)
        except (RayActorError, OutOfMemoryError) as error:
            return [self._lose(incarnation, first_line(error))]
        except RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, ConsortiumError) else error from None
        except RayError as error:
            return [self._lose(incarnation, first_line(error))]
        # An answer names the host that made it, so one that outlives its host is never taken for another's.
        assert answer.incarnation == incarnation
        call, member.call, member.pending = member.call, None, None
        self._losses_in_a_row = 0
        if call is not None:
            self._greet_next(member)
            return [Answered(call, answer)]
        if member.greetings_done == 0:
            member.machine = answer.value
        member.greetings_done += 1
        self._greet_next(member)
        return [Started(incarnation)] if member.greetings_done == 1 else []

    def _overdue(self) -> list[PoolEvent]:
        limit = self._scenario.cluster.timeout_s
        late = [
            number
            for number, member in self._members.items()
            if member.pending is not None and time.monotonic() - member.since > limit
        ]
        return [self._lose(number, self._lateness(self._members[number])) for number in late]

    def _lateness(self, member: _Member) -> str:
        asked = member.call or self._greetings[member.greetings_done][0]
        return f"no answer to `{asked}` within {self._scenario.cluster.timeout_s:g} s (cluster.timeout_s)"

    def _lose(self, incarnation: int, reason: str) -> Lost:
        member = self._members.pop(incarnation)
        ray.kill(member.handle)
        self._losses_in_a_row += 1
        self._policy.decide(self._losses_in_a_row, reason)
        self._fill()
        return Lost(incarnation, member.call, reason)

    def kill(self, incarnation: int) -> None:
        """End a host as if its machine had died."""
        ray.kill(self._members[incarnation].handle)

    def put(self, array: Any) -> Any:
        """A reference in the object store, where hosts of a machine read arrays without a copy."""
        return ray.put(array)

    def close(self) -> None:
        """End all hosts."""
        for member in self._members.values():
            ray.kill(member.handle)
        self._members.clear()


def _actor_class(hosts: HostsSpec) -> Any:
    # A restarted actor would run __init__ only and answer without having been greeted, so none is restarted.
    return ray.remote(num_cpus=hosts.cpus, num_gpus=hosts.gpus, max_restarts=0, max_task_retries=0)(Host)


def first_line(error: BaseException) -> str:
    """An error's class and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
