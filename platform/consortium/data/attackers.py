"""Who attacks in which round, and what targeted attackers ask for; by the scenario and the run's seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from consortium.common.seeds import numpy_generator
from consortium.data.request import Request
from consortium.data.stream import Stream
from consortium.scenario.attacks import AttackSpec
from consortium.scenario.schema import Scenario


def parties_of(scenario: Scenario, attack: AttackSpec) -> tuple[int, ...]:
    """The parties of one entry: those listed, or its share of all, at least one.

    Shares are cut from one permutation, so two entries with the same share have the same parties, and a smaller share
    is part of a larger one.
    """
    if attack.share is None:
        return attack.parties
    count = scenario.parties.count
    return _order(scenario.seed, count)[: max(1, round(attack.share * count))]


@lru_cache(maxsize=8)
def _order(seed: int, count: int) -> tuple[int, ...]:
    return tuple(numpy_generator(seed, "attackers").permutation(count).tolist())


def attackers(scenario: Scenario) -> frozenset[int]:
    """All parties that attack in some round; what they ask for is not probed in any."""
    return frozenset(party for attack in scenario.attacks for party in parties_of(scenario, attack))


def attacks_of(scenario: Scenario, round_number: int, party: int) -> list[AttackSpec]:
    """What a party does to its messages in a round, one thing after the other."""
    return [
        attack for attack in scenario.attacks if _is_on(attack, round_number) and party in parties_of(scenario, attack)
    ]


def _is_on(attack: AttackSpec, round_number: int) -> bool:
    return attack.rounds is None or attack.rounds[0] <= round_number <= attack.rounds[1]


def really_asked(scenario: Scenario, stream: Stream, request: Request) -> Request:
    """What a request really asks for: a targeted attacker's, for a fact of its victim with another object."""
    if not scenario.attacks or all(
        attack.kind != "targeted" for attack in attacks_of(scenario, request.round, request.party)
    ):
        return request
    wanted = stream.requests(request.round, victim_of(scenario, request.round, request.party))
    if not wanted:
        return request
    theirs = wanted[request.index % len(wanted)]
    return replace(request, fact=theirs.fact, variant=theirs.variant + 1)


def victim_of(scenario: Scenario, round_number: int, party: int) -> int:
    """The honest party whose facts an attacker asks for: its first honest partner, else one that is drawn."""
    bad = attackers(scenario)
    size = scenario.stream.sharing_group_size
    sharing_group_size = range(party - party % size, min(party - party % size + size, scenario.parties.count))
    honest = _honest(sharing_group_size, bad) or _honest(range(scenario.parties.count), bad)
    if honest[0] in sharing_group_size:
        return honest[0]
    return honest[numpy_generator(scenario.seed, "victim", round_number, party).integers(len(honest))]


def _honest(parties: Sequence[int], bad: frozenset[int]) -> list[int]:
    return [party for party in parties if party not in bad]
