"""The sum of cohorts' contributions to one layer: added here, or group by group at the machines that made them.

Cohorts are added in groups (:mod:`consortium.merging.grouped`). Where hosts are on several machines, a group's cohorts
are worked on by hosts of one machine. These keep their contributions in their machine's object store and send
references; one of them adds the group and sends one sum. Where a contribution went with its host, the cohort is asked
again. Either way the coordinator holds about one sum, and gets the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from consortium.journal import Journal
from consortium.merging.grouped import GroupedSum
from consortium.merging.method import Contribution

from consortium_ray.batches import LOOK_AHEAD, Batch
from consortium_ray.messages import Answer, Call, Key


@dataclass(frozen=True)
class Sending:
    """What is being summed.

    Attributes:
        journal: told what each party sent.
        lane: the lane.
        layer: the layer.
        phase: ``collect``, or ``retract`` for what is taken back.
        group_size: cohorts of a group.
        add: has a batch worked on.
    """

    journal: Journal
    lane: str
    layer: int
    phase: str
    group_size: int
    add: Callable[[Batch], None]


class LayerSum(Protocol):
    """The sum of all cohorts at one layer."""

    @property
    def is_done(self) -> bool:
        """Everything was added."""
        ...

    def total(self) -> Contribution:
        """The sum, once it is done."""
        ...


def begin_sum(sending: Sending, calls: Sequence[Call], num_machines: int) -> LayerSum:
    """Have the calls worked on, cohort by cohort in ascending order, and add up what they give.

    With fewer than two groups for each machine the coordinator adds: machines would stand idle.
    """
    num_groups = len({call.cohort // sending.group_size for call in calls})
    if num_machines > 1 and num_groups >= 2 * num_machines:
        return _SumByMachines(sending, calls, num_machines)
    return _SumHere(sending, calls)


def look_ahead(group_size: int, num_machines: int) -> int:
    """How far answers may run ahead where each machine works on groups of its own: two groups each."""
    return max(LOOK_AHEAD, 2 * group_size * num_machines)


class _SumHere:
    """Contributions come to the coordinator and are added in the order of cohorts."""

    def __init__(self, sending: Sending, calls: Sequence[Call]) -> None:
        self._sending = sending
        self._cohorts = [call.cohort for call in calls]
        self._sum = GroupedSum(sending.group_size)
        self._batch = Batch(sending.phase, calls, self._take, [sending.lane], sending.layer)
        sending.add(self._batch)

    @property
    def is_done(self) -> bool:
        return self._batch.is_done

    def _take(self, number: int, answer: Answer) -> None:
        cohort, collected = self._cohorts[number], answer.value
        collected.contribution.check(f"cohort {cohort}")
        self._sending.journal.sent(self._sending.lane, cohort, collected.party_bytes, collected.num_left_out)
        self._sum.add(cohort, collected.contribution)

    def total(self) -> Contribution:
        return self._sum.total()


class _SumByMachines:
    """Hosts keep their contributions, one of their machine adds a group's, and group sums are added here in order."""

    def __init__(self, sending: Sending, calls: Sequence[Call], num_machines: int) -> None:
        self._sending = sending
        self._calls = {call.cohort: _kept_by_host(call) for call in calls}
        self._refs: dict[int, Any] = {}  # of cohorts whose group is not added yet
        self._left = {group: len(cohorts) for group, cohorts in self._groups().items()}  # cohorts that are to come
        self._sums: dict[int, Contribution] = {}  # of groups that are ahead of one before them
        self._order = list(self._left)
        self._sum = GroupedSum(sending.group_size)
        self._num_asked = 0
        self._ask(list(self._calls.values()), self._take_first, look_ahead(sending.group_size, num_machines))

    @property
    def is_done(self) -> bool:
        return not self._order

    def total(self) -> Contribution:
        return self._sum.total()

    def _groups(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for cohort in self._calls:
            found.setdefault(cohort // self._sending.group_size, []).append(cohort)
        return found

    def _ask(self, calls: Sequence[Call], take: Callable[[int, Answer], None], ahead: int = LOOK_AHEAD) -> None:
        """Have cohorts computed; whoever is asked again is asked under another name, since the same one is answered."""
        self._num_asked += 1
        named = [replace(call, key=(*call.key, "kept", self._num_asked)) for call in calls]
        cohorts = [call.cohort for call in named]
        batch = Batch(
            self._sending.phase,
            named,
            lambda number, answer: take(cohorts[number], answer),
            [self._sending.lane],
            self._sending.layer,
            look_ahead=ahead,
        )
        self._sending.add(batch)

    def _take_first(self, cohort: int, answer: Answer) -> None:
        kept = answer.value
        self._sending.journal.sent(self._sending.lane, cohort, kept.party_bytes, kept.num_left_out)
        self._take(cohort, answer)

    def _take(self, cohort: int, answer: Answer) -> None:
        group = cohort // self._sending.group_size
        self._refs[cohort] = answer.value.ref
        self._left[group] -= 1
        if not self._left[group]:
            self._add_up(group)

    def _add_up(self, group: int) -> None:
        cohorts = self._groups()[group]
        self._num_asked += 1
        key: Key = ("add", self._sending.phase, self._sending.lane, self._sending.layer, group, self._num_asked)
        refs = [(cohort, self._refs[cohort]) for cohort in cohorts]
        call = Call(key, "add_up", (refs,), cohorts[0], group=self._calls[cohorts[0]].group)
        batch = Batch(
            "add",
            [call],
            lambda _, answer: self._take_group(group, answer),
            [self._sending.lane],
            self._sending.layer,
            by_cohort=False,
        )
        self._sending.add(batch)

    def _take_group(self, group: int, answer: Answer) -> None:
        if answer.value.missing:
            self._left[group] = len(answer.value.missing)
            self._ask([self._calls[cohort] for cohort in answer.value.missing], self._take)
            return
        answer.value.contribution.check(f"group {group} of cohorts")
        for cohort in self._groups()[group]:
            del self._refs[cohort]
        self._sums[group] = answer.value.contribution
        while self._order and self._order[0] in self._sums:
            self._sum.add_group(self._sums.pop(self._order.pop(0)))


def _kept_by_host(call: Call) -> Call:
    """The call whose contribution the host keeps in its machine's object store."""
    return replace(call, method="keep", arguments=(call.method, *call.arguments))
