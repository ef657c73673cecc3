"""Hosts as Ray actors: started where they are of use, given calls, noticed when lost, and ended when idle."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from consortium.errors import ConsortiumError, RunError
from consortium.facts.edit import FactSet
from consortium.scenario.cluster_schema import HostsSpec
from consortium.scenario.schema import Scenario
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from consortium_ray.elastic import Standing, to_park, to_start
from consortium_ray.host import Host
from consortium_ray.messages import NO_TROUBLE, Call, Trouble
from consortium_ray.node_loss import expendable
from consortium_ray.nodes import UNREACHABLE, present, tell_demand
from consortium_ray.placement import Growth, Node, Room, allot, most_room, needs_of, table
from consortium_ray.pool import DAMAGED, Answered, Lost, Parked, PoolEvent, Refused, ReplacePolicy, Started
from consortium_ray.sealed import opened

#: Time between two looks at the cluster, unless a host was lost.
LOOK_S = 0.5
#: Longest rest while no host is there to wait for.
REST_S = 0.1


@dataclass
class _Member:
    handle: Any
    kind: int
    node: str
    call: Call | None = None
    pending: Any = None
    since: float = field(default_factory=time.monotonic)
    started: float = field(default_factory=time.monotonic)
    greetings_done: int = 0


class RayPool:
    """Hosts as Ray actors, as many as are of use and find room.

    Args:
        scenario: the scenario.
        facts: reference to the facts in the object store.
        growth: how the cluster can grow.
        policy: what to do when a host is lost.
    """

    def __init__(self, scenario: Scenario, facts: FactSet, growth: Growth, policy: ReplacePolicy | None = None) -> None:
        self._scenario = scenario
        self._kinds = scenario.cluster.host_kinds
        self._facts = ray.put(facts)
        self._growth = growth
        on_failure = scenario.cluster.on_failure
        self._policy = policy or ReplacePolicy(on_failure.max_losses, on_failure.host == "replace")
        self._members: dict[int, _Member] = {}
        self._greetings: list[tuple[str, tuple[Any, ...]]] = [("open", ())]
        self._parked: list[Parked] = []
        self.num_wanted = self.num_parked = 0
        self._next_incarnation = 0
        self._losses_in_a_row = 0
        self._last_loss = -1.0
        self._next_look = 0.0
        self._room_since = time.monotonic()
        self._told: tuple[int, ...] | None = None

    def want(self, num_hosts: int, keeping: Collection[int] = ()) -> None:
        """Start, end and ask for hosts, a step at a time, towards as many as would find something to do.

        ``keeping`` are hosts that keep what others would have to make again; they are not ended.

        Raises:
            RunError: for ``cluster.timeout_s`` there has been no room for a single one.
        """
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_S
        try:
            nodes = present()
        except UNREACHABLE:
            self._see_that_there_is_room([0] * len(self._kinds), [])
            return  # asked again soon
        useful = min(num_hosts, self._scenario.num_cohorts)
        targets = allot(self._kinds, useful, most_room(nodes, self._growth))
        self.num_wanted = sum(targets)
        self._start_some(targets, nodes)
        for incarnation in to_park(targets, self._kinds, self.standings(), keeping):
            ray.kill(self._members.pop(incarnation).handle)
            self._parked.append(Parked(incarnation))
            self.num_parked += 1
        self._tell(targets)
        self._see_that_there_is_room(targets, nodes)

    def awaits_room(self) -> bool:
        """Whether hosts are wanted, none is there, and none is starting: no node has room for one yet."""
        return not self._members

    def standings(self) -> list[Standing]:
        """How each host stands; may be asked from another thread."""
        now = time.monotonic()
        return [
            Standing(
                number,
                member.kind,
                member.node,
                is_starting=member.greetings_done == 0,
                idle_s=None if member.pending is not None else now - member.since,
            )
            for number, member in list(self._members.items())
        ]

    def _start_some(self, targets: Sequence[int], nodes: Sequence[Node]) -> None:
        room = Room(nodes, [(each.node, needs_of(self._kinds[each.kind])) for each in self._members.values()])
        for kind in to_start(targets, self.standings(), nodes):
            node = room.place(needs_of(self._kinds[kind]))
            if node is not None:
                self._start_host(kind, node)

    def _start_host(self, kind: int, node: str) -> None:
        incarnation = self._next_incarnation
        self._next_incarnation += 1
        make = _actor_class(self._kinds[kind], node)
        handle = make.remote(incarnation, _as_seen_by(self._scenario, self._kinds[kind]), self._facts)
        self._members[incarnation] = _Member(handle, kind, node)
        self._greet_next(self._members[incarnation])

    def _tell(self, targets: tuple[int, ...]) -> None:
        """Tell a cluster that grows what shall fit into it, whenever that changes."""
        if self._growth.is_possible and targets != self._told:
            with suppress(*UNREACHABLE):  # then it is told at the next look
                tell_demand([needs_of(kind) for kind, n in zip(self._kinds, targets, strict=True) for _ in range(n)])
                self._told = targets

    def _see_that_there_is_room(self, targets: Sequence[int], nodes: Sequence[Node]) -> None:
        limit = self._scenario.cluster.timeout_s
        if self._members:
            self._room_since = time.monotonic()
        elif time.monotonic() - self._room_since > limit:
            raise RunError(
                f"no room for any host for {limit:g} s (cluster.timeout_s)\n"
                + table(self._kinds, allot(self._kinds, sum(targets), Room(nodes)), nodes, self._growth),
                "a node that has room for a host, or comes to have it",
                "look at the cluster's nodes and at Ray's monitor.log; `consortium resume` continues the run",
            )

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

    def machines(self) -> Mapping[int, str]:
        """Host → machine that it is on, of those that have started."""
        return {number: member.node for number, member in self._members.items() if member.greetings_done > 0}

    def start(self, incarnation: int, call: Call, trouble: Trouble = NO_TROUBLE) -> None:
        """Give an idle host a call, and what shall go wrong with it."""
        member = self._members[incarnation]
        assert member.pending is None, f"host {incarnation} is busy"
        member.call, member.since = call, time.monotonic()
        member.pending = member.handle.answer.remote(call.method, call.arguments, trouble)

    def wait(self, timeout_s: float) -> list[PoolEvent]:
        """What happened since; waits for at most ``timeout_s`` if nothing has."""
        parked, self._parked = self._parked, []
        waiting = {member.pending: number for number, member in self._members.items() if member.pending is not None}
        if not waiting:
            time.sleep(0.0 if parked else min(timeout_s, REST_S))
            return list(parked)
        if parked:
            timeout_s = 0.0
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=timeout_s)
        more, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        events = [event for ref in dict.fromkeys([*ready, *more]) for event in self._finish(waiting[ref])]
        return [*parked, *events, *self._overdue()]

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
        call, member.call, member.pending, member.since = member.call, None, None, time.monotonic()
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
        call, member.call, member.pending, member.since = member.call, None, None, time.monotonic()
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
        # Hosts that are lost together, with their node, are one loss: the others had no chance after the first.
        self._losses_in_a_row += member.started > self._last_loss
        self._last_loss, self._next_look = time.monotonic(), 0.0
        self._policy.decide(self._losses_in_a_row, reason)
        return Lost(incarnation, member.call, reason)

    def kill(self, incarnation: int) -> None:
        """End a host as if its machine had died."""
        ray.kill(self._members[incarnation].handle)

    def can_lose_node(self, incarnation: int) -> bool:
        """Whether the run survives the end of a host's node: it is neither the head nor this process's."""
        here = str(ray.get_runtime_context().get_node_id())
        return self._members[incarnation].node in expendable(ray.nodes(), here)  # type: ignore[no-untyped-call]

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


def _actor_class(kind: HostsSpec, node: str) -> Any:
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    # A restarted actor would run __init__ only and answer without having been greeted, so none is restarted.
    options: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": here}
    return ray.remote(num_cpus=kind.cpus, num_gpus=kind.gpus, **options)(Host)


def _as_seen_by(scenario: Scenario, kind: HostsSpec) -> Scenario:
    """The scenario with the device of a kind of hosts."""
    if kind.device is None:
        return scenario
    return scenario.model_copy(update={"model": scenario.model.model_copy(update={"device": kind.device})})


def first_line(error: BaseException) -> str:
    """An error's class and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
