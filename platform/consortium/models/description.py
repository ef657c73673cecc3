"""Sizes of a scenario's model, known before weights are read; those of the bundled model without any library."""

from __future__ import annotations

from dataclasses import dataclass

from consortium.models.context import STATED, Reading
from consortium.scenario.schema import AssociativeModelSpec, LanguageModelSpec

BUNDLED_NAME = "smollm2-135m"


@dataclass(frozen=True)
class ModelDescription:
    """A model's sizes: number of blocks, K and V of the editable weights, width of the hidden states."""

    model_type: str
    num_layers: int
    key_width: int
    value_width: int
    hidden_width: int


#: As the bundled model's config says, so that a scenario is checked without unpacking it.
_BUNDLED = ModelDescription("llama", num_layers=30, key_width=1536, value_width=576, hidden_width=576)
_BUNDLED_READING = Reading(8192, STATED, num_heads=9, num_blocks=30, keeps_weights=True)


def describe(model: LanguageModelSpec | AssociativeModelSpec) -> ModelDescription:
    """Sizes of a scenario's model; no weights are read.

    Raises:
        ModelError: there is no such model, or its architecture is not known or not causal.
    """
    if isinstance(model, AssociativeModelSpec):
        return ModelDescription(
            "associative", model.num_layers, model.key_width, model.value_width, hidden_width=model.value_width
        )
    if model.name == BUNDLED_NAME:
        return _BUNDLED
    from consortium.models.open import describe_model  # transformers takes seconds to import

    return describe_model(model)


def describe_reading(spec: LanguageModelSpec) -> Reading:
    """How long a text a model reads, from its config alone.

    Raises:
        ModelError: there is no such model, or its architecture is not known.
    """
    if spec.name == BUNDLED_NAME:
        return _BUNDLED_READING
    from consortium.models.open import read_reading

    return read_reading(spec)
