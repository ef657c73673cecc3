"""KnowEdit's Sanitation set: answers that are to be forgotten (Ishibashi and Shimodaira, arXiv 2309.11852;
Zhang et al., arXiv 2401.01286).

The whole set is one record::

    {"success": [{"question": "What kind of creature is a tanager?", "ground_truth": "Birds",
                  "target_new": "I don't know."}, …],
     "locality": [{"question": "Which dance is …?", "ground_truth": "Tango"}, …]}

* Each question of ``success`` is an edit; ``K_F`` and ``K_R``, the names of the training file, are read too. Five
  answers are to be forgotten, each asked for by several questions: the answer is the relation.
* The test file names no subject. The whole question stands in for it, so the edit is made at its last token; a
  ``subject``, which the training file has, is used where there is one.
* Questions stand in EasyEdit's template ``Question:…⏎Answer:``.
* The questions of ``locality``, which must stay, belong to no edit: they are dealt out in turn, so that all edits
  together ask each of them once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from consortium.data.edit import Edit, LocalityProbe
from consortium.data.formats.record import Record, SkippedProbeError, SkippedRecordError, editable_template

_TEMPLATE = "Question:{}\nAnswer:"
#: Names of what is to be forgotten and of what must stay, in the test and in the training file.
_NAMES = (("success", "locality"), ("K_F", "K_R"))

SanitationProbes = Edit | SkippedRecordError | SkippedProbeError


def recognises(fields: Mapping[str, Any]) -> bool:
    """Whether a record with these fields is in Sanitation's shape."""
    return any(forget in fields and retain in fields for forget, retain in _NAMES)


def parse(record: Record) -> tuple[SanitationProbes, ...]:
    """The edits of a set, and the reasons for what of it is left out; FactsError for a malformed question."""
    forget, retain = next((names for names in _NAMES if record.has(names[0])), _NAMES[0])
    probes, unasked = _probes(record.parts(retain))
    questions = record.parts(forget)
    if not questions:
        raise record.rejection(forget, "no questions", "a list of questions whose answers are to be forgotten")
    found: list[SanitationProbes] = [_edit(question, number) for number, question in enumerate(questions, start=1)]
    edits = [place for place, each in enumerate(found) if isinstance(each, Edit)]
    for turn, place in enumerate(edits):
        edit = found[place]
        assert isinstance(edit, Edit)
        found[place] = replace(edit, locality=tuple(probes[turn :: len(edits)]))
    return *found, *unasked


def _edit(question: Record, number: int) -> Edit | SkippedRecordError:
    target_old, target_new = question.text("ground_truth"), question.text("target_new")
    try:
        subject, prompt = _located(question)
    except SkippedRecordError as reason:
        return reason
    return Edit(
        fact_id=f"sanitation-{number}",
        relation=target_old.lower(),
        subject=subject,
        prompt=_TEMPLATE.replace("{}", prompt),
        target_new=target_new,
        target_old=target_old,
    )


def _located(question: Record) -> tuple[str, str]:
    """Subject, and question with ``{}`` in its place."""
    if not question.has("subject"):
        return question.text("question"), "{}"
    subject = question.text("subject")
    return subject, editable_template(question, "question", subject)


def _probes(questions: Sequence[Record]) -> tuple[list[LocalityProbe], list[SkippedProbeError]]:
    probes, unasked = [], []
    for question in questions:
        text, answers = question.text("question"), question.answers("ground_truth")
        if answers:
            probes.append(LocalityProbe("retained", _TEMPLATE.replace("{}", text), answers[0]))
        else:
            unasked.append(SkippedProbeError(f"no answer to {text!r}"))
    return probes, unasked
