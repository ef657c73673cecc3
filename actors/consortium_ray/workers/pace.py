"""How long work takes, and from that whether an idle worker should do what waits for another, or has it in hand.

A worker that holds what a call wants does it soonest, as long as it gets to it soon. Plain arithmetic on seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from statistics import median

#: Work that is known by so many of its latest durations.
_MOST_KEPT = 64
#: Durations without which nothing is known of a kind of work.
_FEWEST = 3
#: How much sooner a worker must be done than the one that waits, to take over from it: estimates are rough.
_WORTH = 1.5
#: And at least so much sooner, in seconds.
_WORTH_S = 1.0
#: A call in hand is given to a second worker when it took so many times as long as others of its kind …
_OVERLONG = 4.0
#: … and longer than this, in seconds.
OVERLONG_S = 5.0


class Pace:
    """Typical seconds of each kind of work, as seen lately."""

    def __init__(self) -> None:
        self._seconds: dict[Hashable, deque[float]] = {}

    def saw(self, kind: Hashable, seconds: float) -> None:
        """Work of a kind took so long."""
        self._seconds.setdefault(kind, deque(maxlen=_MOST_KEPT)).append(seconds)

    def typical(self, kind: Hashable) -> float | None:
        """The median of what was seen of a kind; None when that was too little."""
        seen = self._seconds.get(kind, ())
        return median(seen) if len(seen) >= _FEWEST else None


def takes_over(in_hand_s: float, num_waiting: int, typical_s: float, make_s: float) -> bool:
    """Whether a call that waits for a busy worker should go to an idle one that has to make first what the call wants.

    Args:
        in_hand_s: how long the busy worker has had its present call.
        num_waiting: calls that wait for it.
        typical_s: what such a call takes.
        make_s: what it takes to make what the call wants.
    """
    # What took long already is likely to take as long again.
    left_s = typical_s - in_hand_s if in_hand_s < typical_s else in_hand_s
    return left_s + num_waiting * typical_s > max(_WORTH * (make_s + typical_s), make_s + typical_s + _WORTH_S)


def is_overlong(in_hand_s: float, typical_s: float | None) -> bool:
    """Whether a call takes so long that a second worker should try it as well."""
    return typical_s is not None and in_hand_s > max(OVERLONG_S, _OVERLONG * typical_s)
