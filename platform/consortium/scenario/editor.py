"""The schema of a scenario's section ``editor``: how edits become statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from consortium.scenario.spec import (
    HundredThousand,
    Positive,
    Spec,
    TenThousand,
    Thousand,
    kinds_of,
    one_of,
)

_METHOD = "the editor's name; its own settings are keys beside it"
#: Merge methods that need no sums of statistics.
_OF_UPDATES = ("task_arithmetic", "simple_average", "ties", "dare", "dare_ties")


class TargetSpec(Spec):
    """The optimisation of a target z (MEMIT, arXiv 2210.07229, section 4.2; settings as for GPT-J except the step)."""

    steps: HundredThousand = Field(25, description="maximum number of gradient steps")
    learning_rate: Annotated[float, Field(gt=0.0)] = Field(0.4, description="step size of Adam")
    stop_loss: Annotated[float, Field(ge=0.0)] = Field(0.05, description="loss below which an edit is finished")
    kl_weight: Annotated[float, Field(ge=0.0)] = Field(
        0.0625, description="weight of the KL term, which preserves the model's output for the bare subject"
    )
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(0.5, description="weight decay of the change")
    clamp: Annotated[float, Field(gt=0.0)] = Field(
        0.75, description="maximum length of the change, relative to the hidden state's length"
    )
    arithmetic: Literal["model", "bfloat16"] = Field(
        "model",
        description="number type of products with the backbone's weights: `model` is the model's own; "
        "`bfloat16` is faster, rounds targets, and works for llama, mistral, qwen2 and qwen3 only",
    )


class ContextsSpec(Spec):
    """Texts put before an edit's prompt, so that it holds in more than one context."""

    count: Thousand = Field(6, description="number of contexts; the first is the bare prompt")
    tokens: TenThousand = Field(10, description="length of the generated contexts, in tokens")


class CovarianceSpec(Spec):
    """The text on which C = λ·E[kkᵀ] is measured."""

    source: str = Field("model", description="`model` (text sampled from the model), a text file, or `hub:NAME`")
    split: str = Field("train", description="split of a `hub:` dataset")
    tokens: Positive | None = Field(None, description="number of tokens; null for ten times K, at least 2·K")


class EditorSpec(Spec):
    """How edits become statistics: what all editors have in common; each is a subclass with settings of its own.

    To add one: write its specification here, what it does otherwise than MEMIT in a file of
    :mod:`consortium.editing.editors`, which ``implementation`` names, and a test.
    """

    title: ClassVar[str]
    """Name in a report."""
    paper: ClassVar[str]
    """Paper and equation."""
    implementation: ClassVar[str] = "consortium.editing.editors.editor:Editor"
    """Module and class of its :class:`consortium.editing.editors.editor.Editor`, imported when it is used."""
    merges: ClassVar[tuple[str, ...] | None] = None
    """Merge methods that suit it; None for all."""
    why_not_others: ClassVar[str] = ""
    """Why no others do, in words."""
    uses_covariance: ClassVar[bool] = True
    """The key covariance is measured."""
    maps_keys: ClassVar[bool] = False
    """Parties need the key covariance's sums even where they do not solve."""
    tunes_weights: ClassVar[bool] = False
    """A party's update comes from fine-tuning the weights, with neither targets nor keys."""

    method: str = Field(description="the editor's name; its own settings are keys beside it")
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = Field(
        (5, 9),
        description="two numbers: the first and last critical layer and all between; otherwise exactly those listed",
    )
    residual_schedule: Literal["spread", "first_last"] = Field(
        "first_last",
        description="spread: the residual is spread over all layers; first_last: only the first and the last "
        "layer are edited",
    )
    covariance_weight: Annotated[float, Field(gt=0.0)] = Field(
        1500.0, description="λ, the weight of ordinary text relative to edits"
    )
    target: TargetSpec = Field(TargetSpec(), description="the optimisation of an edit's target")
    contexts: ContextsSpec = Field(ContextsSpec(), description="texts put before an edit's prompt")
    covariance: CovarianceSpec = Field(CovarianceSpec(), description="the key covariance of ordinary text")

    @property
    def critical_layers(self) -> tuple[int, ...]:
        """The critical layers in ascending order; a pair stands for the whole range."""
        if len(self.layers) == 2:
            return tuple(range(self.layers[0], self.layers[1] + 1))
        return self.layers

    @property
    def edited_layers(self) -> tuple[int, ...]:
        """The layers that edits change, in ascending order."""
        layers = self.critical_layers
        if self.residual_schedule == "first_last":
            return tuple(dict.fromkeys((layers[0], layers[-1])))
        return layers


class MemitSpec(EditorSpec):
    """The least-squares update for all edits together."""

    title: ClassVar[str] = "MEMIT"
    paper: ClassVar[str] = "Meng et al. 2023, MEMIT, arXiv 2210.07229, equation 14"

    method: Literal["memit"] = Field("memit", description=_METHOD)


class AlphaEditSpec(EditorSpec):
    """AlphaEdit: updates move nothing along the directions in which ordinary text has its keys (arXiv 2410.02355)."""

    title: ClassVar[str] = "AlphaEdit"
    paper: ClassVar[str] = "Fang et al. 2025, AlphaEdit, arXiv 2410.02355, equation 14"
    implementation: ClassVar[str] = "consortium.editing.editors.alphaedit:AlphaEdit"
    maps_keys: ClassVar[bool] = True

    method: Literal["alphaedit"] = Field(description=_METHOD)
    threshold: Annotated[float, Field(gt=0.0)] | None = Field(
        None,
        description="directions with eigenvalues of E[kkᵀ] below this are free (the paper's code: 0.02); "
        "null: share decides",
    )
    share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.7, description="share of the K directions that are free, those with the smallest eigenvalues"
    )
    l2: Annotated[float, Field(gt=0.0)] = Field(
        1.0, description="L₂, the weight of a small update, in units of a key's squared length (the paper's code: 10)"
    )


class EmmetSpec(EditorSpec):
    """EMMET: edits as equality constraints, softened (arXiv 2403.14236)."""

    title: ClassVar[str] = "EMMET"
    paper: ClassVar[str] = "Gupta et al. 2024, EMMET, arXiv 2403.14236, equation 10"
    implementation: ClassVar[str] = "consortium.editing.editors.emmet:Emmet"

    method: Literal["emmet"] = Field(description=_METHOD)
    alpha: Annotated[float, Field(ge=1e-6)] = Field(
        0.1, description="α, the softness of the constraints; towards 0 they hold exactly (the paper's code: 0.1)"
    )


class RomeSpec(EditorSpec):
    """ROME: one edit after another, in the last critical layer (arXiv 2202.05262)."""

    title: ClassVar[str] = "ROME"
    paper: ClassVar[str] = "Meng et al. 2022, ROME, arXiv 2202.05262, equation 2"
    implementation: ClassVar[str] = "consortium.editing.editors.rome:Rome"
    merges: ClassVar[tuple[str, ...] | None] = ("global", *_OF_UPDATES)
    why_not_others: ClassVar[str] = "edits made one after another are no function of sums over them"

    method: Literal["rome"] = Field(description=_METHOD)

    @property
    def edited_layers(self) -> tuple[int, ...]:
        """The one layer that edits change."""
        return self.critical_layers[-1:]


class FineTuningSpec(EditorSpec):
    """FT-L: fine-tuning of the edited layers with a bound on every entry's change (arXiv 2012.00363)."""

    title: ClassVar[str] = "FT-L"
    paper: ClassVar[str] = "Zhu et al. 2020, Modifying memories, arXiv 2012.00363, section 3"
    merges: ClassVar[tuple[str, ...] | None] = _OF_UPDATES
    why_not_others: ClassVar[str] = "fine-tuning has neither keys nor residuals to add up or to bring together"
    uses_covariance: ClassVar[bool] = False
    tunes_weights: ClassVar[bool] = True

    method: Literal["ft"] = Field(description=_METHOD)
    steps: HundredThousand = Field(25, description="maximum number of gradient steps")
    learning_rate: Annotated[float, Field(gt=0.0)] = Field(5e-4, description="step size of Adam")
    max_change: Annotated[float, Field(gt=0.0)] | None = Field(
        2e-3, description="ε, the largest change of an entry of the weights in a round; null for no bound"
    )
    stop_loss: Annotated[float, Field(ge=0.0)] = Field(
        0.01, description="mean loss of its edits below which a party is finished"
    )


#: All editors by name.
EDITORS: dict[str, type[EditorSpec]] = kinds_of(
    "method", [MemitSpec, AlphaEditSpec, EmmetSpec, RomeSpec, FineTuningSpec]
)

if TYPE_CHECKING:
    AnyEditor = EditorSpec
else:
    AnyEditor = one_of("method", EDITORS.values(), default="memit")
