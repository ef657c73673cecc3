"""The sum of party batches' contributions to one layer: added here, or group by group at the machines that made them.

Party batches are added in groups (:mod:`consortium.merging.partial_sums`). Where workers are on several machines, a
group's party batches are worked on by workers of one machine. These keep their contributions in their machine's object
store and send references; one of them adds the group and sends one sum. Where a contribution went with its worker, the
party batch is asked again. Either way the coordinator holds about one sum, and gets the same bits. Once a party is
refused nothing more is
added: the arm's round begins again without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from consortium.common.errors import RunError
from consortium.engine.round_log import RoundLog
from consortium.engine.rounds import Summed
from consortium.features.hooks import Rejection
from consortium.merging.method import Contribution
from consortium.merging.partial_sums import PartialSums
from consortium.merging.statistics import Basis, check_same_basis
from consortium.party.worker import Collected

from consortium_ray.coordinator.batches import LOOK_AHEAD, CallBatch
from consortium_ray.messages import Call, PartialSum, Reply, StoredContribution

#: How often what workers kept of one group may be lost before the run stops.
_MOST_LOSSES = 50


@dataclass(frozen=True)
class Sending:
    """What is being summed.

    Attributes:
        round_log: told what each party sent.
        basis: arm, round and layer.
        phase: ``collect``, or ``unlearn`` for what is removed.
        reduce_fanout: party batches of a group.
        add: has a batch worked on.
    """

    round_log: RoundLog
    basis: Basis
    phase: str
    reduce_fanout: int
    add: Callable[[CallBatch], None]


class LayerSum(ABC):
    """The sum of all party batches at one layer.

    Attributes:
        rejections: parties whose messages were refused; then there is no sum.
    """

    def __init__(self, sending: Sending) -> None:
        self.rejections: list[Rejection] = []
        self._sending = sending
        self._sum = PartialSums(sending.reduce_fanout)
        self._said: dict[int, Summed] = {}

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """Everything was added, or is not going to be since somebody was refused."""

    def total(self) -> Contribution:
        """The sum, once it is done."""
        return self._sum.total()

    @property
    def parts(self) -> list[Summed]:
        """What the batches in the sum said besides, and the worker that made what was added, in ascending order."""
        return [self._said[number] for number in sorted(self._said)]

    def _note(self, party_batch: int, collected: Collected, answer: Reply) -> None:
        """Record what a party batch's parties sent; a party batch that is asked once more says the same once more."""
        if party_batch not in self._said:
            self._sending.round_log.sent(self._sending.basis.arm, party_batch, collected)
            self.rejections += collected.rejections
        said = replace(collected, contribution=None)  # which is added, and not kept
        self._said[party_batch] = Summed(party_batch, f"worker-{answer.incarnation}", said)

    def _checked(self, contribution: Contribution, of: str) -> Contribution:
        check_same_basis(self._sending.basis, contribution.basis)
        contribution.check(of)
        return contribution

    def _work_on(self, calls: Sequence[Call], take: Callable[[int, Reply], None], **settings: Any) -> CallBatch:
        """Have calls worked on; ``take`` is told their party batches and answers, in order."""
        party_batches, basis = [call.party_batch for call in calls], self._sending.basis
        phase = settings.pop("phase", self._sending.phase)

        def take_of(number: int, answer: Reply) -> None:
            take(party_batches[number], answer)

        batch = CallBatch(phase, calls, take_of, [basis.arm], basis.layer, **settings)
        self._sending.add(batch)
        return batch


def begin_sum(sending: Sending, calls: Sequence[Call], num_machines: int) -> LayerSum:
    """Have the calls worked on, party batch by party batch in ascending order, and add up what they give.

    With fewer than two groups for each machine the coordinator adds: machines would stand idle.
    """
    if is_by_machines([call.party_batch for call in calls], sending.reduce_fanout, num_machines):
        return _SumByMachines(sending, [_grouped(call, sending.reduce_fanout) for call in calls], num_machines)
    return _SumHere(sending, calls)


def is_by_machines(party_batches: Iterable[int], reduce_fanout: int, num_machines: int) -> bool:
    """Whether machines add groups of these party batches by themselves."""
    return num_machines > 1 and len({party_batch // reduce_fanout for party_batch in party_batches}) >= 2 * num_machines


def _grouped(call: Call, reduce_fanout: int) -> Call:
    return replace(call, group=call.party_batch // reduce_fanout)


def look_ahead(reduce_fanout: int, num_machines: int) -> int:
    """How far answers may run ahead where each machine works on groups of its own: two groups each."""
    return max(LOOK_AHEAD, 2 * reduce_fanout * num_machines)


class _SumHere(LayerSum):
    """Contributions come to the coordinator and are added in the order of party batches."""

    def __init__(self, sending: Sending, calls: Sequence[Call]) -> None:
        super().__init__(sending)
        self._batch = self._work_on(calls, self._take)

    @property
    def is_done(self) -> bool:
        return self._batch.is_done

    def _take(self, party_batch: int, answer: Reply) -> None:
        collected: Collected = answer.value
        self._note(party_batch, collected, answer)
        if collected.contribution is not None:
            self._sum.add(party_batch, self._checked(collected.contribution, f"party batch {party_batch}"))


class _SumByMachines(LayerSum):
    """Workers keep their contributions, one of their machine adds a group's, and group sums are added here in order."""

    def __init__(self, sending: Sending, calls: Sequence[Call], num_machines: int) -> None:
        super().__init__(sending)
        self._calls = {call.party_batch: _kept_by_worker(call) for call in calls}
        self._groups: dict[int, list[int]] = {}
        for party_batch in self._calls:
            self._groups.setdefault(party_batch // sending.reduce_fanout, []).append(party_batch)
        self._kept: dict[int, StoredContribution] = {}  # of party batches whose group is not added yet
        self._left = {
            group: len(party_batches) for group, party_batches in self._groups.items()
        }  # party batches that are to come
        self._sums: dict[int, Contribution] = {}  # of groups that are ahead of one before them
        self._order = list(self._groups)
        self._num_asked = 0
        self._times_lost: Counter[int] = Counter()  # of groups
        ahead = look_ahead(sending.reduce_fanout, num_machines)
        self._work_on(list(self._calls.values()), self._take, look_ahead=ahead, resolution=self._num_added)

    @property
    def is_done(self) -> bool:
        return not self._order or (bool(self.rejections) and not any(self._left.values()))

    def _num_added(self) -> int:
        """Party batches that are in the sum, so that no more than a window of others is kept; all once nothing is
        added."""
        return len(self._calls) - sum(len(self._groups[group]) for group in self._order if not self.rejections)

    def _take(self, party_batch: int, answer: Reply) -> None:
        held: StoredContribution = answer.value
        self._note(party_batch, held.collected, answer)
        group = party_batch // self._sending.reduce_fanout
        self._kept[party_batch] = held
        self._left[group] -= 1
        if not self._left[group] and not self.rejections:
            self._add_up(group)

    def _add_up(self, group: int) -> None:
        """Have a worker of the group's machine add what its workers keep."""
        party_batches = self._groups[group]
        self._num_asked += 1
        first = self._calls[party_batches[0]]
        key = ("add", *first.key, self._num_asked)
        kept = [
            (party_batch, self._kept[party_batch].ref, self._kept[party_batch].machine) for party_batch in party_batches
        ]
        call = Call(key, "add_up", (kept,), party_batches[0], group=first.group)
        take = partial(self._take_group, group)
        self._work_on([call], lambda _, answer: take(answer), phase="add", by_party_batch=False, comes_first=True)

    def _take_group(self, group: int, answer: Reply) -> None:
        added: PartialSum = answer.value
        if self.rejections:
            return
        if added.contribution is None:
            self._ask_again(group, added.missing)
            return
        for party_batch in self._groups[group]:
            del self._kept[party_batch]
        self._sums[group] = self._checked(added.contribution, f"group {group} of party batches")
        while self._order and self._order[0] in self._sums:
            self._sum.add_group(self._sums.pop(self._order.pop(0)))

    def _ask_again(self, group: int, party_batches: Sequence[int]) -> None:
        """What these kept went with their workers. Under another name, since the same one is answered already."""
        self._times_lost[group] += 1
        if self._times_lost[group] > _MOST_LOSSES:
            raise RunError(
                f"what workers kept of party batches {party_batches[0]} to {party_batches[-1]} was lost "
                f"{_MOST_LOSSES + 1} times over",
                "workers that live long enough to add what they keep",
                "look at the memory of the machines and at Ray's logs; `consortium resume` continues the run",
            )
        self._left[group] = len(party_batches)
        self._num_asked += 1
        calls = [self._calls[party_batch] for party_batch in party_batches]
        for call in calls:
            self._sending.round_log.asked_again(call.key)
        named = [replace(call, key=(*call.key, self._num_asked), instead_of=call.key) for call in calls]
        self._work_on(named, self._take, comes_first=True)


def _kept_by_worker(call: Call) -> Call:
    """The call whose contribution the worker keeps in its machine's object store."""
    return replace(call, method="keep", arguments=(call.method, *call.arguments))
