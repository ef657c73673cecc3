"""The dispatcher: hands calls to hosts and answers to batches, and knows nothing of what they mean."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping
from functools import partial
from itertools import chain

from consortium.engine.round_log import Journal
from consortium.scenario.faults import FaultSpec

from consortium_ray.coordinator.batches import Batch
from consortium_ray.faults.injection import Faults, trouble_of
from consortium_ray.messages import Call
from consortium_ray.workers.pace import Pace, is_overlong, takes_over
from consortium_ray.workers.pool import Answered, Lost, Parked, Pool, PoolEvent, Refused


class Dispatcher:
    """Batches that are worked on, and which host holds what.

    Args:
        pool: the hosts.
        faults: what shall break on purpose.
        journal: told what hosts do and what becomes of them.
        advance: told of each answer that counts, and its batch.
    """

    def __init__(
        self, pool: Pool, faults: Faults, journal: Journal, advance: Callable[[Batch, Answered], None]
    ) -> None:
        self._pool = pool
        self._faults = faults
        self._journal = journal
        self._advance = advance
        self._round = 0
        self._batches: list[Batch] = []
        self._holders: dict[Hashable, int] = {}
        self._homes: dict[int, str] = {}  # group of calls → machine
        self._moved: set[int] = set()  # groups that left a slow machine
        self._lost: set[int] = set()
        self._handed: dict[int, tuple[Call, float]] = {}
        self._started: set[int] = set()
        self._pace = Pace()

    def begin_round(self, number: int, journal: Journal) -> None:
        """Events are of this round from now on, and what hosts held for the one before is of no use."""
        self._round, self._journal = number, journal
        self._holders.clear()
        self._homes.clear()
        self._moved.clear()

    def add(self, batch: Batch) -> None:
        """Have a batch worked on; those that can wait are served last, and of equal ones the first."""
        self._batches.append(batch)
        self._batches.sort(key=lambda each: (not each.comes_first, each.can_wait))

    def is_loaded(self) -> bool:
        """Every host that has started has a call, or none that waits is for it."""
        machines = self._pool.machines()
        idle = (self._suits(host, machines) for host in self._started - self._handed.keys())
        return not any(batch.has_for(suits) for suits in idle for batch in self._batches)

    def hand_out(self, only_urgent: bool = False) -> None:
        """Give each idle host the first call that suits it; with ``only_urgent``, none that can wait."""
        machines = self._pool.machines()
        for host in self._pool.idle():
            suits = self._suits(host, machines)
            batches = (batch for batch in self._batches if not (only_urgent and batch.can_wait))
            found = ((batch, batch.choose(suits)) for batch in batches)
            batch, call = next(((batch, call) for batch, call in found if call is not None), (None, None))
            if batch is not None and call is not None:
                self._give(host, batch, call, machines)

    def _give(self, host: int, batch: Batch, call: Call, machines: Mapping[int, str]) -> None:
        fault = self._faults.at_call(batch.phase, self._round, call.key, partial(self._pool.can_lose_node, host))
        self._handed[host] = call, self._journal.clock()
        self._give_home(call, host, machines)
        self._pool.start(host, call, trouble_of(fault))
        self.strike(fault, host)

    def relieve(self) -> None:
        """Give hosts that find nothing else what waits for a busy one, or what one has had in hand for too long.

        To be called when all that hosts have answered was taken. It changes no bit: whoever answers a call, the answer
        is the same, and the first one counts.
        """
        idle = [host for host in self._pool.idle() if host in self._started]
        if not idle or not self._handed:
            return
        machines = self._pool.machines()
        for host in idle:
            found = self._take_over(host, machines) or self._second(host, machines) or self._move(host, machines)
            if found is None:
                continue
            batch, call, whose = found
            self._journal.event("taken-over", self._round, host=f"host-{host}", detail=f"{call}, from host-{whose}")
            self._give(host, batch, call, machines)

    def _take_over(self, host: int, machines: Mapping[int, str]) -> tuple[Batch, Call, int] | None:
        """The first call that waits for a busy host, where an idle one has it done sooner; and who that is."""
        make_s, present = self._pace.typical("make"), set(machines.values())
        if make_s is None:
            return None

        def whose(call: Call) -> int | None:
            home, holder = self._wanted(call, machines, present)
            return holder if holder in self._handed and home in (None, machines.get(host)) else None

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

    def _second(self, host: int, machines: Mapping[int, str]) -> tuple[Batch, Call, int] | None:
        """The call that one host has had in hand for too long, if no second one tries it already; and who that is."""
        present = set(machines.values())
        return self._in_hand(
            lambda call: self._wanted(call, machines, present)[0] in (None, machines.get(host)), list(self._handed)
        )

    def _in_hand(self, accept: Callable[[Call], bool], hosts: Collection[int]) -> tuple[Batch, Call, int] | None:
        """Of acceptable calls that these hosts have had for too long and nobody else tries, the one for the longest."""
        times = Counter(call.key for call, _ in self._handed.values())
        for busy in sorted(hosts, key=self._in_hand_s, reverse=True):
            call = self._handed[busy][0]
            batch = self._batch_of(call)
            if batch is None or times[call.key] > 1 or batch.has_answer(call):
                continue
            if self._is_stuck(busy) and accept(call):
                return batch, call, busy
        return None

    def _move(self, host: int, machines: Mapping[int, str]) -> tuple[Batch, Call, int] | None:
        """A call of a group whose machine has no host that gets on, and one of these; the group is of here from now on.

        Sums are read on the group's machine alone, so what was kept on the slow one is made again. Each group moves
        once in a round: where all machines are slow, none is of more use than another.
        """
        here, slow = machines.get(host), self._slow_machines(machines)
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
        """Machines of which every host has had its call in hand for too long."""
        getting_on = {
            machine for host, machine in machines.items() if host not in self._handed or not self._is_stuck(host)
        }
        return set(machines.values()) - getting_on

    def _in_hand_s(self, host: int) -> float:
        """How long a host has had its call."""
        return self._journal.clock() - self._handed[host][1]

    def strike(self, fault: FaultSpec | None, host: int | None = None) -> None:
        """Have a fault happen: to a host, or to the first one that is there when none is named.

        Raises:
            OSError: the fault is a full disk.
        """
        if fault is None:
            return
        host = min(self._started, default=None) if host is None else host
        self._journal.event("fault", self._round, host=None if host is None else f"host-{host}", detail=fault.words)
        if fault.fill is not None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if fault.kill == "coordinator":
            self._pool.kill_coordinator()
        elif fault.kill == "host" and host is not None:
            self._pool.kill(host)

    def _suits(self, host: int, machines: Mapping[int, str]) -> Callable[[Call], bool]:
        """A call goes to its group's machine, and there, or anywhere, to the host that holds what it wants."""
        present = set(machines.values())

        def suits(call: Call) -> bool:
            home, holder = self._wanted(call, machines, present)
            return holder == host if holder is not None else home is None or machines.get(host) == home

        return suits

    def _wanted(
        self, call: Call, machines: Mapping[int, str], present: Collection[str]
    ) -> tuple[str | None, int | None]:
        """The machine and the host that a call should go to, None for any.

        Sums of a group are read on its machine alone, so a host elsewhere is of no use, whatever it holds.
        """
        home = None if call.group is None else self._homes.get(call.group)
        home = home if home in present else None
        holder = None if call.wants is None else self._holders.get(call.wants)
        is_there = holder is not None and self._pool.alive(holder) and home in (None, machines.get(holder))
        return home, holder if is_there else None

    def num_employable(self) -> int:
        """Hosts that work or would find something to do.

        Calls that want the same host's store employ that one; those of groups that have a machine employ no more hosts
        than it has.
        """
        machines = self._pool.machines()
        present, slow = set(machines.values()), self._slow_machines(machines)
        busy, more, at_home = set(self._handed), 0, Counter[str]()
        stuck = {host for host in self._handed if self._is_stuck(host)}
        for call in chain.from_iterable(batch.waiting for batch in self._batches):
            home, holder = self._wanted(call, machines, present)
            if holder is not None and holder not in stuck:
                busy.add(holder)
            elif home is not None and home not in slow:
                at_home[home] += 1
            else:
                more += 1
        idle = Counter(machine for host, machine in machines.items() if host not in busy)
        return len(busy) + more + sum(min(number, idle[machine]) for machine, number in at_home.items())

    def _is_stuck(self, host: int) -> bool:
        """Whether a host has had its call in hand for so long that others do better what waits for it."""
        batch = self._batch_of(self._handed[host][0])
        return batch is None or is_overlong(self._in_hand_s(host), self._pace.typical(batch.phase))

    def keeping(self) -> frozenset[int]:
        """Hosts that keep what later calls of this round want."""
        return frozenset(self._holders.values())

    def release(self) -> None:
        """No later call of this round wants anything that hosts keep."""
        self._holders.clear()

    def _give_home(self, call: Call, host: int, machines: Mapping[int, str]) -> None:
        """A group's first call settles which machine its others go to, for as long as that one has hosts."""
        if call.group is not None and host in machines and self._homes.get(call.group) not in machines.values():
            self._homes[call.group] = machines[host]

    def react(self, event: PoolEvent) -> None:
        """Take what a host said, or note what became of it."""
        if isinstance(event, Answered):
            self._take(event)
        elif isinstance(event, Lost):
            self._lost.add(event.incarnation)
            self._started.discard(event.incarnation)
            self._ask_again("host-lost", event)
        elif isinstance(event, Refused):
            self._ask_again("answer-refused", event)
        elif isinstance(event, Parked):
            self._started.discard(event.incarnation)
            self._journal.event("host-parked", self._round, host=f"host-{event.incarnation}")
        else:
            self._started.add(event.incarnation)
            self._journal.event("host-started", self._round, host=f"host-{event.incarnation}")

    def _ask_again(self, kind: str, event: Lost | Refused) -> None:
        """A call has no answer: it waits for another host."""
        self._handed.pop(event.incarnation, None)
        self._journal.event(kind, self._round, host=f"host-{event.incarnation}", detail=event.reason)
        batch = self._batch_of(event.call)
        tried = {call.key for call, _ in self._handed.values()}  # by a second host
        if (
            batch is not None
            and event.call is not None
            and event.call.key not in tried
            and not batch.has_answer(event.call)
        ):
            batch.give_back(event.call)
            self._journal.asked_again(event.call.instead_of or event.call.key)

    def _take(self, event: Answered) -> None:
        """An answer counts once, and only if its host was not lost before."""
        call, answer = event.call, event.answer
        handed_s = self._handed_s(event)
        batch = self._batch_of(call)
        if batch is None or answer.incarnation in self._lost or not batch.receive(call, answer):
            self._journal.dropped(call.instead_of or call.key)
            return
        if call.holds is not None or call.wants is not None:
            # Who did what wanted something has it now: it was there, or was made.
            self._holders[call.holds or call.wants] = answer.incarnation
        self._note_pace(batch, event)
        self._advance(batch, event)
        self._journal.event(
            batch.phase,
            self._round,
            lanes=batch.lanes,
            layer=batch.layer,
            cohort=call.cohort if batch.by_cohort else None,
            host=f"host-{answer.incarnation}",
            seconds=answer.seconds,
            detail=answer.remark,
            round_trip_s=self._journal.clock() - handed_s,
        )
        self._batches = [batch for batch in self._batches if not batch.is_done]

    def _note_pace(self, batch: Batch, event: Answered) -> None:
        self._pace.saw(batch.phase, event.answer.seconds)
        if event.call.holds is not None:
            self._pace.saw("make", event.answer.seconds)

    def _handed_s(self, event: Answered) -> float:
        """When the call was handed to the host that answers it now; an answer that comes twice frees no host."""
        call, handed_s = self._handed.get(event.answer.incarnation, (None, self._journal.clock()))
        if call is event.call:
            del self._handed[event.answer.incarnation]
        return handed_s

    def _batch_of(self, call: Call | None) -> Batch | None:
        return next((batch for batch in self._batches if call is not None and batch.has(call)), None)

    @property
    def num_awaited(self) -> int:
        """Answers that have not been taken yet."""
        return sum(batch.num_left for batch in self._batches)

    def waiting_for(self) -> str:
        """What has not been answered yet, in words."""
        if not self._started and not self._lost:
            return "a node with room for a host" if self._pool.awaits_room() else "hosts to start"
        left = Counter(chain.from_iterable([batch.phase] * batch.num_left for batch in self._batches))
        return ", ".join(f"{number} x {phase}" for phase, number in left.items())
