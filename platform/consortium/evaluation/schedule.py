"""Which rounds are evaluated, and which of their requests are asked about."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from consortium.common.seeds import numpy_generator
from consortium.data.attackers import attackers
from consortium.data.request import Request
from consortium.data.stream import Stream
from consortium.scenario.schema import Scenario


def is_first_evaluation(scenario: Scenario, round_number: int) -> bool:
    """No round before is evaluated: what does not depend on edits is measured on the unedited model now, and once."""
    return round_number == min(scenario.evaluate.every, scenario.stream.rounds, *scenario.stream.prolonged)


def measures_the_model(scenario: Scenario, round_number: int, is_edited: bool) -> bool:
    """Whether what does not depend on edits is measured; of the unedited model that is once."""
    return is_edited or is_first_evaluation(scenario, round_number)


def is_evaluated(scenario: Scenario, round_number: int) -> bool:
    """Evaluation is due after every ``every`` rounds, and always after the last; it may have been prolonged."""
    stream = scenario.stream
    return round_number % scenario.evaluate.every == 0 or round_number in (stream.rounds, *stream.prolonged)


def sampled_requests(scenario: Scenario, stream: Stream, round_number: int, parties: range) -> list[Request]:
    """Those requests of some consecutive parties that are probed, in order of party and place; by the scenario alone.

    ``evaluate.sample`` is drawn from all parties' requests of the round, so parties have unequal parts of it. Those of
    parties that attack in some round are left out of what was drawn.
    """
    bad = attackers(scenario)
    wanted: dict[int, list[int]] = {}
    for party, index in stream.places(round_number, _sampled_numbers(scenario, stream, round_number, parties)):
        wanted.setdefault(party, []).append(index)
    chosen: list[Request] = []
    for party, indices in ((party, indices) for party, indices in wanted.items() if party not in bad):
        requests = stream.requests(round_number, party)
        chosen.extend(requests[index] for index in indices)
    return chosen


def num_sampled(scenario: Scenario, stream: Stream, round_number: int, parties: range) -> int:
    """Number of :func:`sampled_requests`, those of attackers included."""
    return len(_sampled_numbers(scenario, stream, round_number, parties))


def probed_rounds(scenario: Scenario, round_number: int) -> range:
    """Rounds whose edits are probed after a round (besides those for retention)."""
    return range(1 if scenario.evaluate.edits == "all" else round_number, round_number + 1)


def num_probed(scenario: Scenario, stream: Stream, round_number: int, parties: range) -> int:
    """Edits of some consecutive parties that are probed after a round."""
    return sum(num_sampled(scenario, stream, each, parties) for each in probed_rounds(scenario, round_number))


def _sampled_numbers(scenario: Scenario, stream: Stream, round_number: int, parties: range) -> NDArray[np.int64]:
    """The probed ones of the round's requests, counted through the parties in order (:meth:`Stream.places`)."""
    first = stream.num_requests(round_number, range(parties.start))
    end = first + stream.num_requests(round_number, parties)
    total, sample = stream.num_requests(round_number), scenario.evaluate.sample
    if sample is None or sample >= total:
        return np.arange(first, end)
    drawn = _draw(scenario.seed, round_number, total, sample)
    return drawn[np.searchsorted(drawn, first) : np.searchsorted(drawn, end)]


@lru_cache(maxsize=64)  # every party batch asks for the round's draw, and for those of all earlier rounds
def _draw(seed: int, round_number: int, total: int, size: int) -> NDArray[np.int64]:
    drawn = np.sort(numpy_generator(seed, "sample", round_number).choice(total, size=size, replace=False))
    drawn.setflags(write=False)
    return drawn


def superseded(stream: Stream, rounds: range) -> dict[int, int]:
    """Fact → last of ``rounds`` in which some party contradicted an earlier request for it.

    A contradiction that was removed, up to the last of them, is none.
    """
    return {fact: number for number in rounds for fact in stream.contradicted(number, rounds[-1])}
