"""From edits to probes, from scores to sums, from sums to metrics.

Efficacy, paraphrase and neighborhood success as in MEMIT (arXiv 2210.07229, section 5.2.2): a probe succeeds
when the answer that should be given has a lower mean negative log likelihood than the other one; for
neighbourhood the answer that should be given is the old one. Beside each stands the strict accuracy: every
token of the answer is the arg-max. An edit's probes are averaged first, then edits.

An answer that is not finite is none: it is left out and counted. An edit of which no answer is left is not among the
edits that a metric is of.

A party answers with counts and sums only (:class:`ProbeSums`); sums of parties add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from consortium.data.edit import Edit
from consortium.data.request import Request
from consortium.editing.backend import Backend
from consortium.evaluation.fluency import FluencySum
from consortium.evaluation.harm import ChoiceSum, TextSum
from consortium.models.queries import Probe, Score
from consortium.scenario.schema import EvaluateSpec

#: Metrics whose harmonic mean is reported.
HARMONIC = ("efficacy", "paraphrase", "neighborhood")

WITH_START = "_with_start"
"""What is put after the name of a metric whose probes stand behind the token that begins documents."""
#: ``evaluate.document_start`` → metrics that are asked in this way too; KnowEdit's edit_success goes with efficacy.
_ASKED_TWICE = {"none": (), "efficacy": ("efficacy",), "all": (*HARMONIC, "retention")}


@dataclass(frozen=True)
class Question:
    """An edit whose probes of one metric are to be asked.

    Attributes:
        metric: name of the metric.
        of_round: round in which the edit was asked for.
        edit: the edit.
        rival: what a contradicting request asked for; for the metric ``conflict``.
        request: the request for the edit; None where nobody asks whose it is.
    """

    metric: str
    of_round: int
    edit: Edit
    rival: str | None = None
    request: Request | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ProbeSum:
    """Sums over edits of the share of each edit's probes that succeed.

    Attributes:
        success: Σ over edits of the successful share, 0 to num_edits.
        strict: the same by strict accuracy.
        num_edits: edits that have such probes.
        num_probes: probes in all, but for those whose answers are not finite.
        num_not_finite: these.
    """

    success: float = 0.0
    strict: float = 0.0
    num_edits: int = 0
    num_probes: int = 0
    num_not_finite: int = 0

    def __add__(self, other: ProbeSum) -> ProbeSum:
        return ProbeSum(
            self.success + other.success,
            self.strict + other.strict,
            self.num_edits + other.num_edits,
            self.num_probes + other.num_probes,
            self.num_not_finite + other.num_not_finite,
        )


@dataclass(frozen=True)
class MagnitudeSum:
    """Sums over conflicts: the fall of the losing answer's probability (:mod:`consortium.features.conflicts.metrics`).

    Attributes:
        fall: Σ of the relative falls, from -num_edits to num_edits.
        num_edits: conflicts, but for those of which a likelihood is not finite.
        num_not_finite: these.
    """

    fall: float = 0.0
    num_edits: int = 0
    num_not_finite: int = 0

    def __add__(self, other: MagnitudeSum) -> MagnitudeSum:
        return MagnitudeSum(
            self.fall + other.fall, self.num_edits + other.num_edits, self.num_not_finite + other.num_not_finite
        )


#: (metric, of_round) → sums; round 0 stands for what is of no round's edits.
ProbeSums = dict[tuple[str, int], ProbeSum | MagnitudeSum | FluencySum | TextSum | ChoiceSum]


def also_with_start(questions: Sequence[Question], spec: EvaluateSpec) -> list[Question]:
    """The questions, and those of them once more that are asked behind the token that begins documents too."""
    twice = _ASKED_TWICE[spec.document_start]
    again = [replace(each, metric=each.metric + WITH_START) for each in questions if each.metric in twice]
    return [*questions, *again]


def probes_of(question: Question) -> list[Probe]:
    """The probes of an edit for one metric; none where its source has none."""
    metric = question.metric.removesuffix(WITH_START)
    if metric != question.metric:
        return [replace(probe, with_start=True) for probe in probes_of(replace(question, metric=metric))]
    edit = question.edit
    if question.metric in ("efficacy", "retention", "retracted", "retracted_before"):
        return [Probe(edit.text, edit.target_new, edit.target_old, edit.join)]
    if question.metric == "paraphrase":
        return [Probe(prompt, edit.target_new, edit.target_old, edit.join) for prompt in edit.paraphrases]
    if question.metric == "neighborhood":
        # A neighbour whose own answer happens to be the new target says nothing about the edit.
        kept = [neighbor for neighbor in edit.neighbors if neighbor.target != edit.target_new]
        return [Probe(neighbor.prompt, neighbor.target, edit.target_new, neighbor.join) for neighbor in kept]
    assert question.metric == "conflict", question.metric
    return [Probe(edit.text, edit.target_new, question.rival, edit.join)]


def ask(backend: Backend, questions: Sequence[Question]) -> ProbeSums:
    """Put all probes to the model at once and add up the answers; the model is not changed."""
    return summed(scored(backend, questions))


def scored(backend: Backend, questions: Sequence[Question]) -> list[tuple[Question, list[Probe], list[Score]]]:
    """Put all probes to the model at once: each question with its probes and their scores."""
    probes = [probes_of(question) for question in questions]
    scores = iter(backend.score([probe for group in probes for probe in group]))
    return [(question, group, [next(scores) for _ in group]) for question, group in zip(questions, probes, strict=True)]


def summed(asked: Sequence[tuple[Question, list[Probe], list[Score]]]) -> ProbeSums:
    """The answers of :func:`scored`, added up."""
    sums: dict[tuple[str, int], ProbeSum] = {}
    for question, _, answers in asked:
        if answers:
            key = (question.metric, question.of_round)
            sums[key] = sums.get(key, ProbeSum()) + _of_edit(answers)
    return dict(sums)


def _of_edit(scores: Sequence[Score]) -> ProbeSum:
    """One edit's answers for one metric."""
    found = [score for score in scores if score.is_finite]
    missing = len(scores) - len(found)
    if not found:
        return ProbeSum(num_not_finite=missing)
    success, strict = (sum(getattr(score, name) for score in found) for name in ("success", "strict"))
    return ProbeSum(success / len(found), strict / len(found), 1, len(found), missing)


def add_sums(parts: Sequence[ProbeSums]) -> ProbeSums:
    """The sums of several cohorts, added in the order given."""
    total: ProbeSums = {}
    for part in parts:
        for key, value in part.items():
            before: Any = total.get(key)  # of the same type, since the metric is the same
            total[key] = value if before is None else before + value
    return total


def over_rounds(sums: ProbeSums) -> dict[str, ProbeSum | FluencySum]:
    """Metric → sums over the edits of all rounds that were probed, but for retention, which is of earlier ones."""
    total: dict[str, ProbeSum | FluencySum] = {}
    for (metric, _), value in sorted(sums.items()):
        if isinstance(value, ProbeSum | FluencySum) and metric.removesuffix(WITH_START) != "retention":
            before: Any = total.get(metric)  # of the same type, since the metric is the same
            total[metric] = value if before is None else before + value
    return total


def harmonic_mean(values: Mapping[str, float]) -> float | None:
    """Harmonic mean of efficacy, paraphrase and neighborhood in percent; None unless all three are there."""
    if any(name not in values for name in HARMONIC):
        return None
    parts = [values[name] for name in HARMONIC]
    return 0.0 if min(parts) == 0 else len(parts) / sum(1 / part for part in parts)
