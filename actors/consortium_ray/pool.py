"""The pool: starts hosts, gives them calls, notices those that are lost, and puts others in their place."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from consortium.errors import ConsortiumError, RunError
from consortium.facts.edit import FactSet
from consortium.failures import replaces_host
from consortium.scenario.fault_schema import OnFailureSpec
from consortium.scenario.schema import HostsSpec, Scenario
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from consortium_ray.host import Host
from consortium_ray.messages import NO_TROUBLE, Answer, Call, Trouble
from consortium_ray.nodes import expendable
from consortium_ray.sealed import opened

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
class Refused:
    """A host's answer arrived damaged; the host is there and waits for a call."""

    incarnation: int
    call: Call
    reason: str


PoolEvent = Answered | Lost | Started | Refused


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
        """Whether the run survives the end of a host's node."""
        ...

    def kill_coordinator(self) -> None:
        """End the process that holds this pool, as if its machine had died."""
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


@dataclass(frozen=True)
class ReplacePolicy:
    """Decides what follows the loss of a host: another in its place, until losses outrun answers.

    Attributes:
        max_losses: losses without any answer in between, after which the run stops.
        replace: whether any loss is borne at all.
    """

    max_losses: int = 5
    replace: bool = True

    def decide(self, losses_in_a_row: int, reason: str) -> None:
        """Return to replace the host.

        Raises:
            RunError: it is no use.
        """
        policy = OnFailureSpec(host="replace" if self.replace else "stop", max_losses=self.max_losses)
        if not replaces_host(policy, losses_in_a_row):
            many = f"{losses_in_a_row} hosts were lost one after another without an answer; the last"
            raise RunError(
                f"{many if losses_in_a_row > 1 else 'a host was lost'}: {reason}",
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
        on_failure = scenario.cluster.on_failure
        self._policy = policy or ReplacePolicy(on_failure.max_losses, on_failure.host == "replace")
        self._nodes: dict[int, str] = {}
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
            member.pending = member.handle.answer.remote(*self._greetings[member.greetings_done])
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

    def start(self, incarnation: int, call: Call, trouble: Trouble = NO_TROUBLE) -> None:
        """Give an idle host a call, and what shall go wrong with it."""
        member = self._members[incarnation]
        assert member.pending is None, f"host {incarnation} is busy"
        member.call, member.since = call, time.monotonic()
        member.pending = member.handle.answer.remote(call.method, call.arguments, trouble)

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
            answer = opened(ray.get(member.pending))
        except (RayActorError, OutOfMemoryError) as error:
            return [self._lose(incarnation, first_line(error))]
        except RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, ConsortiumError) else error from None
        except RayError as error:
            return [self._lose(incarnation, first_line(error))]
        if answer is None:
            return [self._refuse(incarnation)]
        # An answer names the host that made it, so one that outlives its host is never taken for another's.
        assert answer.incarnation == incarnation
        call, member.call, member.pending = member.call, None, None
        self._losses_in_a_row = 0
        if call is not None:
            self._greet_next(member)
            return [Answered(call, answer)]
        member.greetings_done += 1
        self._greet_next(member)
        return [Started(incarnation)] if member.greetings_done == 1 else []

    def _refuse(self, incarnation: int) -> PoolEvent:
        """An answer is damaged: it is no answer. A host that was damaged at its greeting is of no use."""
        member = self._members[incarnation]
        if member.call is None:
            return self._lose(incarnation, DAMAGED)
        call, member.call, member.pending = member.call, None, None
        self._losses_in_a_row += 1
        self._policy.decide(self._losses_in_a_row, DAMAGED)
        self._greet_next(member)
        return Refused(incarnation, call, DAMAGED)

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

    def can_lose_node(self, incarnation: int) -> bool:
        """Whether the run survives the end of a host's node: it is neither the head nor this process's."""
        try:
            if incarnation not in self._nodes:
                self._nodes[incarnation] = ray.get(self._members[incarnation].handle.node.remote())
        except RayError:  # it is gone already, which the next call to it will show
            return False
        here = str(ray.get_runtime_context().get_node_id())
        return self._nodes[incarnation] in expendable(ray.nodes(), here)  # type: ignore[no-untyped-call]

    def kill_coordinator(self) -> None:
        """End this process, as if its machine had died."""
        os.kill(os.getpid(), signal.SIGKILL)

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
