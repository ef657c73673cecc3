"""Workers as Ray actors: started where they are of use, given calls, noticed when lost, and ended when idle."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from consortium.common.errors import RunError
from consortium.data.edit import FactSet
from consortium.records.code_version import this_code
from consortium.scenario.cluster import WorkersSpec
from consortium.scenario.faults import FaultSpec
from consortium.scenario.schema import Scenario
from ray.exceptions import ActorUnschedulableError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from consortium_ray.checksums import verified
from consortium_ray.faults.node_loss import expendable
from consortium_ray.messages import Call
from consortium_ray.nodes.demand import SteadyUse, bundles_for, used_by_others
from consortium_ray.nodes.nodes import UNREACHABLE, present, tell_demand
from consortium_ray.nodes.placement import Growth, Needs, Node, Room, allot, most_room, needs_of, table
from consortium_ray.nodes.scaling_policy import WorkerCounts, to_start, to_stop
from consortium_ray.sendable import WorkError, first_line
from consortium_ray.workers.attempts import Attempts, Failure
from consortium_ray.workers.patience import Patience
from consortium_ray.workers.pool import DAMAGED, Lost, PoolEvent, Refused, Returned, Started, Stopped
from consortium_ray.workers.worker_actor import WorkerActor

#: Time between two looks at the cluster, unless a worker was lost.
POOL_LOOK_S = 0.5
#: Longest rest while no worker is there to wait for.
REST_S = 0.1
#: Seconds that a worker has at least to start: reading torch and transformers takes ten on a busy machine.
WORKER_START_S = 30.0
#: A line of a traceback: the file's name and the number.
_PLACE = re.compile(r'File "(?:[^"]*/)?([^"/]+)", line (\d+)')


@dataclass
class _Member:
    handle: Any
    kind: int
    node: str
    call: Call | None = None
    pending: Any = None
    since: float = field(default_factory=time.monotonic)
    started: float = field(default_factory=time.monotonic)
    setup_calls_done: int = 0
    patience_from: float = 0.0  # on the pool's clock of patience
    is_answered: bool = False  # the answer exists, and is on its way


class RayPool:
    """Workers as Ray actors, as many as are of use and find room.

    Args:
        scenario: the scenario.
        facts: reference to the facts in the object store.
        growth: how the cluster can grow.
    """

    def __init__(self, scenario: Scenario, facts: FactSet, growth: Growth) -> None:
        self._scenario = scenario
        self._kinds = scenario.cluster.worker_kinds
        self._facts = ray.put(facts)
        self._growth = growth
        self._limit_s = scenario.cluster.timeout_s
        self._patience = Patience(min(POOL_LOOK_S, self._limit_s / 10))
        self._attempts = Attempts(scenario.cluster.on_failure)
        self._members: dict[int, _Member] = {}
        self._setup_calls: list[tuple[str, tuple[Any, ...]]] = [("open", (this_code(),))]
        self._stopped: list[Stopped] = []
        self.num_wanted = self.num_stopped = 0
        self._next_incarnation = 0
        self._last_loss = -1.0
        self._next_look = 0.0
        self._empty_from = self._patience.spent_s  # since when no worker has been there, if none is
        self._told: list[dict[str, float]] | None = None
        self._nodes: Sequence[Node] = []
        self._others = SteadyUse()

    def want(self, num_workers: int, keeping: Collection[int] = ()) -> None:
        """Start, end and ask for workers, a step at a time, towards as many as would find something to do.

        ``keeping`` are workers that keep what others would have to make again; they are not ended.

        Raises:
            RunError: for ``cluster.timeout_s`` there has been no room for a single one.
        """
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + POOL_LOOK_S
        if num_workers == 0:
            self._empty_from = self._patience.spent_s
        self._see_that_there_is_room()
        try:
            nodes = self._nodes = present()
        except UNREACHABLE:
            return  # asked again soon
        useful = min(num_workers, self._scenario.num_party_batches)
        targets = allot(self._kinds, useful, most_room(nodes, self._growth))
        self.num_wanted = sum(targets)
        avoided = self._avoided(nodes)
        self._start_some(targets, [node for node in nodes if node.id not in avoided])
        for incarnation in to_stop(targets, self._kinds, self.counts_by_kind(), keeping):
            ray.kill(self._members.pop(incarnation).handle)
            self._stopped.append(Stopped(incarnation))
            self.num_stopped += 1
            self._empty_from = self._patience.spent_s
        self._tell(targets, nodes, avoided)

    def awaits_room(self) -> bool:
        """Whether workers are wanted, none is there, and none is starting: no node has room for one yet."""
        return not self._members

    def counts_by_kind(self) -> list[WorkerCounts]:
        """How each worker stands; may be asked from another thread."""
        now = time.monotonic()
        return [
            WorkerCounts(
                number,
                member.kind,
                member.node,
                is_starting=member.setup_calls_done == 0,
                idle_s=None if member.pending is not None else now - member.since,
            )
            for number, member in list(self._members.items())
        ]

    def _avoided(self, nodes: Sequence[Node]) -> Collection[str]:
        """Nodes on which workers failed too often; none where there is no other way."""
        bad = self._attempts.avoided(time.monotonic(), are_others_up=True, are_other_nodes=True)
        if not bad:
            return bad
        others = Room([node for node in nodes if node.id not in bad])
        return self._attempts.avoided(
            time.monotonic(),
            are_others_up=any(member.setup_calls_done > 0 for member in self._members.values()),
            are_other_nodes=self._growth.is_possible or any(others.place(needs_of(kind)) for kind in self._kinds),
        )

    def _start_some(self, targets: Sequence[int], nodes: Sequence[Node]) -> None:
        if self._attempts.is_in_doubt and self._members:
            return  # what one worker could not open, the others are opening: they will tell whether more are of use
        room = Room(nodes, self._placed())
        for kind in to_start(targets, self.counts_by_kind(), nodes):
            node = room.place(needs_of(self._kinds[kind]))
            if node is not None:
                self._start_worker(kind, node)

    def _placed(self) -> list[tuple[str, Needs]]:
        return [(each.node, needs_of(self._kinds[each.kind])) for each in self._members.values()]

    def _start_worker(self, kind: int, node: str) -> None:
        incarnation = self._next_incarnation
        self._next_incarnation += 1
        make = _actor_class(self._kinds[kind], node)
        handle = make.remote(incarnation, _as_seen_by(self._scenario, self._kinds[kind]), self._facts)
        self._members[incarnation] = _Member(handle, kind, node)
        self._next_setup_call(self._members[incarnation])

    def _tell(self, targets: Sequence[int], nodes: Sequence[Node], avoided: Collection[str]) -> None:
        """Tell a cluster that grows what shall fit into it, whenever that changes."""
        if not self._growth.is_possible:
            return
        others = self._others.see(used_by_others(nodes, self._placed()))
        bundles = bundles_for(self._kinds, targets, nodes, others, avoided)
        if bundles != self._told:
            with suppress(*UNREACHABLE):  # then it is told at the next look
                tell_demand(bundles)
                self._told = bundles

    def _see_that_there_is_room(self) -> None:
        """Stop when no worker has been there for too long: none has room, or none can be placed."""
        if self._members or self._patience.spent_s - self._empty_from <= self._limit_s:
            return
        asked = allot(self._kinds, self._scenario.num_party_batches, Room(self._nodes))
        failed = "".join(f"\n  {line}" for line in self._attempts.words())
        raise RunError(
            f"no room for any worker for {self._limit_s:g} s (cluster.timeout_s)\n"
            + table(self._kinds, asked, self._nodes, self._growth)
            + (f"\nworkers that failed before:{failed}" if failed else ""),
            "a node that has room for a worker, or comes to have it",
            "look at the cluster's nodes, at what else runs on them, and at Ray's monitor.log; "
            "`consortium resume` continues the run",
        )

    def _next_setup_call(self, member: _Member) -> None:
        if member.pending is None and member.setup_calls_done < len(self._setup_calls):
            self._ask(member, *self._setup_calls[member.setup_calls_done])

    def _ask(self, member: _Member, *arguments: Any) -> None:
        member.pending = member.handle.answer.remote(*arguments)
        member.since, member.patience_from, member.is_answered = time.monotonic(), self._patience.spent_s, False

    def add_setup_call(self, method: str, arguments: tuple[Any, ...]) -> None:
        """Every worker, present or to come, does this before any further call."""
        self._setup_calls.append((method, arguments))
        for member in self._members.values():
            self._next_setup_call(member)

    def idle(self) -> list[int]:
        """Incarnations of the workers that wait for a call."""
        return [number for number, member in self._members.items() if member.pending is None]

    def alive(self, incarnation: int) -> bool:
        """Whether a worker is still in the pool."""
        return incarnation in self._members

    def machines(self) -> Mapping[int, str]:
        """Worker → machine that it is on, of those that have started."""
        return {number: member.node for number, member in self._members.items() if member.setup_calls_done > 0}

    def start(self, incarnation: int, call: Call, fault: FaultSpec | None = None) -> None:
        """Give an idle worker a call, and the fault that strikes it."""
        member = self._members[incarnation]
        assert member.pending is None, f"worker {incarnation} is busy"
        member.call = call
        self._ask(member, call.method, call.arguments, fault)

    def wait(self, timeout_s: float) -> list[PoolEvent]:
        """What happened since; waits for at most ``timeout_s`` if nothing has."""
        stopped, self._stopped = self._stopped, []
        waiting = {member.pending: number for number, member in self._members.items() if member.pending is not None}
        if not waiting:
            with self._patience.listening():
                time.sleep(0.0 if stopped else min(timeout_s, REST_S))
            return list(stopped)
        if stopped:
            timeout_s = 0.0
        with self._patience.listening():
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=timeout_s)
            more, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        events = [event for ref in dict.fromkeys([*ready, *more]) for event in self._finish(waiting[ref])]
        return [*stopped, *events, *self._overdue()]

    def _finish(self, incarnation: int) -> list[PoolEvent]:
        member = self._members[incarnation]
        try:
            answer = verified(ray.get(member.pending))
        except ActorUnschedulableError:
            self._withdraw(incarnation)
            return []
        except RayTaskError as error:
            return [self._lose(incarnation, said_by(error), error.cause)]
        except RayError as error:
            return [self._lose(incarnation, first_line(error))]
        if answer is None:
            return [self._refuse(incarnation)]
        # An answer names the worker that made it, so one that outlives its worker is never taken for another's.
        assert answer.incarnation == incarnation
        call, member.call, member.pending, member.since = member.call, None, None, time.monotonic()
        if call is not None:
            self._attempts.answered(call, member.node)
            self._next_setup_call(member)
            return [Returned(call, answer)]
        self._attempts.setup_call_done(member.setup_calls_done, member.node)
        member.setup_calls_done += 1
        self._next_setup_call(member)
        return [Started(incarnation)] if member.setup_calls_done == 1 else []

    def _withdraw(self, incarnation: int) -> None:
        """A worker found no place on its node, of which was heard too late that others fill it: no worker was lost."""
        ray.kill(self._members.pop(incarnation).handle)

    def _refuse(self, incarnation: int) -> PoolEvent:
        """An answer is damaged: it is no answer. A worker that was damaged at its setup call is of no use."""
        member = self._members[incarnation]
        if member.call is None:
            return self._lose(incarnation, DAMAGED)
        call, member.call, member.pending, member.since = member.call, None, None, time.monotonic()
        self._attempts.call_failed(call, Failure(incarnation, member.node, DAMAGED), time.monotonic())
        self._next_setup_call(member)
        return Refused(incarnation, call, DAMAGED)

    def _overdue(self) -> list[PoolEvent]:
        """Workers that were listened for too long; an answer that exists is one, though it may be long on its way."""
        waiting = {member.pending: number for number, member in self._members.items() if self._is_late(member)}
        if not waiting:
            return []
        there, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0, fetch_local=False)
        late = []
        for ref, number in waiting.items():
            member = self._members[number]
            if ref in there and not member.is_answered:
                member.is_answered, member.patience_from = True, self._patience.spent_s
            else:
                late.append(number)
        return [self._lose(number, self._lateness(self._members[number])) for number in late]

    def _is_late(self, member: _Member) -> bool:
        waited_s = self._patience.spent_s - member.patience_from
        return member.pending is not None and waited_s > self._limit_of(member)

    def _limit_of(self, member: _Member) -> float:
        """Seconds that a worker has for what it was asked; the first time its process starts and reads its
        libraries."""
        is_starting = member.call is None and member.setup_calls_done == 0
        return max(self._limit_s, WORKER_START_S) if is_starting else self._limit_s

    def _lateness(self, member: _Member) -> str:
        asked = member.call or self._setup_calls[member.setup_calls_done][0]
        what = "the answer did not arrive" if member.is_answered else "no answer"
        limit_s = self._limit_of(member)
        why = "cluster.timeout_s" if limit_s == self._limit_s else "what a worker has at least to start"
        return f"{what} to `{asked}` within {limit_s:g} s ({why})"

    def _lose(self, incarnation: int, reason: str, error: BaseException | None = None) -> Lost:
        """A worker is gone or of no use any more: it is ended, and what that means for the run is decided.

        Raises:
            ConsortiumError: the run cannot go on.
        """
        member = self._members.pop(incarnation)
        ray.kill(member.handle)
        # Workers that are lost together, with their node, are one loss: the others had no chance after the first.
        is_new = member.started > self._last_loss
        self._last_loss, self._next_look = time.monotonic(), 0.0
        if not self._members:
            self._empty_from = self._patience.spent_s
        failure, now = Failure(incarnation, member.node, reason, error), time.monotonic()
        if member.call is not None:
            self._attempts.call_failed(member.call, failure, now, is_new=is_new)
        else:
            number = member.setup_calls_done
            done = [each.setup_calls_done for each in self._members.values()]
            counts = {"others_are_up": any(n > number for n in done), "others_try": any(n <= number for n in done)}
            self._attempts.setup_call_failed(number, self._setup_calls[number][0], failure, now, **counts)
        return Lost(incarnation, member.call, reason)

    def kill(self, incarnation: int) -> None:
        """End a worker as if its machine had died."""
        ray.kill(self._members[incarnation].handle)

    def can_lose_node(self, incarnation: int) -> bool:
        """Whether the run survives the end of a worker's node: it is neither the head nor this process's."""
        here = str(ray.get_runtime_context().get_node_id())
        return self._members[incarnation].node in expendable(ray.nodes(), here)  # type: ignore[no-untyped-call]

    def kill_coordinator(self) -> None:
        """End this process, as if its machine had died."""
        os.kill(os.getpid(), signal.SIGKILL)

    def put(self, array: Any) -> Any:
        """A reference in the object store, where workers of a machine read arrays without a copy."""
        return ray.put(array)

    def close(self) -> None:
        """End all workers."""
        for member in self._members.values():
            ray.kill(member.handle)
        self._members.clear()


def _actor_class(kind: WorkersSpec, node: str) -> Any:
    # Where the node turns out to be full, another is found at the next look; waiting there would take for ever.
    here = NodeAffinitySchedulingStrategy(node, soft=False, _fail_on_unavailable=True)
    # A restarted actor would run __init__ only and answer without having been greeted, so none is restarted.
    options: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": here}
    return ray.remote(num_cpus=kind.cpus, num_gpus=kind.gpus, **options)(WorkerActor)


def _as_seen_by(scenario: Scenario, kind: WorkersSpec) -> Scenario:
    """The scenario with the device of a kind of workers."""
    if kind.device is None:
        return scenario
    return scenario.model_copy(update={"model": scenario.model.model_copy(update={"device": kind.device})})


def said_by(error: RayTaskError) -> str:
    """What a worker raised, in a line, and where: of its traceback nothing else is kept."""
    if isinstance(error.cause, WorkError):
        return str(error.cause)
    places = _PLACE.findall(str(error))
    where = f" ({places[-1][0]}:{places[-1][1]})" if places else ""
    return first_line(error.cause) + where
