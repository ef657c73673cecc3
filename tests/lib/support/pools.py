"""An in-process pool of real workers, where answers come in any order and workers are lost, all drawn from a seed.

    pool = LocalPool(scenario, facts, size=3, seed=1, losses={"collect": 0.1}, duplicates=0.2, late=0.5)
    coordinator = Coordinator(scenario, directory, facts, pool)
    while not coordinator.is_done:
        coordinator.step(0.0)

Calls and answers are pickled on their way, as Ray would do.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from consortium.common.seeds import numpy_generator
from consortium.data.edit import FactSet
from consortium.records.directory import RunDirectory
from consortium.scenario.faults import CorruptAnswerFault, FaultSpec, OnFailureSpec, PartitionFault
from consortium.scenario.schema import Scenario
from consortium_ray.checksums import verified, with_checksum, with_flipped_bit
from consortium_ray.coordinator.coordinator import Coordinator
from consortium_ray.messages import Call, Reply
from consortium_ray.workers.attempts import Attempts, Failure
from consortium_ray.workers.pool import DAMAGED, Lost, PoolEvent, Refused, Returned, Started, Stopped
from consortium_ray.workers.worker_actor import WorkerActor
from ray.exceptions import OwnerDiedError

Observe = Callable[[Call, bytes], None]


class CoordinatorKilledError(Exception):
    """What stands for the end of a coordinator's process."""


@dataclass
class _Member:
    worker: WorkerActor
    call: Call | None = None
    fault: FaultSpec | None = None
    setup_calls_done: int = 0
    doomed: bool = False


@dataclass(frozen=True)
class _Cut:
    """Steps at which a machine that is cut off is given up, and back."""

    given_up_at: float
    back_at: float


@dataclass(frozen=True)
class Kept:
    """A reference to what a worker keeps on its machine."""

    incarnation: int
    number: int


@dataclass
class LocalPool:
    """A :class:`consortium_ray.workers.pool.Pool` over workers in this process.

    Attributes:
        scenario: the scenario.
        facts: its facts.
        size: number of workers.
        seed: of the order of answers and of everything that goes wrong.
        losses: method → share of its calls that their worker does not survive.
        duplicates: share of answers that arrive once more, at any later time.
        moving: share of steps at which a worker joins (up to ``size``) or, having nothing to do, ends (down to one).
        late: share of lost workers whose answer arrives nevertheless, after they were given up.
        observe: shown every call and its pickled answer.
        policy: what is borne of losses.
        breaks: shown worker, method and party batch of every setup call and call (party batch -1 for setup calls); what
            it raises, the worker raises.
        num_machines: machines that workers are on, in turns; what a worker keeps there goes with it. All but the first
            may be lost.
        shown_after: calls that workers are given before it is known that there are machines beyond the first.
        detection: steps after which a machine that is cut off is given up; a cut lasts as many steps as it has seconds.
    """

    scenario: Scenario
    facts: FactSet
    size: int
    seed: int = 0
    losses: Mapping[str, float] = field(default_factory=dict)
    duplicates: float = 0.0
    late: float = 0.0
    moving: float = 0.0
    observe: Observe = lambda call, message: None
    policy: OnFailureSpec = field(default_factory=lambda: OnFailureSpec(max_losses=50))
    breaks: Callable[[int, str, int], None] = lambda worker, method, party_batch: None
    num_machines: int = 1
    shown_after: int = 0
    detection: int = 1000

    def __post_init__(self) -> None:
        self.generator = numpy_generator(self.seed, "local-pool")
        self.wanted: list[int] = []
        self.started: list[tuple[int, Call]] = []
        self.delivered_late = 0
        self._stray: list[Returned] = []
        self._kept: dict[Kept, bytes] = {}
        self._members: dict[int, _Member] = {}
        self._setup_calls: list[tuple[str, tuple[Any, ...]]] = [("open", ())]
        self._events: list[PoolEvent] = []
        self._cuts: dict[int, _Cut] = {}
        self._num_steps = 0
        self._next_incarnation = 0
        self.attempts = Attempts(self.policy)
        self._fill()

    def _fill(self) -> None:
        while len(self._members) < (1 if self.moving else self.size):
            self._join()

    def _join(self) -> None:
        keep = partial(self._keep, self._next_incarnation)
        where = partial(self._name_of_machine, self._next_incarnation)
        worker = WorkerActor(
            self._next_incarnation, self.scenario, self.facts, fetch=self._fetch, keep=keep, where=where
        )
        self._members[self._next_incarnation] = _Member(worker)
        self._events.append(Started(self._next_incarnation))
        self._next_incarnation += 1

    def awaits_room(self) -> bool:
        return False

    def want(self, num_workers: int, keeping: Collection[int] = ()) -> None:
        self.wanted.append(num_workers)
        if not (self.moving and self._happens(self.moving)):
            return
        if len(self._members) < self.size and self._happens(0.5):
            self._join()
        elif len(self._members) > 1 and self.idle():
            incarnation = self.idle()[0]
            del self._members[incarnation]
            self._events.append(Stopped(incarnation))

    def _keep(self, incarnation: int, value: Any) -> Kept:
        kept = Kept(incarnation, len(self._kept))
        self._kept[kept] = pickle.dumps(value)
        return kept

    def _fetch(self, ref: Any) -> Any:
        if not isinstance(ref, Kept):
            return ref
        if not self.alive(ref.incarnation):
            raise OwnerDiedError("", None, "")
        return pickle.loads(self._kept[ref])

    def machines(self) -> dict[int, str]:
        known = self._members if len(self.started) >= self.shown_after else self._on_machine(0)
        return {number: self._name_of_machine(number) for number in known}

    def _name_of_machine(self, incarnation: int) -> str:
        return f"machine-{self._machine(incarnation)}"

    def _machine(self, incarnation: int) -> int:
        return incarnation % self.num_machines

    def _on_machine(self, machine: int) -> list[int]:
        return [number for number in self._members if self._machine(number) == machine]

    def _happens(self, share: float) -> bool:
        return bool(self.generator.random() < share)

    def add_setup_call(self, method: str, arguments: tuple[Any, ...]) -> None:
        self._setup_calls.append((method, arguments))

    def idle(self) -> list[int]:
        return [number for number, member in self._members.items() if member.call is None]

    def alive(self, incarnation: int) -> bool:
        return incarnation in self._members

    def start(self, incarnation: int, call: Call, fault: FaultSpec | None = None) -> None:
        member = self._members[incarnation]
        assert member.call is None, f"worker {incarnation} is busy"
        self.started.append((incarnation, call))
        member.call, member.fault = call, fault
        machine = self._machine(incarnation)
        if isinstance(fault, PartitionFault):
            self._cuts[machine] = _Cut(self._num_steps + self.detection, self._num_steps + fault.seconds)
        elif fault is not None and fault.strikes_node:
            for number in self._on_machine(machine):
                self.kill(number)

    def wait(self, timeout_s: float) -> list[PoolEvent]:
        events, self._events = self._events, []
        events += self._arrive_astray()
        events += self._pass_time()
        answering = [number for number in self._members if self._machine(number) not in self._cuts]
        busy = [number for number in answering if self._members[number].call is not None]
        if busy:
            events.append(self._finish(busy[self.generator.integers(len(busy))]))
        return events

    def _finish(self, incarnation: int) -> PoolEvent:
        member = self._members[incarnation]
        assert member.call is not None
        if member.doomed or self._happens(self.losses.get(member.call.method, 0.0)):
            return self._lose(incarnation, is_late=self._happens(self.late))
        try:
            checksummed = with_checksum(self._answer(member, member.call))
        except Exception as error:  # noqa: BLE001  (as Ray brings to the caller whatever an actor raises)
            return self._lose(incarnation, is_late=False, error=error)
        answer = verified(
            with_flipped_bit(checksummed) if isinstance(member.fault, CorruptAnswerFault) else checksummed
        )
        if answer is None:
            call, member.call = member.call, None
            return Refused(incarnation, call, DAMAGED)
        event = Returned(member.call, answer)
        if self._happens(self.duplicates):
            self._stray.append(event)
        self.attempts.answered(member.call, self._name_of_machine(incarnation))
        member.call = None
        return event

    def _answer(self, member: _Member, call: Call) -> Reply:
        for method, arguments in self._setup_calls[member.setup_calls_done :]:
            self.breaks(member.worker.incarnation, method, -1)
            member.worker.call(method, arguments)
            self.attempts.setup_call_done(member.setup_calls_done, self._name_of_machine(member.worker.incarnation))
            member.setup_calls_done += 1
        self.breaks(member.worker.incarnation, call.method, call.party_batch)
        sent = pickle.loads(pickle.dumps(call))
        message = pickle.dumps(member.worker.call(sent.method, sent.arguments))
        self.observe(call, message)
        answer: Reply = pickle.loads(message)
        return answer

    def _pass_time(self) -> list[PoolEvent]:
        """Machines that are cut off come back, or are given up; what their workers had to say comes nevertheless."""
        self._num_steps += 1
        self._cuts = {machine: cut for machine, cut in self._cuts.items() if self._num_steps < cut.back_at}
        given_up = [machine for machine, cut in self._cuts.items() if self._num_steps >= cut.given_up_at]
        for machine in given_up:
            del self._cuts[machine]
        return [self._lose(number, is_late=True) for machine in given_up for number in self._on_machine(machine)]

    def _arrive_astray(self) -> list[PoolEvent]:
        """Some of the answers that come twice, or from workers that were given up."""
        arriving = [event for event in self._stray if self._happens(0.3)]
        self._stray = [event for event in self._stray if event not in arriving]
        self.delivered_late += sum(not self.alive(event.answer.incarnation) for event in arriving)
        return list(arriving)

    def _lose(self, incarnation: int, is_late: bool, error: Exception | None = None) -> Lost:
        member = self._members[incarnation]
        call = member.call
        if is_late and call is not None:
            self._stray.append(Returned(call, self._answer(member, call)))
        del self._members[incarnation]
        reason = "a test took it away" if error is None else f"{type(error).__name__}: {error}"
        failure, number = (
            Failure(incarnation, self._name_of_machine(incarnation), reason, error),
            member.setup_calls_done,
        )
        if call is not None and (error is None or number == len(self._setup_calls)):
            self.attempts.call_failed(call, failure, self._num_steps)
        elif call is not None:
            done = [each.setup_calls_done for each in self._members.values()]
            resolver = {"others_are_up": any(n > number for n in done), "others_try": any(n <= number for n in done)}
            self.attempts.setup_call_failed(number, self._setup_calls[number][0], failure, self._num_steps, **resolver)
        self._fill()
        return Lost(incarnation, call, reason)

    def kill(self, incarnation: int) -> None:
        self._members[incarnation].doomed = True

    def can_lose_node(self, incarnation: int) -> bool:
        return self._machine(incarnation) > 0

    def kill_coordinator(self) -> None:
        raise CoordinatorKilledError

    def put(self, value: Any) -> Any:
        """As from the object store: the reader gets a copy; an array cannot be written to."""
        if not isinstance(value, np.ndarray):
            return pickle.loads(pickle.dumps(value))
        kept = np.array(value)
        kept.setflags(write=False)
        return kept


def run_on(
    pool: LocalPool, directory: RunDirectory, begun: Callable[[Coordinator], None] = lambda coordinator: None
) -> Coordinator:
    """Step a coordinator over the pool to the end; ``begun`` is shown it before its first step."""
    coordinator = Coordinator(pool.scenario, directory, pool.facts, pool)
    begun(coordinator)
    while not coordinator.is_done:
        coordinator.step(0.0)
    return coordinator
