"""How many facts a scenario needs, known before any fact is read."""

from __future__ import annotations

from collections.abc import Sequence

from consortium.data.plan import RoundCounts, plan
from consortium.scenario.schema import AssociativeModelSpec, Scenario


def facts_needed(scenario: Scenario) -> int:
    """The number of different facts that the scenario's stream hands out: exactly what :class:`Stream` draws.

    Raises:
        ScenarioError: overlap, conflict and repeat of a round add up to more than 1.
    """
    leader, follower = draws_per_party(plan(scenario.parties, scenario.stream))
    num_leaders = -(-scenario.parties.count // scenario.stream.sharing_group_size)
    return leader * num_leaders + follower * (scenario.parties.count - num_leaders)


def facts_at_each_deal(scenario: Scenario, num_facts: int) -> list[int]:
    """How many facts there were when a run's rounds were dealt, and each time that it was prolonged.

    A source has all its facts from the start. The associative model draws as many as are needed, so there were fewer.
    """
    stream = scenario.stream
    if not isinstance(scenario.model, AssociativeModelSpec) or scenario.facts.limit is not None:
        return [num_facts] * (len(stream.prolonged) + 1)
    return [*(facts_needed(_until(scenario, end)) for end in stream.prolonged), num_facts]


def facts_of_first_deal(scenario: Scenario) -> int:
    """The number of different facts that the rounds hand out which a run had before it was prolonged."""
    return facts_needed(_until(scenario, [*scenario.stream.prolonged, scenario.stream.rounds][0]))


def _until(scenario: Scenario, rounds: int) -> Scenario:
    stream = scenario.stream.model_copy(update={"rounds": rounds, "prolonged": ()})
    return scenario.model_copy(update={"stream": stream})


def draws_per_party(plans: Sequence[RoundCounts]) -> tuple[int, int]:
    """Fresh facts that a leader (the first of its partners) and a follower draw over all rounds."""
    return sum(counts.num_new for counts in plans), sum(counts.num_fresh_of_follower for counts in plans)
