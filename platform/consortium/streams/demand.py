"""How many facts a scenario needs, known before any fact is read."""

from __future__ import annotations

from collections.abc import Sequence

from consortium.scenario.schema import Scenario
from consortium.streams.plan import RoundCounts, plan


def facts_needed(scenario: Scenario) -> int:
    """The number of different facts that the scenario's stream hands out: exactly what :class:`Stream` draws.

    Raises:
        ScenarioError: overlap, conflict and repeat of a round add up to more than 1.
    """
    leader, follower = draws_per_party(plan(scenario.parties, scenario.stream))
    num_leaders = -(-scenario.parties.count // scenario.stream.partners)
    return leader * num_leaders + follower * (scenario.parties.count - num_leaders)


def draws_per_party(plans: Sequence[RoundCounts]) -> tuple[int, int]:
    """Fresh facts that a leader (the first of its partners) and a follower draw over all rounds."""
    return sum(counts.num_new for counts in plans), sum(counts.num_fresh_of_follower for counts in plans)
