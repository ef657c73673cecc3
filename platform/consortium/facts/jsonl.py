"""Consortium's own records: the fields of :class:`~consortium.facts.edit.Edit`, one JSON object per line.

======================  ========  ===========================================================================
field                   needed    meaning
======================  ========  ===========================================================================
``subject``             yes       the subject as it stands in the prompt
``prompt``              yes       text with exactly one ``{}`` for the subject, ending where the target begins
``target_new``          yes       what the model shall say
``target_old``          no        what it says (or should say) before the edit
``relation``            no        name of the relation; the prompt itself when absent
``fact_id``             no        unique name (text or whole number); the record's number when absent
``paraphrases``         no        list of whole prompts that ask the same in other words
``neighbors``           no        list of ``{"prompt": …, "target": …}``: answers that must stay
``portability``         no        list of ``{"kind": …, "prompt": …, "answers": […]}``: answers that should change too;
                                  the kind is alias, reasoning or generalisation
``locality``            no        list of ``{"kind": …, "prompt": …, "target": …}``: the model's own answer must stay
``generation_prompts``  no        list of whole prompts that begin texts about the subject
``rivals``              no        list of targets that contradict this one
``augmentations``       no        list of prompts with one ``{}``: further words to ask in, by which no edit is judged
======================  ========  ===========================================================================

Unknown fields are refused, since a mistyped name would silently drop probes; null stands for a field that is not
there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from consortium.facts.edit import Edit, LocalityProbe, Neighbor, PortabilityKind, PortabilityProbe
from consortium.facts.record import Record

_NEEDED = ("subject", "prompt", "target_new")
_FIELDS = ("fact_id", "relation", *_NEEDED, "target_old", "paraphrases", "neighbors")
_PROBE_FIELDS = ("portability", "locality", "generation_prompts", "rivals", "augmentations")
_KINDS: dict[str, PortabilityKind] = {kind: kind for kind in get_args(PortabilityKind)}


def recognises(fields: Mapping[str, Any]) -> bool:
    """Whether a record with these fields looks like Consortium's own."""
    return "prompt" in fields and any(name in fields for name in ("subject", "target_new"))


def parse(record: Record) -> Edit:
    """The edit of a record; FactsError names the field that is malformed."""
    _refuse_unknown(record, (*_FIELDS, *_PROBE_FIELDS))
    prompt = record.template("prompt")
    target_new = record.text("target_new")
    target_old = record.text("target_old") if record.has("target_old") else None
    if target_new == target_old:
        found = f"{target_new!r}, the same as target_old"
        raise record.refusal("target_new", found, "another target than the old one")
    return Edit(
        fact_id=record.name("fact_id", str(record.number)),
        relation=record.name("relation", prompt),
        subject=record.text("subject"),
        prompt=prompt,
        target_new=target_new,
        target_old=target_old,
        paraphrases=record.texts("paraphrases"),
        neighbors=tuple(_neighbor(part) for part in record.parts("neighbors")),
        portability=tuple(_portability(part) for part in record.parts("portability")),
        locality=tuple(_locality(part) for part in record.parts("locality")),
        generation_prompts=record.texts("generation_prompts"),
        rivals=_rivals(record, target_new),
        augmentations=tuple(
            record.check_template(f"augmentations[{place}]", prompt)
            for place, prompt in enumerate(record.texts("augmentations"))
        ),
    )


def _neighbor(part: Record) -> Neighbor:
    _refuse_unknown(part, ("prompt", "target"))
    return Neighbor(part.prompt("prompt"), part.text("target"))


def _portability(part: Record) -> PortabilityProbe:
    _refuse_unknown(part, ("kind", "prompt", "answers"))
    kind, answers = part.text("kind"), part.answers("answers")
    if kind not in _KINDS:
        raise part.refusal("kind", repr(kind), f"one of {', '.join(_KINDS)}")
    if not answers:
        raise part.refusal("answers", "no answers", "a list of accepted answers")
    return PortabilityProbe(_KINDS[kind], part.prompt("prompt"), answers)


def _locality(part: Record) -> LocalityProbe:
    _refuse_unknown(part, ("kind", "prompt", "target"))
    return LocalityProbe(part.name("kind", "locality"), part.prompt("prompt"), part.text("target"))


def _rivals(record: Record, target_new: str) -> tuple[str, ...]:
    rivals = record.answers("rivals")
    if target_new in rivals:
        raise record.refusal("rivals", f"{target_new!r}, the target itself", "other targets than target_new")
    return rivals


def _refuse_unknown(record: Record, known: tuple[str, ...]) -> None:
    for field in record.fields:
        # Tables and datasets have every column in every record: null stands for a field that is not there.
        if field not in known and record.has(field):
            raise record.refusal(field, "unknown field", f"one of {', '.join(known)}")
