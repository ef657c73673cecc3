"""Changing the scenario of a run that was begun: only what leaves its committed rounds as they are.

A run can be prolonged. The facts of its further rounds are dealt after those of the rounds that it had, which
``stream.prolonged`` says: a run of the changed scenario from its beginning ends with the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consortium.common.errors import ScenarioError
from consortium.data.edit import FactSet
from consortium.features.registry import open_stream
from consortium.loading.check import check_fit, check_scenario
from consortium.loading.field_errors import SourcePlaces, dotted, refuse
from consortium.loading.load import LoadedScenario
from consortium.loading.overrides import Override, apply_overrides, parse_override
from consortium.loading.prepare import open_facts
from consortium.loading.validate import validate
from consortium.models.description import describe
from consortium.scenario.schema import Scenario

ROUNDS = "stream.rounds"
#: Keys that can be changed, with all keys below them. None but the first changes a number.
ALLOWED = (
    ROUNDS,
    "description",
    "evaluate.max_not_finite",
    "cluster.workers",
    "cluster.timeout_s",
    "cluster.target_cache",
    "cluster.on_failure",
    "cluster.autoscale",
    "cluster.prices",
)


def changed(scenario: Scenario, overrides: Sequence[str], committed_round: int | None, folder: Path) -> Scenario:
    """A run's scenario with ``--set`` arguments applied.

    Args:
        scenario: the scenario as resolved.
        overrides: ``key.path=value`` each.
        committed_round: the last round of the run that counts.
        folder: the run directory, for messages.

    Raises:
        ScenarioError: a key that cannot be changed, fewer rounds than there were, or a mistake in the new scenario.
    """
    parsed = [parse_override(text) for text in overrides]
    for each in parsed:
        _refuse_others(each)
    data = apply_overrides(scenario.model_dump(mode="json"), parsed)
    new = _validated(data, parsed, folder)
    if new.stream.rounds == scenario.stream.rounds:
        return new
    if new.stream.rounds < scenario.stream.rounds:
        raise ScenarioError(
            f"--set {ROUNDS}={new.stream.rounds}: the run has {scenario.stream.rounds} rounds",
            f"more than {scenario.stream.rounds}: rounds are added, never taken away",
            "run the scenario again into another folder to have fewer",
        )
    new = _prolonged(new, scenario, committed_round)
    places = SourcePlaces(str(folder), {}, {each.path: each.text for each in parsed})
    check_scenario(LoadedScenario(new, str(folder), folder, places))
    facts = open_facts(new)
    check_fit(new, facts, describe(new.model), places)
    _refuse_other_requests(scenario, new, facts, committed_round or 0)
    return new


def _refuse_others(override: Override) -> None:
    key = dotted(override.path)
    if not any(key == each or key.startswith(f"{each}.") for each in ALLOWED):
        raise ScenarioError(
            f"--set {override.text}: {key} cannot be changed in a run that was begun",
            "one of " + ", ".join(ALLOWED),
            "run the changed scenario into another folder",
        )


def _validated(data: dict[str, Any], parsed: Sequence[Override], folder: Path) -> Scenario:
    scenario, field_errors = validate(data)
    refuse(field_errors, SourcePlaces(str(folder), {}, {each.path: each.text for each in parsed}))
    assert scenario is not None, "no mistake was found"
    return scenario


def _prolonged(new: Scenario, old: Scenario, committed_round: int | None) -> Scenario:
    parties, stream = new.parties, new.stream
    if parties.edits is not None:
        parties = parties.model_copy(update={"edits": parties.edits_per_round * stream.rounds})
    if committed_round is not None:  # before the first commit nothing was dealt yet
        stream = stream.model_copy(update={"prolonged": (*stream.prolonged, old.stream.rounds)})
    return new.model_copy(update={"parties": parties, "stream": stream})


def _refuse_other_requests(old: Scenario, new: Scenario, facts: FactSet, committed_round: int) -> None:
    """Whatever else may depend on the number of rounds, committed rounds are never made to be about other edits."""
    before = open_stream(old, open_facts(old).relations())
    after = open_stream(new, facts.relations())
    for number in range(1, committed_round + 1):
        for party in range(old.parties.count):
            if before.requests(number, party) != after.requests(number, party):
                raise ScenarioError(
                    f"--set {ROUNDS}={new.stream.rounds}: round {number} would have other edits, and it is committed",
                    "a scenario whose first rounds are the same however many there are",
                    "run the scenario with more rounds into another folder",
                )
