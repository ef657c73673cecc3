"""What is asked of the model about edits that are removed."""

from __future__ import annotations

from consortium.common.seeds import numpy_generator
from consortium.data.request import Request
from consortium.data.stream import Stream
from consortium.evaluation.schedule import is_evaluated
from consortium.scenario.schema import Scenario


def removed_requests(scenario: Scenario, stream: Stream, now: int, parties: range) -> list[tuple[bool, int, Request]]:
    """What is probed of edits that some parties remove: (whether they are, round in which they are, request).

    They are probed from that round on, and in the last evaluation before it. Of each round's, ``evaluate.sample`` are
    drawn from all parties'. Edits of facts that are still asked for, by whomever, are left out: the model is to know of
    those.
    """
    found = []
    for back_in in stream.removals.rounds():
        if back_in > now and now != _last_measure_before(scenario, back_in):
            continue
        for party, requests in _sampled(scenario, stream, back_in, parties).items():
            wanted = _facts_asked_for(stream, party, max(now, back_in))
            found += [(back_in <= now, back_in, request) for request in requests if request.fact not in wanted]
    return found


def _last_measure_before(scenario: Scenario, round_number: int) -> int | None:
    return next((number for number in range(round_number - 1, 0, -1) if is_evaluated(scenario, number)), None)


def _sampled(scenario: Scenario, stream: Stream, back_in: int, parties: range) -> dict[int, list[Request]]:
    """Party → those of the requests it removes in a round that are probed."""
    everyone = stream.removals.parties(back_in)
    places = [(party, number) for party in everyone for number in range(stream.removals.num_edits(back_in, [party]))]
    sample = scenario.evaluate.sample
    if sample is not None and sample < len(places):
        generator = numpy_generator(scenario.seed, "sample-retracted", back_in)
        places = [places[number] for number in sorted(generator.choice(len(places), size=sample, replace=False))]
    own = [party for party in everyone if party in parties]
    removed = {party: stream.removed(back_in, party) for party in own}
    return {party: [removed[party][number] for each, number in places if each == party] for party in own}


def _facts_asked_for(stream: Stream, party: int, now: int) -> set[int]:
    """Facts for which there is a request that still stands, among those that the party may have asked for, too."""
    return {
        request.fact
        for round_number in range(1, now + 1)
        for other in stream.sharing_with(party)
        for request in stream.requests(round_number, other)
        if stream.is_live(request, now)
    }
