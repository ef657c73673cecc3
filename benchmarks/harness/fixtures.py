"""What benchmarks of one command share, made when it is first needed: the model, its contexts, edits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from consortium.common.errors import InputError
from consortium.data.builtin import builtin_edits
from consortium.data.edit import Edit
from consortium.editing.contexts import generate_contexts
from consortium.models.device import find_device
from consortium.models.language import LanguageModel
from consortium.models.open import open_model
from consortium.scenario.editor import TargetSpec
from consortium.scenario.schema import LanguageModelSpec

from benchmarks.harness.case import Product
from benchmarks.harness.measure import Tell
from benchmarks.harness.options import Options
from benchmarks.harness.shapes import random_model

#: Settings of targets: the defaults.
TARGETS = TargetSpec()
#: Tokens of a generated context, and the seed that contexts are sampled with.
_CONTEXT_TOKENS, _SEED = 10, 0
#: As many layers are edited at most: the targets' own and those below it.
_NUM_LAYERS = 5
_LAYER = 9


@dataclass(frozen=True)
class Fixtures:
    """The things that benchmarks work on.

    Attributes:
        options: the command's settings.
        tell: says what is being done.
    """

    options: Options
    tell: Tell

    @property
    def device(self) -> torch.device:
        """The device that is measured."""
        return find_device(self.options.device)

    @cached_property
    def model(self) -> LanguageModel:
        """The model, opened or built."""
        options = self.options
        self.tell(f"opening {self.model_name}")
        if options.random_shape is not None:
            return random_model(options.random_shape, self.device, getattr(torch, options.dtype))
        spec = LanguageModelSpec(name=options.model, device=options.device, dtype=cast(Any, options.dtype))
        return open_model(spec)

    @property
    def model_name(self) -> str:
        """What the records call the model; a folder goes by its own name, not by its place."""
        if self.options.random_shape is not None:
            return f"{self.options.random_shape} (random weights)"
        return self.options.model.rstrip("/").rsplit("/", 1)[-1]

    @cached_property
    def layer(self) -> int:
        """The layer at which targets are optimised.

        Raises:
            InputError: the model has no such layer, or none above it.
        """
        last = self.model.num_layers - 2
        layer = min(_LAYER, last) if self.options.layer is None else self.options.layer
        if not 0 <= layer <= last:
            raise InputError(
                f"--layer {layer} of {self.model_name}, which has {self.model.num_layers} layers",
                f"a layer from 0 to {last}: what is changed after the last one is read by no later token",
                "name another layer, or leave --layer out",
            )
        return layer

    @property
    def layers(self) -> tuple[int, ...]:
        """The edited layers: five, or as many as there are up to ``layer``."""
        return tuple(range(max(0, self.layer - _NUM_LAYERS + 1), self.layer + 1))

    @cached_property
    def contexts(self) -> tuple[str, ...]:
        """Contexts written by the model."""
        self.tell("writing contexts")
        return generate_contexts(self.model, self.options.contexts, _CONTEXT_TOKENS, _SEED)

    def edits(self, count: int) -> tuple[Edit, ...]:
        """The first so many built-in edits.

        Raises:
            InputError: there are not so many.
        """
        everything = builtin_edits()
        if count > len(everything):
            raise InputError(
                f"{count} edits", f"at most {len(everything)}, as many as there are built-in facts", "lower --sizes"
            )
        return everything[:count]

    @property
    def target_spec(self) -> TargetSpec:
        """Settings of targets, in the arithmetic that is measured."""
        return TARGETS.model_copy(update={"arithmetic": self.options.arithmetic})

    @property
    def parameters(self) -> dict[str, Any]:
        """What all benchmarks on a model say in their records."""
        return {
            "model": self.model_name,
            "dtype": self.options.dtype,
            "arithmetic": self.options.arithmetic,
            "layer": self.layer,
            "contexts": self.options.contexts,
        }

    def mlp_product(self, rows: int) -> Product:
        """The product that most of a model's work is: hidden states of so many tokens into the MLP."""
        model = self.model
        width = model.key_width(self.layer)
        return Product(max(1, min(rows, _MOST_ROWS)), model.hidden_width, width, model.dtype, model.device)


#: Rows of a typical product at most: tokens that run through a model together.
_MOST_ROWS = 2048
