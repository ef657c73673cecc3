"""Opening the backend that a scenario asks for: a model on a device, ready to be edited."""

from __future__ import annotations

from consortium.editing.associative import AssociativeBackend
from consortium.editing.backend import Backend
from consortium.editing.language import LanguageBackend
from consortium.facts.drawn import DrawnFacts
from consortium.facts.edit import FactSet
from consortium.models.open import open_model
from consortium.scenario.schema import AssociativeModelSpec, Scenario


def open_backend(scenario: Scenario, facts: FactSet) -> Backend:
    """Open the scenario's model.

    Raises:
        ModelError: it cannot be opened, or its device is not there.
    """
    if isinstance(scenario.model, AssociativeModelSpec):
        assert isinstance(facts, DrawnFacts), "the associative model is edited with drawn facts"
        return AssociativeBackend(scenario.model, scenario.editor, facts, scenario.seed)
    return LanguageBackend(open_model(scenario.model), scenario.editor, scenario.seed)
