"""Conflicting edits of Li et al. (arXiv 2310.02129), and CollabEdit's 1-to-n ones after them (arXiv 2410.09508).

CollabEdit's ``easy_conflict``: two parties want different objects of a relation that has several true ones::

    {"type": "1-2@P136", "edit": {"relation": {"id": "P136", "prompt": "The genre of {} is", "query": "What is …?"},
     "subject": {"label": "GothBoiClique"}, "object": {"label": "rap"}, "new_object": "space pops",
     "conflict_object": {"label": "space rock"}}, "true_objects": […]}

gives one edit for ``new_object`` (for ``object`` where there is none) whose rival is the conflicting object. The sets
of Li et al. name two edits that contradict each other, one asked for after the other::

    {"type": "reverse", "edits": [{"relation": …, "subject": …, "object": …, "new_object": …}, {…}]}

* ``coverage``: the second asks for another object of the same question: one edit, the second's object its rival.
* ``reverse`` (the notable work of A is B; the creator of B is C): two edits. What each implies for the other's
  question is its portability, and the second's rival is what the first implies.
* ``composite`` (the spouse of B is C; the father of A, whose mother is B, is D): two edits. The first implies that A's
  father is C: its portability, and the second's rival.

A relation's ``query`` serves as paraphrase. Left out are edits that ask for what is so already, and pairs that want the
same. The other ``true_objects`` are not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consortium.common.counting import count
from consortium.data.edit import Edit, PortabilityProbe
from consortium.data.formats.record import Record, SkippedRecordError

_KINDS = ("coverage", "reverse", "composite")


def recognises(fields: Mapping[str, Any]) -> bool:
    """Whether a record with these fields is in one of the shapes."""
    one, several = fields.get("edit"), fields.get("edits")
    return (isinstance(one, Mapping) and "relation" in one) or (isinstance(several, list) and "type" in fields)


def parse(record: Record) -> tuple[Edit | SkippedRecordError, ...]:
    """The edits of a record, and the reasons for those left out.

    Raises:
        FactsError: the record is malformed.
        SkippedRecordError: its two sides do not contradict each other.
    """
    if not record.has("edits"):
        return (_easy(record),)
    kind = record.text("type")
    if kind not in _KINDS:
        raise record.rejection("type", repr(kind), f"one of {', '.join(_KINDS)}")
    edits = record.parts("edits")
    if len(edits) != 2:
        raise record.rejection("edits", f"{count(len(edits), 'edit')}", "two that contradict each other")
    if kind == "coverage":
        return (_coverage(record, *edits),)
    return (_reverse if kind == "reverse" else _composite)(record, *edits)


def _easy(record: Record) -> Edit:
    edit = record.part("edit")
    rival = _label(edit, "conflict_object")
    target = _label(edit, "new_object" if edit.has("new_object") else "object")
    _refuse_the_same(target, rival)
    old = _label(edit, "object")
    return _edit(edit, f"conflict-{record.number}", target, None if old == target else old, rivals=(rival,))


def _coverage(record: Record, first: Record, second: Record) -> Edit:
    target, rival = _label(first, "new_object"), _label(second, "new_object")
    _refuse_the_same(target, rival)
    if _question(first) != _question(second):
        raise SkippedRecordError(f"two questions: {_question(first)!r} and {_question(second)!r}")
    found = _changing(first, f"coverage-{record.number}", rivals=(rival,))
    if isinstance(found, SkippedRecordError):
        raise found
    return found


def _reverse(record: Record, first: Record, second: Record) -> tuple[Edit | SkippedRecordError, ...]:
    subject, other = _label(first, "subject"), _label(second, "new_object")
    if _label(second, "subject") != _label(first, "new_object"):
        raise SkippedRecordError("the second edit is not about the first one's object")
    _refuse_the_same(subject, other)
    # The first implies that the second's question is answered with its subject, and the other way round.
    implied = PortabilityProbe("generalisation", _question(second), (subject,))
    in_turn = PortabilityProbe("generalisation", _question(first, other), (_label(second, "subject"),))
    return (
        _changing(first, f"reverse-{record.number}/1", portability=(implied,)),
        _changing(second, f"reverse-{record.number}/2", portability=(in_turn,), rivals=(subject,)),
    )


def _composite(record: Record, first: Record, second: Record) -> tuple[Edit | SkippedRecordError, ...]:
    concluded, other = _label(first, "new_object"), _label(second, "new_object")
    _refuse_the_same(concluded, other)
    implied = PortabilityProbe("reasoning", _question(second), (concluded,))
    return (
        _changing(first, f"composite-{record.number}/1", portability=(implied,)),
        _changing(second, f"composite-{record.number}/2", rivals=(concluded,)),
    )


def _changing(edit: Record, fact_id: str, **more: Any) -> Edit | SkippedRecordError:
    """An edit of a pair; the reason for leaving it out where it changes nothing."""
    old, new = _label(edit, "object"), _label(edit, "new_object")
    if old == new:
        return SkippedRecordError(f"asks for {new!r}, which is so already")
    return _edit(edit, fact_id, new, old, **more)


def _edit(edit: Record, fact_id: str, target_new: str, target_old: str | None, **more: Any) -> Edit:
    relation, subject = edit.part("relation"), _label(edit, "subject")
    prompt = relation.template("prompt")
    query = (relation.template("query").replace("{}", subject, 1),) if relation.has("query") else ()
    return Edit(fact_id, relation.name("id", prompt), subject, prompt, target_new, target_old, query, **more)


def _question(edit: Record, subject: str | None = None) -> str:
    """The edit's prompt about its subject, or about another one."""
    return edit.part("relation").template("prompt").replace("{}", subject or _label(edit, "subject"), 1)


def _label(edit: Record, field: str) -> str:
    """The name of an entity, which is written as text or as ``{"id": …, "label": …}``."""
    return edit.text(field) if isinstance(edit.fields.get(field), str) else edit.part(field).text("label")


def _refuse_the_same(target: str, rival: str) -> None:
    if target == rival:
        raise SkippedRecordError(f"both sides want {target!r}")
