"""The sum of cohorts' contributions to one layer: added here, or group by group at the machines that made them.

Cohorts are added in groups (:mod:`consortium.merging.partial_sums`). Where hosts are on several machines, a group's
cohorts are worked on by hosts of one machine. These keep their contributions in their machine's object store and send
references; one of them adds the group and sends one sum. Where a contribution went with its host, the cohort is asked
again. Either way the coordinator holds about one sum, and gets the same bits. Once a party is refused nothing more is
added: the lane's round begins again without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from consortium.common.errors import RunError
from consortium.engine.round_log import Journal
from consortium.features.screening.checks import Refusal
from consortium.merging.method import Contribution
from consortium.merging.partial_sums import GroupedSum
from consortium.merging.statistics import Basis, check_same_basis
from consortium.party.audit_digest import Receipt
from consortium.party.worker import Collected

from consortium_ray.coordinator.batches import LOOK_AHEAD, Batch
from consortium_ray.messages import Answer, Call, GroupSum, Held

#: How often what hosts kept of one group may be lost before the run stops.
_MOST_LOSSES = 50


@dataclass(frozen=True)
class Sending:
    """What is being summed.

    Attributes:
        journal: told what each party sent.
        basis: lane, round and layer.
        phase: ``collect``, or ``retract`` for what is taken back.
        group_size: cohorts of a group.
        add: has a batch worked on.
    """

    journal: Journal
    basis: Basis
    phase: str
    group_size: int
    add: Callable[[Batch], None]


class LayerSum(ABC):
    """The sum of all cohorts at one layer.

    Attributes:
        refusals: parties whose messages were refused; then there is no sum.
    """

    def __init__(self, sending: Sending) -> None:
        self.refusals: list[Refusal] = []
        self._sending = sending
        self._sum = GroupedSum(sending.group_size)
        self._said: dict[int, tuple[Receipt, str]] = {}

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """Everything was added, or is not going to be since somebody was refused."""

    def total(self) -> Contribution:
        """The sum, once it is done."""
        return self._sum.total()

    @property
    def receipts(self) -> list[Receipt]:
        """Receipts of the cohorts in the sum, in ascending order."""
        return [self._said[cohort][0] for cohort in sorted(self._said)]

    @property
    def hosts(self) -> list[str]:
        """Host of each of these, which made what was added."""
        return [self._said[cohort][1] for cohort in sorted(self._said)]

    def _note(self, cohort: int, collected: Collected, answer: Answer) -> None:
        """Record what a cohort's parties sent; a cohort that is asked once more says the same once more."""
        if cohort not in self._said:
            sent = collected.party_bytes, collected.num_left_out, collected.largest_norm, collected.num_not_finite
            self._sending.journal.sent(self._sending.basis.lane, cohort, *sent)
            self.refusals += collected.refusals
        self._said[cohort] = collected.receipt, f"host-{answer.incarnation}"

    def _checked(self, contribution: Contribution, of: str) -> Contribution:
        check_same_basis(self._sending.basis, contribution.basis)
        contribution.check(of)
        return contribution

    def _work_on(self, calls: Sequence[Call], take: Callable[[int, Answer], None], **settings: Any) -> Batch:
        """Have calls worked on; ``take`` is told their cohorts and answers, in order."""
        cohorts, basis = [call.cohort for call in calls], self._sending.basis
        phase = settings.pop("phase", self._sending.phase)

        def take_of(number: int, answer: Answer) -> None:
            take(cohorts[number], answer)

        batch = Batch(phase, calls, take_of, [basis.lane], basis.layer, **settings)
        self._sending.add(batch)
        return batch


def begin_sum(sending: Sending, calls: Sequence[Call], num_machines: int) -> LayerSum:
    """Have the calls worked on, cohort by cohort in ascending order, and add up what they give.

    With fewer than two groups for each machine the coordinator adds: machines would stand idle.
    """
    if is_by_machines([call.cohort for call in calls], sending.group_size, num_machines):
        return _SumByMachines(sending, [_grouped(call, sending.group_size) for call in calls], num_machines)
    return _SumHere(sending, calls)


def is_by_machines(cohorts: Iterable[int], group_size: int, num_machines: int) -> bool:
    """Whether machines add groups of these cohorts by themselves."""
    return num_machines > 1 and len({cohort // group_size for cohort in cohorts}) >= 2 * num_machines


def _grouped(call: Call, group_size: int) -> Call:
    return replace(call, group=call.cohort // group_size)


def look_ahead(group_size: int, num_machines: int) -> int:
    """How far answers may run ahead where each machine works on groups of its own: two groups each."""
    return max(LOOK_AHEAD, 2 * group_size * num_machines)


class _SumHere(LayerSum):
    """Contributions come to the coordinator and are added in the order of cohorts."""

    def __init__(self, sending: Sending, calls: Sequence[Call]) -> None:
        super().__init__(sending)
        self._batch = self._work_on(calls, self._take)

    @property
    def is_done(self) -> bool:
        return self._batch.is_done

    def _take(self, cohort: int, answer: Answer) -> None:
        collected: Collected = answer.value
        self._note(cohort, collected, answer)
        if collected.contribution is not None:
            self._sum.add(cohort, self._checked(collected.contribution, f"cohort {cohort}"))


class _SumByMachines(LayerSum):
    """Hosts keep their contributions, one of their machine adds a group's, and group sums are added here in order."""

    def __init__(self, sending: Sending, calls: Sequence[Call], num_machines: int) -> None:
        super().__init__(sending)
        self._calls = {call.cohort: _kept_by_host(call) for call in calls}
        self._groups: dict[int, list[int]] = {}
        for cohort in self._calls:
            self._groups.setdefault(cohort // sending.group_size, []).append(cohort)
        self._kept: dict[int, Held] = {}  # of cohorts whose group is not added yet
        self._left = {group: len(cohorts) for group, cohorts in self._groups.items()}  # cohorts that are to come
        self._sums: dict[int, Contribution] = {}  # of groups that are ahead of one before them
        self._order = list(self._groups)
        self._num_asked = 0
        self._times_lost: Counter[int] = Counter()  # of groups
        ahead = look_ahead(sending.group_size, num_machines)
        self._work_on(list(self._calls.values()), self._take, look_ahead=ahead, settled=self._num_added)

    @property
    def is_done(self) -> bool:
        return not self._order or (bool(self.refusals) and not any(self._left.values()))

    def _num_added(self) -> int:
        """Cohorts that are in the sum, so that no more than a window of others is kept; all once nothing is added."""
        return len(self._calls) - sum(len(self._groups[group]) for group in self._order if not self.refusals)

    def _take(self, cohort: int, answer: Answer) -> None:
        held: Held = answer.value
        self._note(cohort, held.collected, answer)
        group = cohort // self._sending.group_size
        self._kept[cohort] = held
        self._left[group] -= 1
        if not self._left[group] and not self.refusals:
            self._add_up(group)

    def _add_up(self, group: int) -> None:
        """Have a host of the group's machine add what its hosts keep."""
        cohorts = self._groups[group]
        self._num_asked += 1
        first = self._calls[cohorts[0]]
        key = ("add", *first.key, self._num_asked)
        kept = [(cohort, self._kept[cohort].ref, self._kept[cohort].machine) for cohort in cohorts]
        call = Call(key, "add_up", (kept,), cohorts[0], group=first.group)
        take = partial(self._take_group, group)
        self._work_on([call], lambda _, answer: take(answer), phase="add", by_cohort=False, comes_first=True)

    def _take_group(self, group: int, answer: Answer) -> None:
        added: GroupSum = answer.value
        if self.refusals:
            return
        if added.contribution is None:
            self._ask_again(group, added.missing)
            return
        for cohort in self._groups[group]:
            del self._kept[cohort]
        self._sums[group] = self._checked(added.contribution, f"group {group} of cohorts")
        while self._order and self._order[0] in self._sums:
            self._sum.add_group(self._sums.pop(self._order.pop(0)))

    def _ask_again(self, group: int, cohorts: Sequence[int]) -> None:
        """What these kept went with their hosts. Under another name, since the same one is answered already."""
        self._times_lost[group] += 1
        if self._times_lost[group] > _MOST_LOSSES:
            raise RunError(
                f"what hosts kept of cohorts {cohorts[0]} to {cohorts[-1]} was lost {_MOST_LOSSES + 1} times over",
                "hosts that live long enough to add what they keep",
                "look at the memory of the machines and at Ray's logs; `consortium resume` continues the run",
            )
        self._left[group] = len(cohorts)
        self._num_asked += 1
        calls = [self._calls[cohort] for cohort in cohorts]
        for call in calls:
            self._sending.journal.asked_again(call.key)
        named = [replace(call, key=(*call.key, self._num_asked), instead_of=call.key) for call in calls]
        self._work_on(named, self._take, comes_first=True)


def _kept_by_host(call: Call) -> Call:
    """The call whose contribution the host keeps in its machine's object store."""
    return replace(call, method="keep", arguments=(call.method, *call.arguments))
