"""All that is checked and read before a run starts.

What takes seconds to import is imported when it is needed, so that a scenario without texts is checked at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from consortium.data.edit import FactSet
from consortium.data.load import load_facts
from consortium.data.num_facts import facts_needed, facts_of_first_deal
from consortium.data.synthetic import SyntheticFacts
from consortium.evaluation.side_effects import open_side_effects
from consortium.loading.check import check_fit, check_scenario
from consortium.loading.checks.lengths import check_lengths
from consortium.loading.field_errors import SourcePlaces
from consortium.loading.load import LoadedScenario, load_scenario
from consortium.models.description import describe, describe_reading
from consortium.scenario.schema import AssociativeModelSpec, LanguageModelSpec, Scenario

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prepared:
    """A scenario that can run.

    Attributes:
        scenario: as resolved.
        facts: its facts.
        origin: the file it was read from.
    """

    scenario: Scenario
    facts: FactSet
    origin: str


def prepare(name_or_file: str, overrides: Sequence[str] = ()) -> Prepared:
    """Load and check a scenario, its facts, what it measures harm on and its model's measures.

    No weights are read, but where texts are so long that they must be tokenised a packed model is unpacked.

    Raises:
        ScenarioError: a mistake in the scenario.
        FactsError: a source of facts, a text or a file of questions that is missing or malformed, or texts that are
            longer than the model reads.
        InputError: a text for the key covariance that is empty or no text.
        ModelError: a model that does not exist or is of an unknown architecture.
    """
    loaded = load_scenario(name_or_file, overrides)
    scenario = check_scenario(loaded)
    facts = open_facts(scenario)
    _check_inputs(scenario, facts, loaded.places)
    return Prepared(scenario, facts, loaded.origin)


def check_again(scenario: Scenario, facts: FactSet, folder: Path) -> None:
    """Hold a run's scenario against facts, texts and a model that may be others than those that it began with.

    Args:
        scenario: the scenario as resolved.
        facts: its facts as they are now.
        folder: the run directory, for messages.

    Raises:
        ConsortiumError: as from :func:`prepare`.
    """
    places = SourcePlaces(str(folder), {}, {})
    check_scenario(LoadedScenario(scenario, str(folder), folder, places))
    _check_inputs(scenario, facts, places)


def _check_inputs(scenario: Scenario, facts: FactSet, places: SourcePlaces) -> None:
    """All that can be said of a scenario's facts, texts and model without reading weights."""
    side_effects = open_side_effects(scenario.evaluate, scenario.seed)
    if scenario.editor.covariance.source != "model":
        from consortium.editing.covariance_text import check_source

        check_source(scenario.editor.covariance)
    model = scenario.model
    check_fit(scenario, facts, describe(model), places)
    if isinstance(model, LanguageModelSpec):
        check_lengths(scenario, facts, side_effects, describe_reading(model), partial(_open_tokenizer, model))


def _open_tokenizer(model: LanguageModelSpec) -> PreTrainedTokenizerBase:
    from consortium.models.open import open_tokenizer  # transformers takes seconds to import

    return open_tokenizer(model)


def open_facts(scenario: Scenario) -> FactSet:
    """The facts of a resolved scenario; the associative model draws as many as its stream needs, or ``facts.limit``.

    Raises:
        FactsError: the source is missing or malformed.
    """
    if isinstance(scenario.model, AssociativeModelSpec):
        if scenario.facts.limit is not None:
            return SyntheticFacts(scenario.model, scenario.facts.limit, scenario.seed)
        return SyntheticFacts(scenario.model, facts_needed(scenario), scenario.seed, facts_of_first_deal(scenario))
    return load_facts(scenario.facts)
