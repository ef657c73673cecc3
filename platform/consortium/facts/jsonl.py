"""Consortium's own records: the fields of :class:`~consortium.facts.edit.Edit`, one JSON object per line.

==============  ========  ===========================================================================
field           needed    meaning
==============  ========  ===========================================================================
``subject``     yes       the subject as it stands in the prompt
``prompt``      yes       text with exactly one ``{}`` for the subject, ending where the target begins
``target_new``  yes       what the model shall say
``target_old``  no        what it says (or should say) before the edit
``relation``    no        name of the relation; the prompt itself when absent
``fact_id``     no        unique name (text or whole number); the record's number when absent
``paraphrases`` no        list of whole prompts that ask the same in other words
``neighbors``   no        list of ``{"prompt": …, "target": …}``: answers that must stay
==============  ========  ===========================================================================

Unknown fields are refused, since a mistyped name would silently drop probes. A file that holds one JSON
array of such objects is read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consortium.facts.edit import Edit, Neighbor
from consortium.facts.record import Record

_NEEDED = ("subject", "prompt", "target_new")
_FIELDS = ("fact_id", "relation", *_NEEDED, "target_old", "paraphrases", "neighbors")


def recognises(fields: Mapping[str, Any]) -> bool:
    """Whether a record with these fields looks like Consortium's own."""
    return "prompt" in fields and any(name in fields for name in ("subject", "target_new"))


def parse(record: Record) -> Edit:
    """The edit of a record; FactsError names the field that is malformed."""
    _refuse_unknown(record, _FIELDS)
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
    )


def _neighbor(part: Record) -> Neighbor:
    _refuse_unknown(part, ("prompt", "target"))
    return Neighbor(part.prompt("prompt"), part.text("target"))


def _refuse_unknown(record: Record, known: tuple[str, ...]) -> None:
    for field in record.fields:
        if field not in known:
            raise record.refusal(field, "unknown field", f"one of {', '.join(known)}")
