"""The schema of a scenario's section ``editor``: how edits become statistics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from consortium.scenario.spec import HundredThousand, Positive, Spec, TenThousand, Thousand


class TargetSpec(Spec):
    """The optimisation of a target z (MEMIT, arXiv 2210.07229, section 4.2; settings as for GPT-J but the step)."""

    steps: HundredThousand = Field(25, description="gradient steps at most")
    learning_rate: Annotated[float, Field(gt=0.0)] = Field(0.4, description="step size of Adam")
    stop_loss: Annotated[float, Field(ge=0.0)] = Field(0.05, description="an edit is finished when its loss is below")
    kl_weight: Annotated[float, Field(ge=0.0)] = Field(
        0.0625, description="weight of staying close to what the model says of the bare subject"
    )
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(0.5, description="weight of a small change")
    clamp: Annotated[float, Field(gt=0.0)] = Field(
        0.75, description="longest allowed change, relative to the hidden state's length"
    )
    arithmetic: Literal["model", "bfloat16"] = Field(
        "model",
        description="type of products with the backbone's weights: `model` is the model's own; `bfloat16` is faster, "
        "and rounds targets; Llama's kin only (llama, mistral, qwen2, qwen3)",
    )


class ContextsSpec(Spec):
    """Texts put before an edit's prompt, so that it holds in more than one context."""

    count: Thousand = Field(6, description="contexts in all; the first is the bare prompt")
    tokens: TenThousand = Field(10, description="length of the generated ones, in tokens")


class CovarianceSpec(Spec):
    """The text from which C = λ·E[kkᵀ] is measured."""

    source: str = Field("model", description="`model` (text sampled from it), a text file, or `hub:NAME`")
    split: str = Field("train", description="split of a `hub:` dataset")
    tokens: Positive | None = Field(None, description="number of tokens; null for ten times K, at least 2·K")


class AlphaEditSpec(Spec):
    """AlphaEdit: updates move nothing along the directions in which ordinary text has its keys (arXiv 2410.02355)."""

    threshold: Annotated[float, Field(gt=0.0)] | None = Field(
        None,
        description="directions are free in which E[kkᵀ] has eigenvalues below (the paper's code: 0.02); null goes by "
        "share",
    )
    share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.7, description="share of the K directions that are free, those of ordinary text's least eigenvalues"
    )
    l2: Annotated[float, Field(gt=0.0)] = Field(
        1.0, description="L₂, the weight of a small update, in units of a key's squared length (the paper's code: 10)"
    )


class EmmetSpec(Spec):
    """EMMET: edits as equality constraints, softened (arXiv 2403.14236)."""

    alpha: Annotated[float, Field(ge=1e-6)] = Field(
        0.1, description="α, the softness of the constraints; towards 0 they hold exactly (the paper's code: 0.1)"
    )


class FineTuningSpec(Spec):
    """FT-L: fine-tuning of the edited layers with a bound on every entry's change (arXiv 2012.00363)."""

    steps: HundredThousand = Field(25, description="gradient steps at most")
    learning_rate: Annotated[float, Field(gt=0.0)] = Field(5e-4, description="step size of Adam")
    max_change: Annotated[float, Field(gt=0.0)] | None = Field(
        2e-3, description="ε, the largest change of an entry of the weights in a round; null for no bound"
    )
    stop_loss: Annotated[float, Field(ge=0.0)] = Field(
        0.01, description="a party is finished when the mean loss of its edits is below"
    )


class EditorSpec(Spec):
    """How edits become statistics."""

    method: str = Field("memit", description="the editor's name; the section of that name, if there is one, is its own")
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = Field(
        (5, 9), description="two numbers: first and last critical layer and all between; else exactly those listed"
    )
    residual_schedule: Literal["spread", "first_last"] = Field(
        "first_last",
        description="spread: the residual is shared over all layers; first_last: first and last layer only",
    )
    covariance_weight: Annotated[float, Field(gt=0.0)] = Field(
        1500.0, description="λ, the weight of ordinary text against edits"
    )
    alphaedit: AlphaEditSpec = Field(AlphaEditSpec(), description="read by the editor alphaedit")
    emmet: EmmetSpec = Field(EmmetSpec(), description="read by the editor emmet")
    ft: FineTuningSpec = Field(FineTuningSpec(), description="read by the editor ft")
    target: TargetSpec = Field(TargetSpec(), description="the optimisation of an edit's target")
    contexts: ContextsSpec = Field(ContextsSpec(), description="texts put before an edit's prompt")
    covariance: CovarianceSpec = Field(CovarianceSpec(), description="how keys are distributed in ordinary text")

    @property
    def critical_layers(self) -> tuple[int, ...]:
        """The critical layers in ascending order; a pair stands for the whole range."""
        if len(self.layers) == 2:
            return tuple(range(self.layers[0], self.layers[1] + 1))
        return self.layers

    @property
    def edited_layers(self) -> tuple[int, ...]:
        """The layers that edits change, in ascending order; of rome, which edits one, the last critical layer."""
        layers = self.critical_layers
        if self.method == "rome":
            return layers[-1:]
        if self.residual_schedule == "first_last":
            return tuple(dict.fromkeys((layers[0], layers[-1])))
        return layers
