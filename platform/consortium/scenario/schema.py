"""The scenario's types: what a scenario file may say, with units, bounds and defaults.

These frozen types are the schema (``consortium schema`` prints them as JSON Schema). YAML exists only
at the edge, in :mod:`consortium.scenario.load`; everything else sees these types.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator


class Spec(BaseModel):
    """Base of all parts of a scenario: frozen, strict about types, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


class LanguageModelSpec(Spec):
    """A causal language model opened with transformers."""

    name: str = Field("smollm2-135m", description="`smollm2-135m` (bundled), a local folder, or a hub id")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


class AssociativeModelSpec(Spec):
    """Linear associative memories with drawn keys and values: no language, the same statistics and merges."""

    name: Literal["associative"]
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    dtype: Literal["float32"] = "float32"
    num_layers: Positive = Field(2, description="editable layers")
    key_width: Positive = Field(256, description="K, the width of a key")
    value_width: Positive = Field(128, description="V, the width of a value")
    num_objects: Annotated[int, Field(ge=2)] = Field(64, description="different answers there are")
    num_relations: Positive = Field(8, description="relations that facts belong to")
    paraphrase_noise: Annotated[float, Field(ge=0.0)] = Field(
        0.3, description="length of the noise in a paraphrase's key, relative to the key's"
    )


def _model_kind(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "associative" if name == "associative" else "language"


ModelSpec = Annotated[
    Annotated[LanguageModelSpec, Tag("language")] | Annotated[AssociativeModelSpec, Tag("associative")],
    Discriminator(_model_kind),
]


class FactsSpec(Spec):
    """Where edits come from."""

    source: str = Field(
        "auto",
        description="`builtin`, a path to a file, `hub:NAME` for a dataset opened with `datasets`, "
        "or `drawn` for the associative model; auto takes `builtin` or `drawn` by the model",
    )
    format: Literal["auto", "counterfact", "zsre", "jsonl"] = Field(
        "auto", description="shape of the records; auto looks at the first one"
    )
    split: str = Field("train", description="split of a `hub:` dataset")
    limit: Positive | None = Field(None, description="use only the first so many facts; null for all")


class PartitionSpec(Spec):
    """How facts are dealt to parties."""

    kind: Literal["iid", "dirichlet"] = "iid"
    by: Literal["relation"] = "relation"
    alpha: Annotated[float, Field(gt=0.0)] = Field(
        0.5, description="concentration of the Dirichlet draw; small: few relations per party"
    )


class PartiesSpec(Spec):
    """Who asks for edits."""

    count: Positive = Field(4, description="number of parties")
    edits_per_round: Positive = Field(4, description="edits that each party asks for in a round")
    partition: PartitionSpec = PartitionSpec()


class ConflictSpec(Spec):
    """Shares of a party's edits that contradict others."""

    party: Share = Field(0.0, description="share that contradicts another party in the same round")
    round: Share = Field(0.0, description="share that contradicts an edit of an earlier round")


class PhaseSpec(Spec):
    """Other settings for some rounds."""

    rounds: tuple[Positive, Positive] = Field(description="first and last round of the phase, both included")
    edits_per_round: Positive | None = None
    overlap: Share | None = None
    conflict: Share | ConflictSpec | None = None
    repeat: Share | None = None


class StreamSpec(Spec):
    """What is asked for in which round."""

    rounds: Positive = Field(1, description="number of rounds")
    overlap: Share = Field(0.0, description="share of a party's edits that another party asks for too")
    conflict: Share | ConflictSpec = Field(
        0.0,
        description="share of a party's edits that contradicts another party or an earlier round; a number is "
        "split evenly between the two (in round 1 all of it is between parties)",
    )
    repeat: Share = Field(0.0, description="share of a party's edits that repeats one of its earlier rounds")
    phases: tuple[PhaseSpec, ...] = ()


class TargetSpec(Spec):
    """The optimisation of a target z (MEMIT, arXiv 2210.07229, section 4.2 and its released settings)."""

    steps: Positive = Field(25, description="gradient steps at most")
    learning_rate: Annotated[float, Field(gt=0.0)] = 0.5
    stop_loss: Annotated[float, Field(ge=0.0)] = Field(0.05, description="an edit is finished when its loss is below")
    kl_weight: Annotated[float, Field(ge=0.0)] = 0.0625
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.5
    clamp: Annotated[float, Field(gt=0.0)] = Field(
        0.75, description="longest allowed change, relative to the hidden state's length"
    )


class ContextsSpec(Spec):
    """Texts put before an edit's prompt, so that it holds in more than one context."""

    count: Positive = Field(6, description="contexts in all; the first is the bare prompt")
    tokens: Positive = Field(10, description="length of the generated ones, in tokens")


class PriorSpec(Spec):
    """The text from which C = λ·E[kkᵀ] is measured."""

    source: str = Field("model", description="`model` (text sampled from it), a text file, or `hub:NAME`")
    split: str = Field("train", description="split of a `hub:` dataset")
    tokens: Positive | None = Field(None, description="number of tokens; null for ten times K, at least 2·K")


class EditorSpec(Spec):
    """How edits become statistics."""

    method: str = "memit"
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = Field(
        (5, 9), description="two numbers: first and last critical layer and all between; else exactly those listed"
    )
    sharing: Literal["memit", "boundary"] = Field(
        "memit", description="memit: the residual is shared over all layers; boundary: first and last layer only"
    )
    prior_weight: Annotated[float, Field(gt=0.0)] = Field(1500.0, description="λ")
    target: TargetSpec = TargetSpec()
    contexts: ContextsSpec = ContextsSpec()
    prior: PriorSpec = PriorSpec()

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
        if self.sharing == "boundary":
            return tuple(dict.fromkeys((layers[0], layers[-1])))
        return layers


class MethodSpec(BaseModel):
    """A merge method by name, with its parameters beside it; the method's own type checks those."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    name: str
    label: str | None = Field(None, description="name of the lane; needed when a method is used twice")

    @property
    def lane(self) -> str:
        """Name of the lane that runs this method."""
        return self.label or self.name

    @property
    def parameters(self) -> dict[str, Any]:
        """The method's own parameters, as written."""
        return dict(self.model_extra or {})


def _name_stands_for_method(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


NamedMethod = Annotated[MethodSpec, BeforeValidator(_name_stands_for_method, json_schema_input_type=str | MethodSpec)]


class MergeSpec(Spec):
    """How statistics become one update; each method is a lane of its own."""

    methods: Annotated[tuple[NamedMethod, ...], Field(min_length=1)] = (
        MethodSpec(name="global"),
        MethodSpec(name="collabedit"),
    )
    exchange: Literal["layer", "round"] = Field(
        "layer", description="layer: keys from the model as merged so far; round: all keys from the round's base model"
    )
    history_weight: Annotated[float, Field(ge=0.0)] = Field(
        1.0, description="h, the weight of earlier rounds' Gram sums"
    )
    statistics: Literal["auto", "dense", "factored"] = Field(
        "auto", description="form in which statistics are sent; auto takes the smaller"
    )


Metric = Literal["efficacy", "paraphrase", "neighborhood", "retention", "conflict"]


class EvaluateSpec(Spec):
    """What is measured, and how often."""

    every: Positive = Field(1, description="evaluate after every so many rounds, and always after the last")
    sample: Positive | None = Field(200, description="edits of a round that are probed at most; null for all")
    metrics: tuple[Metric, ...] = ("efficacy", "paraphrase", "neighborhood", "retention")


class HostsSpec(Spec):
    """The Ray actors that hold the model."""

    min: Positive = Field(1, description="hosts without which the run is refused")
    max: Positive = Field(1, description="hosts at most; never more than there are cohorts")
    cpus: Annotated[float, Field(ge=0.0)] = Field(1, description="CPUs that Ray reserves for a host; may be a fraction")
    gpus: Annotated[float, Field(ge=0.0)] = Field(0, description="GPUs that Ray reserves for a host; may be a fraction")


class ClusterSpec(Spec):
    """How the work is laid out; results depend on cohort_size and threads only, never on the hosts."""

    hosts: HostsSpec = HostsSpec()
    cohort_size: Positive = Field(5, description="parties computed together as one unit of work")
    threads: Positive = Field(1, description="threads of every tensor operation")
    timeout_s: Annotated[float, Field(gt=0.0)] = Field(1800.0, description="longest wait for one cohort's answer")

    @model_validator(mode="before")
    @classmethod
    def _number_of_hosts(cls, data: Any) -> Any:
        if isinstance(data, dict) and type(data.get("hosts")) is int:
            return {**data, "hosts": {"min": data["hosts"], "max": data["hosts"]}}
        return data


class FaultSpec(Spec):
    """Something that breaks, on purpose."""

    round: Positive
    during: Literal["targets", "collect", "evaluate"]
    kill: Literal["host"] = "host"


class Scenario(Spec):
    """A whole scenario."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(description="letters, digits, . _ -")
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    model: ModelSpec = LanguageModelSpec()
    facts: FactsSpec = FactsSpec()
    parties: PartiesSpec = PartiesSpec()
    stream: StreamSpec = StreamSpec()
    editor: EditorSpec = EditorSpec()
    merge: MergeSpec = MergeSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    cluster: ClusterSpec = ClusterSpec()
    faults: tuple[FaultSpec, ...] = ()

    @property
    def num_cohorts(self) -> int:
        """Number of cohorts; the last may be smaller."""
        return -(-self.parties.count // self.cluster.cohort_size)

    def cohort(self, number: int) -> range:
        """The parties of a cohort: consecutive numbers, by the scenario alone."""
        size = self.cluster.cohort_size
        return range(number * size, min((number + 1) * size, self.parties.count))
