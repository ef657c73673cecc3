"""KnowEdit's records of facts: WikiData_recent, WikiData_counterfact and ZsRE (Zhang et al., arXiv 2401.01286).

One shape for the three::

    {"subject": "Tommy Fury", "prompt": "The names of the siblings of Tommy Fury are",
     "target_new": "Edward C. Marshall", "ground_truth": "Tyson Fury",
     "portability": {"Logical_Generalization": [{"prompt": "The names of the siblings of Edward C. Marshall are",
                                                 "ground_truth": [["Tommy Fury", "Thomas Michael John Fury"]]}]},
     "locality": {"Relation_Specificity": [{"prompt": "The gender of Tommy Fury is", "ground_truth": [["male"]]}]}}

* ``ground_truth`` is a text, a list of texts, or a list of lists (answers, and for each its other names).
  WikiData_recent inserts new facts, and has none for them.
* ZsRE has a ``rephrase_prompt``, the only paraphrase of the three sets.
* The prompt is a whole one; ``{}`` takes the place of the subject's first mention. Records whose prompt spells the
  subject in another way (1 of 100 of the ZsRE looked at) cannot be edited at the subject, and are left out.
* Questions of the two blocks without any answer (3 of 1,000 in the WikiData sets) are left out.
* The sets name no relation; the prompt with ``{}`` serves as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from consortium.data.edit import Edit, LocalityProbe, PortabilityKind, PortabilityProbe
from consortium.data.formats.record import Record, SkippedProbeError, editable_template

#: A block's name in the data → the kind of question.
_PORTABILITY: dict[str, PortabilityKind] = {
    "Subject_Aliasing": "alias",
    "Reasoning": "reasoning",
    "Logical_Generalization": "generalisation",
}

_BLOCKS = ("portability", "locality")
_OWN_FIELDS = ("ground_truth", "rephrase_prompt")


def recognises(fields: Mapping[str, Any]) -> bool:
    """Whether a record with these fields is in KnowEdit's shape; its blocks may be there and empty."""
    has_block = any(isinstance(fields.get(block), Mapping) for block in _BLOCKS)
    # Lists of questions are Consortium's own, whose records have none of these fields.
    has_fields = any(name in fields for name in _BLOCKS) and any(name in fields for name in _OWN_FIELDS)
    return (has_block or has_fields) and all(name in fields for name in ("subject", "prompt", "target_new"))


def parse(record: Record) -> tuple[Edit | SkippedProbeError, ...]:
    """The edit of a record, and its questions that cannot be asked.

    Raises:
        FactsError: the record is malformed.
        SkippedRecordError: its prompt lacks the subject.
    """
    subject, target_new = record.text("subject"), record.text("target_new")
    prompt = editable_template(record, "prompt", subject)
    portability, unasked = _portability(record)
    locality, unasked_too = locality_probes(record)
    edit = Edit(
        fact_id=f"knowedit-{record.number}",
        relation=prompt,
        subject=subject,
        prompt=prompt,
        target_new=target_new,
        target_old=next((answer for answer in record.answers("ground_truth") if answer != target_new), None),
        paraphrases=() if record.fields.get("rephrase_prompt") == "" else record.texts("rephrase_prompt"),
        portability=portability,
        locality=locality,
        join=record.spacing("prompt", "target_new"),
    )
    return edit, *unasked, *unasked_too


def locality_probes(record: Record) -> tuple[tuple[LocalityProbe, ...], list[SkippedProbeError]]:
    """The questions of a ``locality`` block, and those without an answer."""
    probes, unasked = [], []
    for kind, question in _questions(record, "locality"):
        prompt, answers = question.prompt("prompt"), question.answers("ground_truth")
        if answers:
            probes.append(LocalityProbe(kind.lower(), prompt, answers[0], question.spacing("prompt", "ground_truth")))
        else:
            unasked.append(SkippedProbeError(f"no answer to {prompt!r}"))
    return tuple(probes), unasked


def _portability(record: Record) -> tuple[tuple[PortabilityProbe, ...], list[SkippedProbeError]]:
    probes, unasked = [], []
    for kind, question in _questions(record, "portability"):
        if kind not in _PORTABILITY:
            raise record.rejection(f"portability.{kind}", "an unknown kind", f"one of {', '.join(_PORTABILITY)}")
        join = question.spacing("prompt", "ground_truth")
        prompt, answers = question.prompt("prompt"), question.answers("ground_truth")
        if answers:
            probes.append(PortabilityProbe(_PORTABILITY[kind], prompt, answers, join))
        else:
            unasked.append(SkippedProbeError(f"no answer to {prompt!r}"))
    return tuple(probes), unasked


def _questions(record: Record, block: str) -> Iterator[tuple[str, Record]]:
    """Kind and question of everything in a block; one that is empty, of whatever type, has none."""
    if record.fields.get(block):
        groups = record.part(block)
        for kind in groups.fields:
            for question in groups.parts(kind):
                yield kind, question
