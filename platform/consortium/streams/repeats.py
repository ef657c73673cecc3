"""How often a party asked for an edit before."""

from __future__ import annotations

from consortium.streams.request import Request
from consortium.streams.stream import Stream


def times_asked(stream: Stream, request: Request) -> int:
    """Earlier rounds in which the same party asked for the same fact with the same target."""
    if request.kind != "repeat":
        return 0  # every other kind is new to its party, by definition
    wanted = request.fact, request.variant
    asked = (stream.requests(number, request.party) for number in range(1, request.round))
    return sum(any((each.fact, each.variant) == wanted for each in requests) for requests in asked)
