"""Consortium's own records: the fields of :class:`~consortium.data.edit.Edit`, one JSON object per line.

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
``join``                no        what stands between prompt and target, such as ``""`` or ``" "``; see below
======================  ========  ===========================================================================

Without ``join``, white space at the prompt's end or the target's beginning says how the two join, and where there is
none the rule of :mod:`consortium.models.joining` decides: a space in English, none in Japanese. ``join`` is for
all targets of the edit's own questions; an object of ``neighbors``, ``portability`` or ``locality`` may have one too.

Unknown fields are refused, since a mistyped name would silently drop probes; null stands for a field that is not
there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from consortium.data.edit import Edit, LocalityProbe, Neighbor, PortabilityKind, PortabilityProbe
from consortium.data.formats.record import Record

_NEEDED = ("subject", "prompt", "target_new")
_FIELDS = ("fact_id", "relation", *_NEEDED, "target_old", "paraphrases", "neighbors")
_PROBE_FIELDS = ("portability", "locality", "generation_prompts", "rivals", "augmentations", "join")
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
        raise record.rejection("target_new", found, "another target than the old one")
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
        join=_join(record, "prompt", "target_new"),
    )


def _join(record: Record, prompt_field: str, target_field: str) -> str | None:
    """What stands between prompt and target, if the record says so."""
    return record.verbatim("join") if record.has("join") else record.spacing(prompt_field, target_field)


def _neighbor(part: Record) -> Neighbor:
    _refuse_unknown(part, ("prompt", "target", "join"))
    return Neighbor(part.prompt("prompt"), part.text("target"), _join(part, "prompt", "target"))


def _portability(part: Record) -> PortabilityProbe:
    _refuse_unknown(part, ("kind", "prompt", "answers", "join"))
    kind, answers = part.text("kind"), part.answers("answers")
    if kind not in _KINDS:
        raise part.rejection("kind", repr(kind), f"one of {', '.join(_KINDS)}")
    if not answers:
        raise part.rejection("answers", "no answers", "a list of accepted answers")
    return PortabilityProbe(_KINDS[kind], part.prompt("prompt"), answers, _join(part, "prompt", "answers"))


def _locality(part: Record) -> LocalityProbe:
    _refuse_unknown(part, ("kind", "prompt", "target", "join"))
    kind, join = part.name("kind", "locality"), _join(part, "prompt", "target")
    return LocalityProbe(kind, part.prompt("prompt"), part.text("target"), join)


def _rivals(record: Record, target_new: str) -> tuple[str, ...]:
    rivals = record.answers("rivals")
    if target_new in rivals:
        raise record.rejection("rivals", f"{target_new!r}, the target itself", "other targets than target_new")
    return rivals


def _refuse_unknown(record: Record, known: tuple[str, ...]) -> None:
    for field in record.fields:
        # Tables and datasets have every column in every record: null stands for a field that is not there.
        if field not in known and record.has(field):
            raise record.rejection(field, "unknown field", f"one of {', '.join(known)}")
