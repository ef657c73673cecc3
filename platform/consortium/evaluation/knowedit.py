"""KnowEdit's family of metrics (arXiv 2401.01286, section 5.2), as EasyEdit, its code, computes them.

* A question's success is the share of the answer's tokens that are right: the arg-max after the answer's own tokens
  before them (teacher forcing), or the token that the model writes by itself (greedy decoding, whose columns end in
  ``_greedy``).
* Questions of a kind are averaged first, then kinds, then edits.

An answer with several names is asked for by the first, as there. The strict count takes any: it is the share of
questions that are answered with the whole of an accepted answer.

A metric of this family says which probes it asks about an edit, and how each question's answers are assessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from consortium.data.edit import Edit
from consortium.evaluation.item import Answered, Item
from consortium.evaluation.metric import EvaluatedBatch, Metric, Outcome, probed
from consortium.evaluation.rewrite_scores import WITH_START, WITH_START_MEANING
from consortium.evaluation.sums import ProbeSum
from consortium.models.queries import Answer, Probe
from consortium.scenario.schema import Decoding

SUFFIXES: dict[Decoding, str] = {"teacher_forcing": "", "greedy": "_greedy"}
"""Decoding → what is put after a column's name."""


@dataclass(frozen=True)
class Assessed:
    """A question's outcome.

    Attributes:
        kind: kind of the question.
        share: share of the answer's tokens that are right.
        is_whole: whether the whole answer is right.
        is_finite: whether there is an answer.
        prompt, target, answer: what was asked, what is right, and what the model said.
    """

    kind: str
    share: float
    is_whole: bool
    is_finite: bool
    prompt: str
    target: str
    answer: str


#: (edit, the answers to its probes, the same of the reference model) → its questions.
Assess = Callable[[Edit, Sequence[Answer], Sequence[Answer]], Sequence[Assessed]]


def decoded_metric(
    name: str,
    meaning: str,
    probes: Callable[[Edit], Sequence[Probe]],
    assess: Assess,
    kinds: Mapping[str, str] | None = None,
    document_start: Sequence[str] = (),
    **others: Any,
) -> Metric:
    """A metric of this family.

    Args:
        name: its name.
        meaning: what it says.
        probes: an edit → its probes; none where its source has none.
        assess: what the answers to an edit's probes come to.
        kinds: kind of question → what its own column means; None for no such columns.
        document_start: values of ``evaluate.document_start`` with which the probes are asked a second time.
        others: further fields of the metric.
    """

    def items(batch: EvaluatedBatch) -> Iterator[Item]:
        evaluate = batch.scenario.evaluate
        asks_twice = batch.has_document_start and evaluate.document_start in document_start
        for decoding in evaluate.decoding:
            for with_start in (False, True) if asks_twice else (False,):
                column = name + WITH_START * with_start + SUFFIXES[decoding]
                for each in probed(batch):
                    way = Answered(decoding, (name, with_start, each.of_round))
                    asked = tuple(replace(probe, with_start=with_start) for probe in probes(each.edit))
                    if asked:
                        yield Item(column, each.of_round, asked, way, each)

    def reduce(item: Item, answers: Sequence[Answer], reference: Sequence[Answer]) -> dict[str, ProbeSum]:
        of_kinds = _by_kind(assess(item.asked.edit, answers, reference))
        sums = {item.column: _mean_of_kinds(list(of_kinds.values()))}
        if kinds is not None:
            assert isinstance(item.way, Answered)
            sums |= {f"{name}_{kind}{SUFFIXES[item.way.decoding]}": value for kind, value in of_kinds.items()}
        return sums

    def tell(item: Item, answers: Sequence[Answer], reference: Sequence[Answer]) -> list[Outcome]:
        return [_outcome(each) for each in assess(item.asked.edit, answers, reference)]

    columns = {name: meaning}
    if document_start:
        columns[name + WITH_START] = WITH_START_MEANING.format(name.replace("_", " "))
    columns |= {f"{name}_{kind}": what for kind, what in (kinds or {}).items()}
    return Metric(
        name,
        meaning,
        items,
        reduce,
        columns=in_both_ways(columns),
        details=frozenset(f"{name}_{kind}{suffix}" for kind in kinds or () for suffix in SUFFIXES.values()),
        tell=tell,
        is_decoded=True,
        **others,
    )


def in_both_ways(columns: Mapping[str, str]) -> dict[str, str]:
    """Columns and what they mean, each by teacher forcing and then by greedy decoding."""
    found = {}
    for column, meaning in columns.items():
        found[column] = meaning
        found[column + SUFFIXES["greedy"]] = f"{meaning} Here it writes the likeliest tokens by itself."
    return found


def by_names(kind: str, answers: Sequence[Answer], prompt: str, target: str) -> Assessed:
    """A question with several accepted answers."""
    first = answers[0]
    is_whole = any(answer.is_target and answer.is_finite for answer in answers)
    return Assessed(kind, share(first.said, first.wanted), is_whole, first.is_finite, prompt, target, first.text)


def share(said: Sequence[int], wanted: Sequence[int]) -> float:
    """Share of the tokens that are the same."""
    return sum(one == other for one, other in zip(said, wanted, strict=True)) / len(wanted)


def _outcome(each: Assessed) -> Outcome:
    if not each.is_finite:
        return Outcome(each.prompt, each.target, False)
    return Outcome(each.prompt, each.target, True, each.share, each.is_whole, answer=each.answer)


def _by_kind(questions: Sequence[Assessed]) -> dict[str, ProbeSum]:
    kinds = dict.fromkeys(each.kind for each in questions)
    return {kind: _mean([each for each in questions if each.kind == kind]) for kind in kinds}


def _mean_of_kinds(kinds: Sequence[ProbeSum]) -> ProbeSum:
    """One edit's questions of all kinds, each of the same weight; a kind without an answer is left out."""
    found = [each for each in kinds if each.num_edits]
    missing = sum(each.num_not_finite for each in kinds)
    if not found:
        return ProbeSum(num_not_finite=missing)
    value, strict = sum(each.value for each in found), sum(each.strict or 0.0 for each in found)
    return ProbeSum(value / len(found), strict / len(found), 1, sum(each.num_probes for each in found), missing)


def _mean(questions: Sequence[Assessed]) -> ProbeSum:
    """One edit's questions of one kind."""
    found = [each for each in questions if each.is_finite]
    count, missing = len(found), len(questions) - len(found)
    if not found:
        return ProbeSum(num_not_finite=missing)
    return ProbeSum(sum(q.share for q in found) / count, sum(q.is_whole for q in found) / count, 1, count, missing)
