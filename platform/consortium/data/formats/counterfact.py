"""CounterFact records (Meng et al., arXiv 2202.05262; MultiCounterFact: arXiv 2210.07229).

The published, nested shape::

    {"case_id": 0, "requested_rewrite": {"prompt": "The mother tongue of {} is", "relation_id": "P103",
     "subject": "Danielle Darrieux", "target_new": {"str": "English"}, "target_true": {"str": "French"}},
     "paraphrase_prompts": ["…"], "neighborhood_prompts": ["The mother tongue of Léon Blum is"]}

Neighbours share the true object, so ``target_true`` is what each must still say; a neighbour written as
``{"prompt": …, "target": …}`` brings its own. A target may also be a plain text. ``generation_prompts`` begin
texts about the subject; the published lists name most of them several times, which counts once here.

Flat shapes that circulate have whole prompts with the subject filled in: ``prompt``, ``subject``,
``target_new`` or ``target_false``, ``ground_truth`` or ``target_true`` (a list gives its first), and
optionally ``rephrase_prompt`` and ``locality_prompt`` with ``locality_ground_truth``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consortium.common.counting import count
from consortium.data.edit import Edit, Neighbor
from consortium.data.formats.record import Record, subject_template

_FLAT_NEW = ("target_new", "target_false")
_FLAT_OLD = ("ground_truth", "target_true")


def recognises(fields: Mapping[str, Any]) -> bool:
    """Whether a record with these fields is in one of CounterFact's shapes."""
    flat = "prompt" in fields and any(name in fields for name in _FLAT_OLD) and "locality" not in fields
    nested = "requested_rewrite" in fields and not isinstance(fields["requested_rewrite"], list)
    return nested or flat


def parse(record: Record) -> Edit:
    """The edit of a record in either shape; FactsError names the field that is malformed."""
    return _parse_nested(record) if record.has("requested_rewrite") or not record.has("prompt") else _parse_flat(record)


def _parse_nested(record: Record) -> Edit:
    rewrite = record.part("requested_rewrite")
    prompt = rewrite.template("prompt")
    target_old = _target(rewrite, "target_true")
    return Edit(
        fact_id=record.name("case_id", str(record.number)),
        relation=rewrite.name("relation_id", prompt),
        subject=rewrite.text("subject"),
        prompt=prompt,
        target_new=_different(rewrite, "target_new", _target(rewrite, "target_new"), target_old),
        target_old=target_old,
        paraphrases=record.texts("paraphrase_prompts"),
        neighbors=_neighbors(record, target_old),
        generation_prompts=tuple(dict.fromkeys(record.texts("generation_prompts"))),
        join=rewrite.spacing("prompt", "target_new"),
    )


def _neighbors(record: Record, target_old: str) -> tuple[Neighbor, ...]:
    field = "neighborhood_prompts"
    if any(isinstance(item, Mapping) for item in record.items(field)):
        parts = record.parts(field)
        return tuple(
            Neighbor(part.prompt("prompt"), part.text("target"), part.spacing("prompt", "target")) for part in parts
        )
    return tuple(Neighbor(prompt, target_old) for prompt in record.texts(field))


def _target(rewrite: Record, field: str) -> str:
    if isinstance(rewrite.fields.get(field), str):
        return rewrite.text(field)
    return rewrite.part(field).text("str")


def _parse_flat(record: Record) -> Edit:
    subject = record.text("subject")
    prompt = subject_template(record, "prompt", subject)
    if prompt is None:
        raise record.rejection("prompt", f"no mention of the subject {subject!r}", "a prompt that contains the subject")
    new, old = (_first_present(record, names) for names in (_FLAT_NEW, _FLAT_OLD))
    target_old = _first_text(record, old)
    asked = record.texts("locality_prompt")
    answers = record.texts("locality_ground_truth")
    if len(asked) != len(answers):
        found = f"{count(len(answers), 'answer')} for {count(len(asked), 'prompt')}"
        raise record.rejection("locality_ground_truth", found, "one answer for each locality_prompt")
    return Edit(
        fact_id=record.name("case_id", str(record.number)),
        relation=record.name("relation_id", prompt),
        subject=subject,
        prompt=prompt,
        target_new=_different(record, new, record.text(new), target_old),
        target_old=target_old,
        paraphrases=record.texts("rephrase_prompt"),
        neighbors=tuple(Neighbor(prompt, answer.strip()) for prompt, answer in zip(asked, answers, strict=True)),
        join=record.spacing("prompt", new),
    )


def _first_present(record: Record, names: tuple[str, ...]) -> str:
    return next((name for name in names if record.has(name)), names[0])


def _first_text(record: Record, field: str) -> str:
    if isinstance(record.fields.get(field), list):
        answers = record.texts(field)
        if not answers:
            raise record.rejection(field, "an empty list", "at least one answer")
        return answers[0].strip()
    return record.text(field)


def _different(record: Record, field: str, target_new: str, target_old: str) -> str:
    if target_new == target_old:
        raise record.rejection(field, f"{target_new!r}, the same as the old target", "another target than the old one")
    return target_new
