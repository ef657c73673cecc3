"""The dispatcher: hands calls to hosts and answers to batches, and knows nothing of what they mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from itertools import chain

from consortium.journal import Journal

from consortium_ray.batches import Batch
from consortium_ray.faults import Faults
from consortium_ray.messages import Call
from consortium_ray.pool import Answered, Lost, Pool, PoolEvent


class Dispatcher:
    """Batches that are worked on, and which host holds what.

    Args:
        pool: the hosts.
        faults: what shall break on purpose.
        journal: told what hosts do and what becomes of them.
        advance: told of each answer that counts, by its batch and call.
    """

    def __init__(self, pool: Pool, faults: Faults, journal: Journal, advance: Callable[[Batch, Call], None]) -> None:
        self._pool = pool
        self._faults = faults
        self._journal = journal
        self._advance = advance
        self._round = 0
        self._batches: list[Batch] = []
        self._holders: dict[Hashable, int] = {}
        self._lost: set[int] = set()
        self._num_started = 0

    def begin_round(self, number: int) -> None:
        """Events are of this round from now on, and what hosts held for the one before is of no use."""
        self._round = number
        self._holders.clear()

    def add(self, batch: Batch) -> None:
        """Have a batch worked on; batches added first are served first."""
        self._batches.append(batch)

    def hand_out(self) -> None:
        """Give each idle host the first call that suits it."""
        for host in self._pool.idle():
            found = ((batch, batch.choose(self._suits(host))) for batch in self._batches)
            batch, call = next(((batch, call) for batch, call in found if call is not None), (None, None))
            if batch is not None and call is not None:
                self._pool.start(host, call)
                self._faults.started(self._pool, host, batch.phase, self._round)

    def _suits(self, host: int) -> Callable[[Call], bool]:
        """A call goes to the host that holds what it wants, as long as that host lives."""

        def suits(call: Call) -> bool:
            holder = self._holders.get(call.wants) if call.wants is not None else None
            return holder is None or holder == host or not self._pool.alive(holder)

        return suits

    def react(self, event: PoolEvent) -> None:
        """Take what a host said, or note what became of it."""
        if isinstance(event, Answered):
            self._take(event)
        elif isinstance(event, Lost):
            self._lost.add(event.incarnation)
            self._journal.event("host-lost", self._round, host=f"host-{event.incarnation}", detail=event.reason)
            batch = self._batch_of(event.call)
            if batch is not None and event.call is not None:
                batch.give_back(event.call)
        else:
            self._num_started += 1
            self._journal.event("host-started", self._round, host=f"host-{event.incarnation}")

    def _take(self, event: Answered) -> None:
        """An answer counts once, and only if its host was not lost before."""
        call, answer = event.call, event.answer
        batch = self._batch_of(call)
        if batch is None or answer.incarnation in self._lost or not batch.receive(call, answer):
            return
        if call.holds is not None:
            self._holders[call.holds] = answer.incarnation
        self._advance(batch, call)
        self._journal.event(
            batch.phase,
            self._round,
            lanes=batch.lanes,
            layer=batch.layer,
            cohort=call.cohort if batch.by_cohort else None,
            host=f"host-{answer.incarnation}",
            seconds=answer.seconds,
        )
        self._batches = [batch for batch in self._batches if not batch.is_done]

    def _batch_of(self, call: Call | None) -> Batch | None:
        return next((batch for batch in self._batches if call is not None and batch.has(call)), None)

    def waiting_for(self) -> str:
        """What has not been answered yet, in words."""
        if not self._num_started:
            return "hosts to start"
        left = Counter(chain.from_iterable([batch.phase] * batch.num_left for batch in self._batches))
        return ", ".join(f"{number} x {phase}" for phase, number in left.items())
