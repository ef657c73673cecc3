"""Rewrite scores: the family of metrics that compare two answers, as in MEMIT (arXiv 2210.07229, section 5.2.2).

A probe succeeds when the answer that should be given has a lower mean negative log likelihood than the other one.
Beside it stands the strict accuracy: every token of the answer is the arg-max. An edit's probes are averaged first,
then edits. An answer that is not finite is none: it is left out and counted. An edit of which no answer is left is not
among the edits that a metric is of.

A metric of this family says which edits it is about, and which probes it asks of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from consortium.data.edit import Edit
from consortium.evaluation.item import AskedEdit, Item, Scored
from consortium.evaluation.metric import EvaluatedBatch, Metric, Outcome, probed
from consortium.evaluation.sums import ProbeSum
from consortium.models.queries import Probe, Score

WITH_START = "_with_start"
"""What is put after the name of a column whose probes stand behind the token that begins documents."""

WITH_START_MEANING = "The prompts of {} behind the token that begins documents, which else no prompt has."


def rewrite_score(
    name: str,
    meaning: str,
    probes: Callable[[Edit], Sequence[Probe]],
    about: Callable[[EvaluatedBatch], Iterable[AskedEdit]] = probed,
    document_start: Sequence[str] = (),
    **others: Any,
) -> Metric:
    """A metric of this family.

    Args:
        name: its name.
        meaning: what it says.
        probes: an edit → its probes; none where its source has none.
        about: the edits that it is about.
        document_start: values of ``evaluate.document_start`` with which the probes are asked a second time.
        others: further fields of the metric.
    """

    def items(batch: EvaluatedBatch) -> Iterator[Item]:
        asks_twice = batch.has_document_start and batch.scenario.evaluate.document_start in document_start
        for each in about(batch):
            yield from items_of(name, each, probes(each.edit), asks_twice)

    columns = {name: meaning}
    if document_start:
        columns[name + WITH_START] = WITH_START_MEANING.format(name.replace("_", " "))
    return Metric(name, meaning, items, share_that_succeeds, columns=columns, tell=outcomes, **others)


def items_of(column: str, asked: AskedEdit, probes: Sequence[Probe], asks_twice: bool = False) -> list[Item]:
    """Items with an edit's probes; none without any."""
    if not probes:
        return []
    items = [Item(column, asked.of_round, tuple(probes), Scored(), asked)]
    if asks_twice:
        behind = tuple(replace(probe, with_start=True) for probe in probes)
        items.append(Item(column + WITH_START, asked.of_round, behind, Scored(), asked))
    return items


def share_that_succeeds(item: Item, scores: Sequence[Score], _: Sequence[Score] = ()) -> dict[str, ProbeSum]:
    """One edit's answers for one column."""
    finite = [score for score in scores if score.is_finite]
    missing = len(scores) - len(finite)
    if not finite:
        return {item.column: ProbeSum(num_not_finite=missing)}
    success, strict = (sum(getattr(score, name) for score in finite) for name in ("success", "strict"))
    return {item.column: ProbeSum(success / len(finite), strict / len(finite), 1, len(finite), missing)}


def outcomes(item: Item, scores: Sequence[Score], _: Sequence[Score] = ()) -> list[Outcome]:
    """What each probe was answered with."""
    return [_outcome(*each) for each in zip(item.texts, scores, strict=True)]


def _outcome(probe: Probe, score: Score) -> Outcome:
    # Texts are written as a user's tokenizer begins them, so there is none behind a document's start of ours.
    outcome = Outcome(probe.prompt, probe.target, score.is_finite, needs_text=not probe.with_start)
    if not score.is_finite:
        return outcome
    success = float(score.success)
    return replace(
        outcome, success=success, strict=score.strict, nll_target=score.nll_target, nll_rival=score.nll_rival
    )


def own_probe(edit: Edit) -> list[Probe]:
    """The edit's own prompt: the new answer against the old one."""
    return [Probe(edit.text, edit.target_new, edit.target_old, edit.join)]
