"""Portability (KnowEdit): questions whose answers should change with the edit's.

By kind: another name of the subject, reasoning, what follows logically.
"""

from collections.abc import Sequence

from consortium.data.edit import Edit
from consortium.evaluation.knowedit import Assessed, by_names, decoded_metric
from consortium.models.queries import Answer, Probe


def probes(edit: Edit) -> list[Probe]:
    """Every accepted answer to every question."""
    return [Probe(each.prompt, name, join=each.join) for each in edit.portability for name in each.answers]


def assess(edit: Edit, answers: Sequence[Answer], _: Sequence[Answer]) -> list[Assessed]:
    """Question by question."""
    rest = iter(answers)
    return [
        by_names(each.kind, [next(rest) for _ in each.answers], each.prompt, each.answers[0])
        for each in edit.portability
    ]


METRIC = decoded_metric(
    "portability",
    "Edit success at questions that the edits should change too: the mean over the kinds of questions.",
    probes,
    assess,
    kinds={
        "alias": "The part of portability in which the subject goes by another name.",
        "reasoning": "The part of portability in which the answer takes one more step.",
        "generalisation": "The part of portability in which another fact follows from the edit.",
    },
    order=110,
    reads=lambda edit: ("portability",),
    is_rare=True,
    needs_language=True,
)
