"""A batch: one call for each party batch, and what becomes of the answers, whatever order they come in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile

from consortium_ray.messages import Call, Reply

#: How far answers may run ahead of the first one that is missing; bounds what is held for adding in order.
LOOK_AHEAD = 32


class CallBatch:
    """Calls of one phase, numbered by party batch (or chunk) from 0.

    Args:
        phase: name of the phase.
        calls: the calls, in order.
        take: called with (number, answer) strictly in the order of numbers.
        arms: arms that the batch is for.
        layer: layer it concerns, if one.
        by_party_batch: whether the numbers are those of party batches.
        can_wait: whether other work comes first: nothing of the round depends on this.
        comes_first: whether this comes before other work, since it makes room for what that gives.
        look_ahead: how far answers may run ahead of the first one that is missing.
        resolution: how many of the first answers are used up, so that nothing is kept of them; None for those taken.
    """

    def __init__(  # noqa: PLR0913  (all that a batch is)
        self,
        phase: str,
        calls: Sequence[Call],
        take: Callable[[int, Reply], None],
        arms: Sequence[str] = (),
        layer: int | None = None,
        *,
        by_party_batch: bool = True,
        can_wait: bool = False,
        comes_first: bool = False,
        look_ahead: int = LOOK_AHEAD,
        resolution: Callable[[], int] | None = None,
    ) -> None:
        self.phase = phase
        self.arms = list(arms)
        self.layer = layer
        self.by_party_batch = by_party_batch
        self.can_wait = can_wait
        self.comes_first = comes_first
        self._take = take
        self._look_ahead = look_ahead
        self._resolution = resolution
        self._waiting = dict(enumerate(calls))
        self._number_of = {call.key: number for number, call in enumerate(calls)}
        self._early: dict[int, Reply] = {}
        self._next = 0

    @property
    def is_done(self) -> bool:
        """All answers were taken."""
        return self._next == len(self._number_of)

    @property
    def waiting(self) -> Iterable[Call]:
        """Calls that were not handed out yet, in order."""
        return self._waiting.values()

    @property
    def num_left(self) -> int:
        """Calls whose answer is still to be taken."""
        return len(self._number_of) - self._next

    def has(self, call: Call) -> bool:
        """Whether a call belongs here."""
        return call.key in self._number_of

    def choose(self, accept: Callable[[Call], bool]) -> Call | None:
        """Hand out the first waiting call that is acceptable and not too far ahead."""
        number = self._acceptable(accept)
        return None if number is None else self._waiting.pop(number)

    def has_for(self, accept: Callable[[Call], bool]) -> bool:
        """Whether there is such a call."""
        return self._acceptable(accept) is not None

    def _acceptable(self, accept: Callable[[Call], bool]) -> int | None:
        first = self._next if self._resolution is None else min(self._next, self._resolution())
        within = takewhile(lambda number: number < first + self._look_ahead, self._waiting)
        return next((number for number in within if accept(self._waiting[number])), None)

    def give_back(self, call: Call) -> None:
        """A call's worker was lost: the call waits again, in its old place."""
        self._waiting[self._number_of[call.key]] = call
        self._waiting = dict(sorted(self._waiting.items()))

    def has_answer(self, call: Call) -> bool:
        """Whether a call was answered."""
        number = self._number_of[call.key]
        return number < self._next or number in self._early

    def receive(self, call: Call, answer: Reply) -> bool:
        """Keep an answer and take all whose turn has come; False for a second answer, which changes nothing."""
        if self.has_answer(call):
            return False
        number = self._number_of[call.key]
        self._early[number] = answer
        self._waiting.pop(number, None)
        while self._next in self._early:
            self._take(self._next, self._early.pop(self._next))
            self._next += 1
        if self.is_done:
            # Who takes the answers often holds the batch. Both would stay, with all that was made of the answers, until
            # the garbage collector comes by, which may be many rounds later.
            self._take, self._resolution = _not_expected, None
        return True


def _not_expected(number: int, answer: Reply) -> None:
    raise AssertionError(f"answer {number} after the last")
