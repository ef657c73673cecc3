"""A metric is one object: its name and what it means, what it asks about an edit, and how answers become a number.

Everything that knows metrics takes it from here: what a scenario may ask for, the rows of a run's tables, TensorBoard's
tags, the terminal's table, and the report. A metric is a file in a folder ``metrics`` with an object ``METRIC``
(:mod:`consortium.evaluation.registry`); its name is that of the file.

Most metrics are of one of two families, whose files have the rest: :mod:`consortium.evaluation.rewrite_scores`, and
:mod:`consortium.evaluation.knowedit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from consortium.data.edit import Edit, FactSet
from consortium.data.request import Request
from consortium.evaluation.item import AskedEdit, Item
from consortium.evaluation.sums import ProbeSum
from consortium.scenario.schema import EvaluateSpec, Scenario

if TYPE_CHECKING:
    from consortium.data.stream import Stream


class EvaluatedBatch(Protocol):
    """What a metric may ask about: the edits of some parties that are evaluated together after a round."""

    @property
    def scenario(self) -> Scenario:
        """The scenario as resolved."""
        ...

    @property
    def round_number(self) -> int:
        """The round."""
        ...

    @property
    def number(self) -> int:
        """The number of the batch, from 0."""
        ...

    @property
    def is_edited(self) -> bool:
        """False for the unedited model, which has nothing to retain."""
        ...

    @property
    def has_start(self) -> bool:
        """Whether the weights with which the round began can be asked, too."""
        ...

    @property
    def has_document_start(self) -> bool:
        """Whether texts begin in two ways in this model."""
        ...

    @property
    def stream(self) -> Stream:
        """Who asks for what in which round."""
        ...

    @property
    def facts(self) -> FactSet:
        """All facts."""
        ...

    @property
    def parties(self) -> range:
        """The parties."""
        ...

    def sampled(self) -> Sequence[AskedEdit]:
        """The edits that are probed after the round, including those that were rejected."""
        ...

    def earlier(self) -> Sequence[AskedEdit]:
        """Edits of earlier rounds that are to hold: nobody contradicted them or took them back."""
        ...

    def asked(self, request: Request, of_round: int) -> AskedEdit:
        """What a request asks for, to be counted under a round."""
        ...

    def stands(self, edit: Edit, round_number: int) -> bool:
        """Whether an edit's answer is the one that was decided on after a round."""
        ...


def probed(batch: EvaluatedBatch) -> list[AskedEdit]:
    """The edits that a metric is about unless it says otherwise: those probed after the round that were merged."""
    return [each for each in batch.sampled() if not each.is_rejected]


def percent_of_edits(total: ProbeSum) -> float | None:
    """The mean over edits in percent."""
    return 100 * total.value / total.num_edits if total.num_edits else None


def percent_of_probes(total: ProbeSum) -> float | None:
    """The mean over questions in percent."""
    return 100 * total.value / total.num_probes if total.num_probes else None


@dataclass(frozen=True)
class Outcome:
    """What one question was answered with, for the table of answers.

    Attributes:
        prompt: what the model was given.
        target: the answer that counts as right.
        is_finite: whether the answer counts; if not, the rest is None.
        success: 1 or 0, or the share of right tokens.
        strict: whether every token is right.
        nll_target, nll_rival: mean negative log likelihood per token; None where not measured.
        answer: what the model said.
        needs_text: whether the model is to write by itself, to stand for ``answer``.
    """

    prompt: str
    target: str
    is_finite: bool
    success: float | None = None
    strict: bool | None = None
    nll_target: float | None = None
    nll_rival: float | None = None
    answer: str | None = None
    needs_text: bool = False


#: Sums by column of the results.
ByColumn = Mapping[str, ProbeSum]
#: (item, its answers, the same of the reference model) → sums.
Reduce = Callable[[Item, Sequence[Any], Sequence[Any]], ByColumn]
#: The same → outcome of each question.
Tell = Callable[[Item, Sequence[Any], Sequence[Any]], Sequence[Outcome]]


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: the name by which scenarios ask for it, and that of its file.
        meaning: what it says, in a sentence.
        items: what is asked about a party batch; the order of an edit's items is that of their sums.
        reduce: what one item's answers add to which columns.
        order: where it is shown among others: small numbers come first.
        title: its name in tables, if that is not ``name``.
        unit: of its values; None for percent.
        higher_is_better: whether more is better.
        lowest: least percentage that there can be.
        counted_in: what its answers are answers to.
        columns: columns of the results → what they mean, in order, if there are others than ``name``; each begins
            with ``name``.
        details: columns that are parts of others, for which a terminal has no room.
        has_section: it is shown in a section of its own, and not among the others.
        value: the number that sums come to; None if there was no answer.
        reference: another version of the model that is asked the same to compare with: the unedited one, or the one
            with which the round began.
        tell: outcomes of an item's questions, for the table of answers; None for none.
        reads: names of the fields of an edit in which its questions stand.
        is_rare: whether only some sources of facts have questions for it, so that it is refused with others.
        is_decoded: whether ``evaluate.decoding`` says how its answers are read.
        needs_language: whether it is for language models alone.
        is_of_edits: False for what is asked of the model by itself.
        adds_rounds: with ``evaluate.edits: all``, whether there is a row over the edits of all rounds.
        asked_by: whether a scenario asks for it; None if by its name in ``evaluate.metrics``.
        open: for a metric that reads files: (``evaluate``, seed) → the metric with what it read.
        parts: metrics that it is made of, instead of asking anything; all must be there.
        combine: their values → its value; must not fall where one of them rises.
    """

    name: str
    meaning: str
    items: Callable[[EvaluatedBatch], Iterable[Item]] = lambda batch: ()
    reduce: Reduce = lambda item, answers, reference: {}
    order: int = 1000
    title: str = ""
    unit: str | None = None
    higher_is_better: bool = True
    lowest: float = 0.0
    counted_in: str = "question"
    columns: Mapping[str, str] = field(default_factory=dict)
    details: frozenset[str] = frozenset()
    has_section: bool = False
    value: Callable[[ProbeSum], float | None] = percent_of_edits
    reference: Literal["unedited", "start"] | None = None
    tell: Tell | None = None
    reads: Callable[[Edit], Sequence[str]] = lambda edit: ()
    is_rare: bool = False
    is_decoded: bool = False
    needs_language: bool = False
    is_of_edits: bool = True
    adds_rounds: bool = True
    asked_by: Callable[[EvaluateSpec], bool] | None = None
    open: Callable[[EvaluateSpec, int], Metric] | None = None
    parts: tuple[str, ...] = ()
    combine: Callable[[Sequence[float]], float] = min

    def is_asked(self, evaluate: EvaluateSpec) -> bool:
        """Whether a scenario asks for it."""
        return self.name in evaluate.metrics if self.asked_by is None else self.asked_by(evaluate)

    def opened(self, evaluate: EvaluateSpec, seed: int) -> Metric:
        """The metric with what it needs of files.

        Raises:
            FactsError: a file that cannot be read, or is malformed.
        """
        return self if self.open is None else self.open(evaluate, seed)

    def columns_in_order(self) -> list[str]:
        """Names of its columns, as they are shown."""
        return list(self.columns) or [self.name]

    def meaning_of(self, column: str) -> str:
        """What one of its columns means."""
        return self.columns.get(column, self.meaning)

    def title_of(self, column: str) -> str:
        """A column's name in tables."""
        return ((self.title or self.name) + column.removeprefix(self.name)).replace("_", " ")

    def strict(self, total: ProbeSum) -> float | None:
        """The percentage by strict accuracy."""
        return None if total.strict is None or not total.num_edits else 100 * total.strict / total.num_edits
