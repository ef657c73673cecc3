"""The virtual course of a run: who is asked in each round, who answers when, and which edits are merged in which round.

It is a pure function of the scenario: how long an answer takes follows from the number of edits in it, from the
party's device and from the bytes of its message. So every process works it out for itself, no time is slept away, and
nothing of it depends on where or how fast a run is computed.

Asking more parties than are wanted, and closing a round at a count or a deadline, is as in Bonawitz et al. 2019
(arXiv 1902.01046, sections 2.2 and 4.2). What differs: a round in which too few answer is not thrown away; what came
is merged. Late edits may be carried into a later round, where they are computed anew, so no merge has stale statistics.

Shapes: P parties, S parties that are asked, A edits that a party asks for in all rounds, R rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from consortium.common.seeds import numpy_generator
from consortium.features.virtual_time.devices import Devices, Workload
from consortium.features.virtual_time.message_sizes import MessageSizes
from consortium.scenario.virtual_time import ScheduleSpec

PartyPlaces = NDArray[np.int64]
Rounds = NDArray[np.int32]
Flags = NDArray[np.bool_]
AnswerOutcome = Literal["merged", "awaited", "carried", "dropped"]

#: What becomes of a late answer, by ``schedule.late``.
_LATE: dict[str, AnswerOutcome] = {"carry": "carried", "wait": "awaited", "drop": "dropped"}


@dataclass(frozen=True)
class Asks:
    """What parties ask for in all rounds, a column for each edit in the order of asking.

    Attributes:
        round_A: the round in which it is asked for, the same for all parties.
        before_PA: the column of the party's request before it for the same fact; -1 for the first. None where no
            party comes back to a fact.
    """

    num_parties: int
    round_A: Rounds
    before_PA: Rounds | None


@dataclass(frozen=True)
class RoundTimeline:
    """One round in virtual time.

    Attributes:
        start_s: when it begins, in seconds from the run's beginning.
        end_s: when it is over.
        num_available: parties that are there when it begins.
        num_wanted: answers that it wants.
        asked_S: the parties that are asked, in order.
        num_edits_S: edits in the answer of each.
        answer_s_S: how long each takes from the round's beginning, in seconds.
        is_late_S: whether it comes after the quorum or the deadline.
        num_lost: edits that are lost in this round.
        num_waiting: edits asked for up to this round that are neither merged nor lost after it.
    """

    start_s: float
    end_s: float
    num_available: int
    num_wanted: int
    asked_S: PartyPlaces
    num_edits_S: PartyPlaces
    answer_s_S: NDArray[np.float64]
    is_late_S: Flags
    num_lost: int
    num_waiting: int


@dataclass(frozen=True)
class Timeline:
    """All rounds of a run in virtual time.

    Attributes:
        turns: the rounds, the first first.
        merged_in_PA: the round in which each edit is merged; 0 for never.
        asks: what was asked for.
        late: what becomes of late answers.
        class_of: each party's class of device; None for none.
    """

    turns: tuple[RoundTimeline, ...]
    merged_in_PA: Rounds
    asks: Asks
    late: AnswerOutcome
    class_of: Sequence[str | None]

    def columns(self, round_number: int, party: int) -> list[int]:
        """The edits of a party that are merged in a round, in the order of asking."""
        return np.flatnonzero(self.merged_in_PA[party] == round_number).tolist()

    def outcome(self, is_late: bool) -> AnswerOutcome:
        """What becomes of an answer."""
        return self.late if is_late else "merged"

    def ages(self, round_number: int) -> PartyPlaces:
        """Rounds from asking to merging of all edits that are merged in a round, party after party."""
        _, columns = np.nonzero(self.merged_in_PA == round_number)
        return round_number - self.asks.round_A[columns].astype(np.int64)


def run_timeline(seed: int, schedule: ScheduleSpec, devices: Devices, sizes: MessageSizes, asks: Asks) -> Timeline:
    """Go through all rounds in virtual time.

    Args:
        seed: the run's seed.
        schedule: who is asked and waited for.
        devices: what the parties compute on.
        sizes: bytes of messages.
        asks: what the parties ask for.
    """
    clock = _Clock(seed, schedule, devices, sizes, asks)
    turns = tuple(clock.round_timeline(number) for number in range(1, int(asks.round_A.max(initial=0)) + 1))
    return Timeline(turns, clock.merged_in_PA, asks, _LATE[schedule.late], devices.class_of)


class _Clock:
    """Goes from round to round; what was merged and lost so far is its state."""

    def __init__(self, seed: int, schedule: ScheduleSpec, devices: Devices, sizes: MessageSizes, asks: Asks) -> None:
        self._seed, self._schedule, self._devices, self._sizes, self._asks = seed, schedule, devices, sizes, asks
        self._now_s = 0.0
        shape = asks.num_parties, len(asks.round_A)
        self.merged_in_PA: Rounds = np.zeros(shape, np.int32)
        self._is_open_PA: Flags = np.ones(shape, np.bool_)  # neither merged nor lost

    def round_timeline(self, number: int) -> RoundTimeline:
        """One round."""
        start_s, is_here_P = self._begin(number)
        num_wanted = math.ceil(Fraction(str(self._schedule.select)) * self._asks.num_parties)
        asked_S = _drawn(self._seed, number, is_here_P, _asked(self._schedule, num_wanted))
        ready_SA = self._ready(number, asked_S)
        num_edits_S = ready_SA.sum(axis=1)
        work = Workload(
            num_edits_S,
            self._sizes.upload_bytes(num_edits_S),
            self._sizes.download_bytes,
            self._sizes.num_messages,
        )
        answer_s_S = self._devices.seconds(number, asked_S, start_s, work)
        closing_s = _closing(self._schedule, num_wanted, answer_s_S)
        is_late_S = answer_s_S > closing_s
        waits = self._schedule.late == "wait"
        self._now_s = start_s + (max(closing_s, float(answer_s_S.max(initial=0.0))) if waits else closing_s)
        num_lost = self._resolve_conflicts(number, asked_S, is_late_S, ready_SA)
        num_waiting = int(self._is_open_PA[:, : self._asked_until(number)].sum())
        return RoundTimeline(
            start_s,
            self._now_s,
            int(is_here_P.sum()),
            num_wanted,
            asked_S,
            num_edits_S,
            answer_s_S,
            is_late_S,
            num_lost,
            num_waiting,
        )

    def _begin(self, number: int) -> tuple[float, Flags]:
        """When a round begins and who is there: where nobody is, it waits until the trace lets somebody come."""
        start_s = self._now_s
        is_here_P = self._devices.available(number, start_s)
        while not is_here_P.any():
            later_s = self._devices.next_arrival(start_s)
            if later_s is None:
                break
            start_s, is_here_P = later_s, self._devices.available(number, later_s)
        return start_s, is_here_P

    def _asked_until(self, number: int) -> int:
        """Columns of edits that are asked for up to a round."""
        return int(np.searchsorted(self._asks.round_A, number, side="right"))

    def _ready(self, number: int, asked_S: PartyPlaces) -> Flags:
        """Which edits [S, A'] the asked parties put into their answers, of the A' asked for up to now.

        All that wait, the oldest ones where there are too many for one answer. Of several for one fact it is the
        first alone: the others come after it, in later rounds.
        """
        ready_SA = self._unblocked(self._is_open_PA[asked_S, : self._asked_until(number)], asked_S)
        most = self._schedule.edits_per_answer
        return ready_SA if most is None else ready_SA & (ready_SA.cumsum(axis=1) <= most)

    def _unblocked(self, is_open_SA: Flags, asked_S: PartyPlaces) -> Flags:
        """Of edits that are neither merged nor lost, those for whose facts no other one stands before them."""
        if self._asks.before_PA is None:
            return is_open_SA
        before_SA = self._asks.before_PA[asked_S, : is_open_SA.shape[1]]
        waits_SA = np.take_along_axis(is_open_SA, np.maximum(before_SA, 0), axis=1) & (before_SA >= 0)
        return np.asarray(is_open_SA & ~waits_SA)

    def _resolve_conflicts(self, number: int, asked_S: PartyPlaces, is_late_S: Flags, ready_SA: Flags) -> int:
        """Write down which edits are merged or lost in a round; returns how many are lost."""
        until, late = self._asked_until(number), self._schedule.late
        is_merged_S = ~is_late_S | (late == "wait")
        ends_S = np.ones_like(is_late_S) if late != "carry" else is_merged_S
        self.merged_in_PA[asked_S, :until] += np.int32(number) * (ready_SA & is_merged_S[:, None])
        self._is_open_PA[asked_S, :until] &= ~(ready_SA & ends_S[:, None])
        num_lost = int(ready_SA[~is_merged_S & ends_S].sum())
        if self._schedule.absent == "drop":
            is_absent_P = np.ones(self._asks.num_parties, np.bool_)
            is_absent_P[asked_S] = False
            lost_PA = is_absent_P[:, None] & (self._asks.round_A[:until] == number) & self._is_open_PA[:, :until]
            self._is_open_PA[:, :until] &= ~lost_PA
            num_lost += int(lost_PA.sum())
        return num_lost


def _asked(schedule: ScheduleSpec, num_wanted: int) -> int:
    """How many parties are asked, if so many are there."""
    return math.ceil(Fraction(str(schedule.over_select)) * num_wanted)


def _drawn(seed: int, number: int, is_here_P: Flags, size: int) -> PartyPlaces:
    """Some of the parties that are there, in order; each party has a lot of its own, the lowest are drawn."""
    here = np.flatnonzero(is_here_P)
    if size >= len(here):
        return here
    lots_P = numpy_generator(seed, "select", number).random(len(is_here_P))
    return np.sort(here[np.argsort(lots_P[here], kind="stable")[:size]])


def _closing(schedule: ScheduleSpec, num_wanted: int, answer_s_S: NDArray[np.float64]) -> float:
    """Seconds from a round's beginning to the quorum or the deadline, whichever is first.

    With fewer parties than the quorum, the last answer of those that were asked stands for it: nobody else will come.
    """
    deadline_s = math.inf if schedule.deadline_s is None else schedule.deadline_s
    if not len(answer_s_S):
        return 0.0 if math.isinf(deadline_s) else deadline_s
    quorum = min(math.ceil(Fraction(str(schedule.quorum)) * num_wanted), len(answer_s_S))
    return min(float(np.partition(answer_s_S, quorum - 1)[quorum - 1]), deadline_s)
