"""Merge methods as a scenario names them: each with its parameters, what they may be, and what they do.

To add one: write its specification here and its mathematics in a file of :mod:`consortium.merging.methods`, which
``implementation`` names, and a test. Scenario files, ``consortium schema``, messages and the report know it then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from consortium.scenario.spec import Label, Spec, kinds_of, one_of

Exchange = Literal["layer", "round"]
Reference = Literal["current", "initial"]
SkipKnown = Literal["none", "residual"]


def _weight_form(value: Any) -> str:
    return "<Word>" if isinstance(value, str) else "<Weight>"


Weight = Annotated[float, Field(ge=0.0)]
HistoryWeight = Annotated[
    Annotated[Weight, Tag("<Weight>")] | Annotated[Literal["covariance"], Tag("<Word>")], Discriminator(_weight_form)
]


class MethodSpec(Spec):
    """What all merge methods have in common: the settings of their arm."""

    title: ClassVar[str]
    """Name in a report."""
    paper: ClassVar[str]
    """Paper and equation."""
    implementation: ClassVar[str]
    """Module and class of its :class:`consortium.merging.method.MergeMethod`, which is imported when it is used."""
    needs_solver: ClassVar[bool] = False
    """Parties need the key covariance to contribute."""
    removable: ClassVar[bool] = False
    """Contributions of all rounds can be added, and edits subtracted (:mod:`consortium.merging.retained_sum`)."""

    name: str = Field(description="the method's name; its parameters are keys beside it")
    label: Annotated[Label, Field(description="letters, digits, . _ -, at most 100")] | None = Field(
        None, description="name of the arm; required if a method is used twice"
    )
    exchange: Exchange | None = Field(None, description="this arm's `merge.exchange`; null for the common one")
    reference: Reference | None = Field(None, description="this arm's `merge.reference`; null for the common one")
    history_weight: HistoryWeight | None = Field(None, description="h of this arm; null for merge.history_weight")
    skip_known: SkipKnown | None = Field(None, description="this arm's `overlap.skip_known`; null for the common one")

    @property
    def arm(self) -> str:
        """Name of the arm that runs this method."""
        return self.label or self.name


class GlobalSpec(MethodSpec):
    """One owner of everybody's edits: the upper bound."""

    title: ClassVar[str] = "Global edit"
    paper: ClassVar[str] = "Meng et al. 2023, MEMIT, arXiv 2210.07229, equations 11-14"
    implementation: ClassVar[str] = "consortium.merging.methods.global_edit:GlobalEdit"
    removable: ClassVar[bool] = True

    name: Literal["global"] = "global"


class CollabEditSpec(MethodSpec):
    """Sums of statistics, solved once: exact."""

    title: ClassVar[str] = "CollabEdit"
    paper: ClassVar[str] = "Zheng et al. 2025, CollabEdit, arXiv 2410.09508, equation 7"
    implementation: ClassVar[str] = "consortium.merging.methods.collabedit:CollabEdit"
    removable: ClassVar[bool] = True

    name: Literal["collabedit"] = "collabedit"


class LocalUpdatesSpec(MethodSpec):
    """Base of the methods that sparsify and combine the parties' own updates."""

    implementation: ClassVar[str] = "consortium.merging.methods.task_arithmetic:TaskArithmetic"
    needs_solver: ClassVar[bool] = True


class TaskArithmeticSpec(LocalUpdatesSpec):
    """The scaled sum of local updates."""

    title: ClassVar[str] = "Task arithmetic"
    paper: ClassVar[str] = "Ilharco et al. 2023, Task arithmetic, arXiv 2212.04089, section 2"

    name: Literal["task_arithmetic"] = "task_arithmetic"
    alpha: float = Field(1.0, gt=0.0, description="α, coefficient of the sum of local updates")


class SimpleAverageSpec(LocalUpdatesSpec):
    """The mean of local updates."""

    title: ClassVar[str] = "Simple average"
    paper: ClassVar[str] = "McMahan et al. 2017, FedAvg, arXiv 1602.05629, algorithm 1, equal weights"
    implementation: ClassVar[str] = "consortium.merging.methods.task_arithmetic:SimpleAverage"

    name: Literal["simple_average"] = "simple_average"


class DropsSpec(LocalUpdatesSpec):
    """Base of the methods that drop entries of local updates at random, and rescale the others."""

    drop: float = Field(0.9, ge=0.0, lt=1.0, description="p, probability that an entry of a local update is dropped")


class TrimsSpec(LocalUpdatesSpec):
    """Base of the methods that trim local updates, elect a sign for each entry, and average the entries that agree."""

    implementation: ClassVar[str] = "consortium.merging.methods.ties:Ties"

    density: float = Field(0.2, gt=0.0, le=1.0, description="share of each local update's entries that is kept")
    lambda_: float = Field(1.0, gt=0.0, alias="lambda", description="λ, coefficient of the merged update")


class TiesSpec(TrimsSpec):
    """Trimmed local updates, averaged where signs agree."""

    title: ClassVar[str] = "TIES"
    paper: ClassVar[str] = "Yadav et al. 2023, TIES-Merging, arXiv 2306.01708, algorithm 1"

    name: Literal["ties"] = "ties"


class DareSpec(DropsSpec):
    """The scaled sum of local updates with dropped entries."""

    title: ClassVar[str] = "DARE"
    paper: ClassVar[str] = "Yu et al. 2023, DARE, arXiv 2311.03099, section 3"

    name: Literal["dare"] = "dare"
    alpha: float = Field(1.0, gt=0.0, description="α, coefficient of the sum of local updates")


class DareTiesSpec(DropsSpec, TrimsSpec):
    """DARE's random drop before TIES."""

    title: ClassVar[str] = "DARE + TIES"
    paper: ClassVar[str] = "Yu et al. 2023, DARE, arXiv 2311.03099, before TIES, arXiv 2306.01708"
    implementation: ClassVar[str] = TrimsSpec.implementation

    name: Literal["dare_ties"] = "dare_ties"


class RegMeanSpec(MethodSpec):
    """The weights whose outputs are nearest to every party's own."""

    title: ClassVar[str] = "RegMean"
    paper: ClassVar[str] = "Jin et al. 2023, RegMean, arXiv 2212.09849, equation 2"
    implementation: ClassVar[str] = "consortium.merging.methods.regmean:RegMean"
    needs_solver: ClassVar[bool] = True

    name: Literal["regmean"] = "regmean"
    alpha: float = Field(0.9, ge=0.0, le=1.0, description="α, the factor of Gram entries off the diagonal")


class FisherSpec(MethodSpec):
    """The mean weighted by diagonal Fisher information, which is RegMean without entries off the diagonal."""

    title: ClassVar[str] = "Fisher average"
    paper: ClassVar[str] = "Matena and Raffel 2022, Fisher merging, arXiv 2111.09832"
    implementation: ClassVar[str] = "consortium.merging.methods.regmean:RegMean"
    needs_solver: ClassVar[bool] = True
    alpha: ClassVar[float] = 0.0

    name: Literal["fisher"] = "fisher"


class NormBoundSpec(MethodSpec):
    """CollabEdit with every party's keys and residuals scaled down to a bound."""

    title: ClassVar[str] = "Norm bound"
    paper: ClassVar[str] = "Sun et al. 2019, arXiv 1911.07963, norm clipping, over CollabEdit's sums"
    implementation: ClassVar[str] = "consortium.merging.methods.norm_bound:NormBound"

    name: Literal["norm_bound"] = "norm_bound"
    keys: float = Field(
        4.0, gt=0.0, description="bound on a party's keys, root mean square, in lengths of keys in ordinary text"
    )
    residuals: float = Field(
        4.0, gt=0.0, description="the same for residuals, in lengths of the layer's output for such keys"
    )


class OverBucketsSpec(MethodSpec):
    """Base of the methods that take a middle of the updates of buckets of parties."""

    buckets: int = Field(5, ge=1, le=64, description="G, buckets of parties, by party number")
    alpha: float = Field(1.0, gt=0.0, description="α, coefficient of the sum over buckets")


class TrimmedMeanSpec(OverBucketsSpec):
    """The mean of each entry without its largest and smallest values."""

    title: ClassVar[str] = "Trimmed mean"
    paper: ClassVar[str] = "Yin et al. 2018, arXiv 1803.01498, definition 2, over buckets"
    implementation: ClassVar[str] = "consortium.merging.methods.trimmed_mean:TrimmedMean"

    name: Literal["trimmed_mean"] = "trimmed_mean"
    trim: float = Field(0.2, gt=0.0, lt=0.5, description="share of buckets left out at either end, rounded down")


class MedianOfMeansSpec(OverBucketsSpec):
    """The median of each entry."""

    title: ClassVar[str] = "Median of means"
    paper: ClassVar[str] = "Yin et al. 2018, arXiv 1803.01498, definition 1, over buckets"
    implementation: ClassVar[str] = "consortium.merging.methods.median_of_means:MedianOfMeans"

    name: Literal["median_of_means"] = "median_of_means"


class GeometricMedianSpec(OverBucketsSpec):
    """The update nearest to those of all buckets."""

    title: ClassVar[str] = "Geometric median"
    paper: ClassVar[str] = "Pillutla et al. 2019, RFA, arXiv 1912.13445, over buckets"
    implementation: ClassVar[str] = "consortium.merging.methods.geometric_median:GeometricMedian"

    name: Literal["geometric_median"] = "geometric_median"


#: All merge methods by name.
METHODS: dict[str, type[MethodSpec]] = kinds_of(
    "name",
    [
        *(GlobalSpec, CollabEditSpec, TaskArithmeticSpec, SimpleAverageSpec, TiesSpec, DareSpec, DareTiesSpec),
        *(RegMeanSpec, FisherSpec, NormBoundSpec, TrimmedMeanSpec, MedianOfMeansSpec, GeometricMedianSpec),
    ],
)


def _name_stands_for_method(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


if TYPE_CHECKING:
    NamedMethod = MethodSpec
else:
    _Method = one_of("name", METHODS.values())
    _Name = Literal[tuple(METHODS)]
    NamedMethod = Annotated[_Method, BeforeValidator(_name_stands_for_method, json_schema_input_type=_Name | _Method)]
