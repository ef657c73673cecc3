"""The dispatcher: hands calls to workers and answers to batches, and knows nothing of what they mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping
from functools import partial
from itertools import chain

from consortium.engine.round_log import RoundLog
from consortium.scenario.faults import FaultSpec

from consortium_ray.coordinator.batches import CallBatch
from consortium_ray.faults.actions import at_coordinator
from consortium_ray.faults.injection import Faults
from consortium_ray.messages import Call
from consortium_ray.workers.pace import Pace, is_overlong, takes_over
from consortium_ray.workers.pool import Lost, Pool, PoolEvent, Refused, Returned, Stopped


class Dispatcher:
    """Batches that are worked on, and which worker holds what.

    Args:
        pool: the workers.
        faults: what shall break on purpose.
        round_log: told what workers do and what becomes of them.
        advance: told of each answer that counts, and its batch.
    """

    def __init__(
        self, pool: Pool, faults: Faults, round_log: RoundLog, advance: Callable[[CallBatch, Returned], None]
    ) -> None:
        self._pool = pool
        self._faults = faults
        self._round_log = round_log
        self._advance = advance
        self._round = 0
        self._batches: list[CallBatch] = []
        self._holders: dict[Hashable, int] = {}
        self._homes: dict[int, str] = {}  # group of calls → machine
        self._moved: set[int] = set()  # groups that left a slow machine
        self._lost: set[int] = set()
        self._handed: dict[int, tuple[Call, float]] = {}
        self._started: set[int] = set()
        self._pace = Pace()

    def begin_round(self, number: int, round_log: RoundLog) -> None:
        """Events are of this round from now on, and what workers held for the one before is of no use."""
        self._round, self._round_log = number, round_log
        self._holders.clear()
        self._homes.clear()
        self._moved.clear()

    def add(self, batch: CallBatch) -> None:
        """Have a batch worked on; those that can wait are served last, and of equal ones the first."""
        self._batches.append(batch)
        self._batches.sort(key=lambda each: (not each.comes_first, each.can_wait))

    def is_loaded(self) -> bool:
        """Every worker that has started has a call, or none that waits is for it."""
        machines = self._pool.machines()
        idle = (self._suits(worker, machines) for worker in self._started - self._handed.keys())
        return not any(batch.has_for(suits) for suits in idle for batch in self._batches)

    def hand_out(self, only_urgent: bool = False) -> None:
        """Give each idle worker the first call that suits it; with ``only_urgent``, none that can wait."""
        machines = self._pool.machines()
        for worker in self._pool.idle():
            suits = self._suits(worker, machines)
            batches = (batch for batch in self._batches if not (only_urgent and batch.can_wait))
            found = ((batch, batch.choose(suits)) for batch in batches)
            batch, call = next(((batch, call) for batch, call in found if call is not None), (None, None))
            if batch is not None and call is not None:
                self._give(worker, batch, call, machines)

    def _give(self, worker: int, batch: CallBatch, call: Call, machines: Mapping[int, str]) -> None:
        fault = self._faults.at_call(batch.phase, self._round, call.key, partial(self._pool.can_lose_node, worker))
        self._handed[worker] = call, self._round_log.clock()
        self._give_home(call, worker, machines)
        self._pool.start(worker, call, fault)
        self.inject(fault, worker)

    def relieve(self) -> None:
        """Give workers that find nothing else what waits for a busy one, or what one has had in hand for too long.

        To be called when all that workers have answered was taken. It changes no bit: whoever answers a call, the
        answer
        is the same, and the first one counts.
        """
        idle = [worker for worker in self._pool.idle() if worker in self._started]
        if not idle or not self._handed:
            return
        machines = self._pool.machines()
        for worker in idle:
            found = self._take_over(worker, machines) or self._second(worker, machines) or self._move(worker, machines)
            if found is None:
                continue
            batch, call, whose = found
            self._round_log.event(
                "taken-over", self._round, worker=f"worker-{worker}", detail=f"{call}, from worker-{whose}"
            )
            self._give(worker, batch, call, machines)

    def _take_over(self, worker: int, machines: Mapping[int, str]) -> tuple[CallBatch, Call, int] | None:
        """The first call that waits for a busy worker, where an idle one has it done sooner; and who that is."""
        make_s, present = self._pace.typical("make"), set(machines.values())
        if make_s is None:
            return None

        def whose(call: Call) -> int | None:
            home, holder = self._wanted(call, machines, present)
            return holder if holder in self._handed and home in (None, machines.get(worker)) else None

        queues = Counter(whose(call) for call in chain.from_iterable(batch.waiting for batch in self._batches))
        del queues[None]
        for batch in self._batches if queues else ():
            typical_s = self._pace.typical(batch.phase)
            if typical_s is None:
                continue
            worth = [
                holder
                for holder, number in queues.items()
                if holder is not None and takes_over(self._in_hand_s(holder), number, typical_s, make_s)
            ]
            call = batch.choose(lambda call, worth=worth: whose(call) in worth) if worth else None  # type: ignore[misc]
            holder = None if call is None else whose(call)
            if call is not None and holder is not None:
                return batch, call, holder
        return None

    def _second(self, worker: int, machines: Mapping[int, str]) -> tuple[CallBatch, Call, int] | None:
        """The call that one worker has had in hand for too long, if no second one tries it already; and who that is."""
        present = set(machines.values())
        return self._in_hand(
            lambda call: self._wanted(call, machines, present)[0] in (None, machines.get(worker)), list(self._handed)
        )

    def _in_hand(self, accept: Callable[[Call], bool], workers: Collection[int]) -> tuple[CallBatch, Call, int] | None:
        """Of acceptable calls that these workers have had for too long and nobody else tries, the one for the
        longest."""
        times = Counter(call.key for call, _ in self._handed.values())
        for busy in sorted(workers, key=self._in_hand_s, reverse=True):
            call = self._handed[busy][0]
            batch = self._batch_of(call)
            if batch is None or times[call.key] > 1 or batch.has_answer(call):
                continue
            if self._is_stuck(busy) and accept(call):
                return batch, call, busy
        return None

    def _move(self, worker: int, machines: Mapping[int, str]) -> tuple[CallBatch, Call, int] | None:
        """A call of a group whose machine has no worker that gets on, and one of these; the group is of here from now
        on.

        Sums are read on the group's machine alone, so what was kept on the slow one is made again. Each group moves
        once in a round: where all machines are slow, none is of more use than another.
        """
        here, slow = machines.get(worker), self._slow_machines(machines)
        groups = {
            group for group, home in self._homes.items() if home in slow and home != here and group not in self._moved
        }
        if here is None or not groups:
            return None
        found = ((batch, batch.choose(lambda call: call.group in groups)) for batch in self._batches)
        batch, call = next(((batch, call) for batch, call in found if call is not None), (None, None))
        if batch is not None and call is not None and call.group is not None:
            whose = next(each for each in self._handed if machines.get(each) == self._homes[call.group])
        else:
            busy = [each for each in self._handed if machines.get(each) in slow]
            in_hand = self._in_hand(lambda call: call.group in groups, busy)
            if in_hand is None:
                return None
            batch, call, whose = in_hand
        assert call.group is not None
        self._homes[call.group] = here
        self._moved.add(call.group)
        return batch, call, whose

    def _slow_machines(self, machines: Mapping[int, str]) -> Collection[str]:
        """Machines of which every worker has had its call in hand for too long."""
        getting_on = {
            machine for worker, machine in machines.items() if worker not in self._handed or not self._is_stuck(worker)
        }
        return set(machines.values()) - getting_on

    def _in_hand_s(self, worker: int) -> float:
        """How long a worker has had its call."""
        return self._round_log.clock() - self._handed[worker][1]

    def inject(self, fault: FaultSpec | None, worker: int | None = None) -> None:
        """Have a fault happen: to a worker, or to the first one that is there when none is named.

        Raises:
            OSError: the fault is a full disk.
        """
        if fault is None:
            return
        worker = min(self._started, default=None) if worker is None else worker
        self._round_log.event(
            "fault", self._round, worker=None if worker is None else f"worker-{worker}", detail=fault.words
        )
        at_coordinator(fault, self._pool, worker)

    def _suits(self, worker: int, machines: Mapping[int, str]) -> Callable[[Call], bool]:
        """A call goes to its group's machine, and there, or anywhere, to the worker that holds what it wants."""
        present = set(machines.values())

        def suits(call: Call) -> bool:
            home, holder = self._wanted(call, machines, present)
            return holder == worker if holder is not None else home is None or machines.get(worker) == home

        return suits

    def _wanted(
        self, call: Call, machines: Mapping[int, str], present: Collection[str]
    ) -> tuple[str | None, int | None]:
        """The machine and the worker that a call should go to, None for any.

        Sums of a group are read on its machine alone, so a worker elsewhere is of no use, whatever it holds.
        """
        home = None if call.group is None else self._homes.get(call.group)
        home = home if home in present else None
        holder = None if call.wants is None else self._holders.get(call.wants)
        is_there = holder is not None and self._pool.alive(holder) and home in (None, machines.get(holder))
        return home, holder if is_there else None

    def num_employable(self) -> int:
        """Workers that work or would find something to do.

        Calls that want the same worker's store employ that one; those of groups that have a machine employ no more
        workers
        than it has.
        """
        machines = self._pool.machines()
        present, slow = set(machines.values()), self._slow_machines(machines)
        busy, more, at_home = set(self._handed), 0, Counter[str]()
        stuck = {worker for worker in self._handed if self._is_stuck(worker)}
        for call in chain.from_iterable(batch.waiting for batch in self._batches):
            home, holder = self._wanted(call, machines, present)
            if holder is not None and holder not in stuck:
                busy.add(holder)
            elif home is not None and home not in slow:
                at_home[home] += 1
            else:
                more += 1
        idle = Counter(machine for worker, machine in machines.items() if worker not in busy)
        return len(busy) + more + sum(min(number, idle[machine]) for machine, number in at_home.items())

    def _is_stuck(self, worker: int) -> bool:
        """Whether a worker has had its call in hand for so long that others do better what waits for it."""
        batch = self._batch_of(self._handed[worker][0])
        return batch is None or is_overlong(self._in_hand_s(worker), self._pace.typical(batch.phase))

    def keeping(self) -> frozenset[int]:
        """Workers that keep what later calls of this round want."""
        return frozenset(self._holders.values())

    def release(self) -> None:
        """No later call of this round wants anything that workers keep."""
        self._holders.clear()

    def _give_home(self, call: Call, worker: int, machines: Mapping[int, str]) -> None:
        """A group's first call resolves which machine its others go to, for as long as that one has workers."""
        if call.group is not None and worker in machines and self._homes.get(call.group) not in machines.values():
            self._homes[call.group] = machines[worker]

    def react(self, event: PoolEvent) -> None:
        """Take what a worker said, or note what became of it."""
        if isinstance(event, Returned):
            self._take(event)
        elif isinstance(event, Lost):
            self._lost.add(event.incarnation)
            self._started.discard(event.incarnation)
            self._ask_again("worker-lost", event)
        elif isinstance(event, Refused):
            self._ask_again("answer-refused", event)
        elif isinstance(event, Stopped):
            self._started.discard(event.incarnation)
            self._round_log.event("worker-stopped", self._round, worker=f"worker-{event.incarnation}")
        else:
            self._started.add(event.incarnation)
            self._round_log.event("worker-started", self._round, worker=f"worker-{event.incarnation}")

    def _ask_again(self, kind: str, event: Lost | Refused) -> None:
        """A call has no answer: it waits for another worker."""
        self._handed.pop(event.incarnation, None)
        self._round_log.event(kind, self._round, worker=f"worker-{event.incarnation}", detail=event.reason)
        batch = self._batch_of(event.call)
        tried = {call.key for call, _ in self._handed.values()}  # by a second worker
        if (
            batch is not None
            and event.call is not None
            and event.call.key not in tried
            and not batch.has_answer(event.call)
        ):
            batch.give_back(event.call)
            self._round_log.asked_again(event.call.instead_of or event.call.key)

    def _take(self, event: Returned) -> None:
        """An answer counts once, and only if its worker was not lost before."""
        call, answer = event.call, event.answer
        handed_s = self._handed_s(event)
        batch = self._batch_of(call)
        if batch is None or answer.incarnation in self._lost or not batch.receive(call, answer):
            self._round_log.dropped(call.instead_of or call.key)
            return
        if call.holds is not None or call.wants is not None:
            # Who did what wanted something has it now: it was there, or was made.
            self._holders[call.holds or call.wants] = answer.incarnation
        self._note_pace(batch, event)
        self._advance(batch, event)
        self._round_log.event(
            batch.phase,
            self._round,
            arms=batch.arms,
            layer=batch.layer,
            party_batch=call.party_batch if batch.by_party_batch else None,
            worker=f"worker-{answer.incarnation}",
            seconds=answer.seconds,
            detail=answer.note,
            round_trip_s=self._round_log.clock() - handed_s,
        )
        self._batches = [batch for batch in self._batches if not batch.is_done]

    def _note_pace(self, batch: CallBatch, event: Returned) -> None:
        self._pace.saw(batch.phase, event.answer.seconds)
        if event.call.holds is not None:
            self._pace.saw("make", event.answer.seconds)

    def _handed_s(self, event: Returned) -> float:
        """When the call was handed to the worker that answers it now; an answer that comes twice frees no worker."""
        call, handed_s = self._handed.get(event.answer.incarnation, (None, self._round_log.clock()))
        if call is event.call:
            del self._handed[event.answer.incarnation]
        return handed_s

    def _batch_of(self, call: Call | None) -> CallBatch | None:
        return next((batch for batch in self._batches if call is not None and batch.has(call)), None)

    @property
    def num_awaited(self) -> int:
        """Answers that have not been taken yet."""
        return sum(batch.num_left for batch in self._batches)

    def waiting_for(self) -> str:
        """What has not been answered yet, in words."""
        if not self._started and not self._lost:
            return "a node with room for a worker" if self._pool.awaits_room() else "workers to start"
        left = Counter(chain.from_iterable([batch.phase] * batch.num_left for batch in self._batches))
        return ", ".join(f"{number} x {phase}" for phase, number in left.items())
