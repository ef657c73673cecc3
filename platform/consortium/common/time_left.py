"""How long a run still takes, by what its own work took so far.

Wall time is put down to the kind of work that ended it, and what lies before a phase begins (merges, commits) to the
round. What is left of each kind takes as long for each unit as it did; rounds count half of what the next one does, so
that a pool of workers that grew is soon seen. Nothing is said

    before each kind of work that is left was measured, with the whole of a round (or a tenth of the only one),
    in an only round while merges take much of the time,
    and while the time at which the run would end still moves.
"""

from __future__ import annotations

from collections.abc import Mapping

_LEAST_SHARE = 0.1
_LEAST_ESTIMATES = 3
#: Estimates of this last part of the time so far must agree, within this share of what is left.
_WINDOW, _MOST_APART = 0.2, 0.4


class TimeLeft:
    """Follows a meter.

    Args:
        num_rounds: the run's last round.
        expected: kind of work → units in all rounds.
    """

    def __init__(self, num_rounds: int, expected: Mapping[str, int]) -> None:
        self._num_rounds = num_rounds
        self._expected = dict(expected)
        self._left = dict(expected)
        self._seconds, self._units = dict.fromkeys(expected, 0.0), dict.fromkeys(expected, 0.0)
        self._first = self._round = 0
        self._past_s = self._past_rounds = 0.0  # neither of any kind nor of the present round, and in how many rounds
        self._between_s = 0.0  # the same in the present round
        self._last_s = 0.0
        self._ends: list[tuple[float, float]] = []  # when it was estimated, and when the run would end

    def enter(self, round_number: int, now_s: float) -> None:
        """A phase of a round begins."""
        since_s, self._last_s = now_s - self._last_s, now_s
        if round_number < 1:
            return
        if not self._first:
            self._first = self._round = round_number  # what was before it is not done again
            return
        self._between_s += since_s
        if round_number > self._round:
            self._past_s, self._past_rounds = self._past_s / 2 + self._between_s, self._past_rounds / 2 + 1
            self._between_s, self._round = 0.0, round_number
            for kind in self._seconds:
                self._seconds[kind] /= 2
                self._units[kind] /= 2
        self._estimate()

    def advance(self, kind: str, units: int, now_s: float) -> None:
        """So many units of a kind are done."""
        since_s, self._last_s = now_s - self._last_s, now_s
        if kind in self._left:
            self._seconds[kind] += since_s
            self._units[kind] += units
            self._left[kind] = max(0, self._left[kind] - units)
            self._estimate()

    def skip(self, kind: str, units: int) -> None:
        """So many units of a kind turned out to be done already."""
        if kind in self._left:
            self._left[kind] = max(0, self._left[kind] - units)
            self._expected[kind] -= units

    def seconds(self, now_s: float) -> float | None:
        """Seconds left; None where nothing can be said that is likely to be true within a factor of two."""
        if len(self._ends) < _LEAST_ESTIMATES or not self._is_measured():
            return None
        at_s, end_s = self._ends[-1]
        recent = [each for each in self._ends if each[0] >= (1 - _WINDOW) * at_s]
        recent = recent if len(recent) >= _LEAST_ESTIMATES else self._ends[-_LEAST_ESTIMATES:]
        left_s, waited_s = end_s - at_s, now_s - at_s
        if any(abs(end_s - other_s) > _MOST_APART * left_s for _, other_s in recent) or waited_s > left_s / 2:
            return None
        return left_s - waited_s

    def _is_measured(self) -> bool:
        if any(left and not self._units[kind] for kind, left in self._left.items()):
            return False
        return self._past_rounds > 0 or (
            self._first == self._num_rounds
            and all(left <= (1 - _LEAST_SHARE) * self._expected[kind] for kind, left in self._left.items())
        )

    def _estimate(self) -> None:
        if self._is_measured():
            work_s = sum(left * self._seconds[kind] / self._units[kind] for kind, left in self._left.items() if left)
            rest_s = self._rest_s()
            if self._past_rounds or rest_s <= work_s / 2:
                self._ends.append((self._last_s, self._last_s + work_s + rest_s))
            else:  # one round tells little of how long its other merges take
                self._ends.clear()

    def _rest_s(self) -> float:
        """Seconds left for what is of no kind."""
        if self._past_rounds:
            each_s = self._past_s / self._past_rounds
            return max(0.0, each_s - self._between_s) + each_s * (self._num_rounds - self._round)
        shares = [1 - self._left[kind] / units for kind, units in self._expected.items() if units]
        done = min(shares, default=1.0)
        return self._between_s * (1 - done) / done
