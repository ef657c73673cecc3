"""Which features a scenario asks for; their modules are imported here and nowhere else in the spine.

A new feature gets a line here and a module ``hook`` in its package, with ``AT_PARTIES``, ``AT_COORDINATOR`` or both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from consortium.data.num_facts import facts_at_each_deal
from consortium.data.stream import Stream
from consortium.scenario.schema import ConflictsSpec, Scenario

if TYPE_CHECKING:
    from consortium.features.hooks import PartyData, PartyHook, RoundHook

#: Feature → whether a scenario asks for it. Hooks act in this order: what attackers made of messages is screened.
FEATURES: Mapping[str, Callable[[Scenario], bool]] = {
    "known_facts": lambda scenario: bool(scenario.arms_that_check),
    "conflicts": lambda scenario: scenario.resolves or scenario.conflicts != ConflictsSpec(),
    "attacks": lambda scenario: bool(scenario.attacks),
    "screening": lambda scenario: True,
    "unlearning": lambda scenario: scenario.unlearn.is_asked,
    "virtual_time": lambda scenario: scenario.has_virtual_time,
    "audit": lambda scenario: True,
}


def party_hooks(data: PartyData) -> dict[str, PartyHook]:
    """Feature → its hook with the parties' edits, of those that the scenario asks for."""
    return {name: kind(data) for name, kind in _asked_for(data.scenario, "AT_PARTIES")}


def round_hooks(scenario: Scenario, stream: Stream) -> list[RoundHook]:
    """The hooks at the coordinator of all features that the scenario asks for."""
    return [kind(scenario, stream) for _, kind in _asked_for(scenario, "AT_COORDINATOR")]


def _asked_for(scenario: Scenario, place: str) -> list[tuple[str, Any]]:
    modules = ((name, _module(name, "hook")) for name, is_asked_for in FEATURES.items() if is_asked_for(scenario))
    return [(name, getattr(module, place)) for name, module in modules if hasattr(module, place)]


@cache
def _module(feature: str, name: str) -> Any:
    return import_module(f"consortium.features.{feature}.{name}")


def open_stream(scenario: Scenario, relations: Sequence[str]) -> Stream:
    """What parties put into each round of a scenario: what they ask for in it, unless virtual time says otherwise.

    Args:
        scenario: the scenario as resolved.
        relations: the relation of every fact of the fact set, in order.

    Raises:
        ScenarioError: there are too few facts, or the trace of devices cannot be read.
    """
    num_facts = facts_at_each_deal(scenario, len(relations))
    if not FEATURES["virtual_time"](scenario):
        return Stream(scenario.seed, scenario.parties, scenario.stream, relations, scenario.unlearn, num_facts)
    stream: Stream = _module("virtual_time", "stream").attended_stream(scenario, relations, num_facts)
    return stream
