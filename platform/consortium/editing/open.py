"""Opening the backend that a scenario asks for: a model on a device, ready to be edited."""

from __future__ import annotations

from consortium.common.errors import ScenarioError
from consortium.data.edit import FactSet
from consortium.data.synthetic import SyntheticFacts
from consortium.editing.associative import AssociativeBackend
from consortium.editing.backend import Backend
from consortium.editing.language import LanguageBackend
from consortium.models.language import LanguageModel
from consortium.models.llama.upper_layers import FAMILY, is_llama_like
from consortium.models.open import open_model
from consortium.scenario.editor import TargetSpec
from consortium.scenario.schema import AssociativeModelSpec, Scenario


def open_backend(scenario: Scenario, facts: FactSet) -> Backend:
    """Open the scenario's model.

    Raises:
        ModelError: it cannot be opened, or its device is not there.
        ScenarioError: the editor asks for an arithmetic that the model's backbone does not have.
    """
    if isinstance(scenario.model, AssociativeModelSpec):
        assert isinstance(facts, SyntheticFacts), "the associative model is edited with drawn facts"
        return AssociativeBackend(scenario.model, scenario.editor, facts, scenario.seed)
    model = open_model(scenario.model)
    _check_arithmetic(model, scenario.editor.target)
    return LanguageBackend(model, scenario.editor, scenario.seed)


def _check_arithmetic(model: LanguageModel, target: TargetSpec) -> None:
    if target.arithmetic != "model" and not is_llama_like(model):
        raise ScenarioError(
            f"editor.target.arithmetic: {target.arithmetic} for a model of type {model.model.config.model_type}",
            f"`model`, or a model of one of the types {', '.join(FAMILY)}, whose backbone is written out",
            "remove editor.target.arithmetic, or set model.dtype to bfloat16",
        )
