"""More templates for facts, by relation, from a file: words in which an edit may be asked for once more.

The file is one JSON object, relation → list of prompts with one ``{}`` for the subject::

    {"P69": ["{} is an alumnus of", "{} studied at"], "P276": ["{} can be found in"]}

as in the round-edit sets of Li et al. 2024 (arXiv 2310.02129). They come on top of those that a source brings itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from consortium.common.errors import FactsError
from consortium.common.reading import UnreadableError, parse_json, read_text
from consortium.data.edit import Edit
from consortium.data.formats.record import Record

_MOST_BYTES = 1 << 28
_SHAPE = 'one JSON object, {"RELATION": ["text with {} for the subject", …], …}'


def read_augmentations(path: Path) -> dict[str, tuple[str, ...]]:
    """Relation → templates of a file; FactsError where it cannot be read or has another shape."""
    try:
        content = parse_json(read_text(path, _MOST_BYTES))
    except UnreadableError as error:
        place = "" if error.line is None else f", line {error.line}, column {error.column}"
        raise FactsError(f"facts.augmentations: {path}{place}: {error}", _SHAPE, "correct the file") from error
    if not isinstance(content, dict):
        raise FactsError(f"facts.augmentations: {path} holds no object", _SHAPE, "correct the file")
    found = {relation: _templates(Record(content, str(path), 1), relation) for relation in content}
    if not any(found.values()):
        raise FactsError(f"facts.augmentations: {path} holds no templates", _SHAPE, "name another file, or null")
    return found


def _templates(record: Record, relation: str) -> tuple[str, ...]:
    texts = record.texts(relation)
    return tuple(record.check_template(f"{relation}[{place}]", text) for place, text in enumerate(texts))


def with_augmentations(edits: Sequence[Edit], by_relation: Mapping[str, Sequence[str]]) -> tuple[Edit, ...]:
    """The edits with their relation's templates added to their own.

    Raises:
        FactsError: no edit is of any of the relations.
    """
    relations = {edit.relation for edit in edits}
    if relations.isdisjoint(by_relation):
        named, known = (", ".join(sorted(names)[:5]) for names in (set(by_relation), relations))
        raise FactsError(
            f"facts.augmentations: its relations ({named}, …) are none of the facts'",
            f"relations of the facts, such as {known}",
            "name the relations as the facts do, or set facts.augmentations to null",
        )
    return tuple(_added(edit, by_relation.get(edit.relation, ())) for edit in edits)


def _added(edit: Edit, templates: Sequence[str]) -> Edit:
    together: Any = dict.fromkeys([*edit.augmentations, *templates])
    return replace(edit, augmentations=tuple(together)) if templates else edit


def asked_again(edit: Edit, most: int) -> tuple[Edit, ...]:
    """The edit in other words, ``most`` times at most: same subject and target, other templates, no probes.

    A template that says what the edit itself or one of its paraphrases says is left out: nothing is trained on what it
    is judged by.
    """
    screened = {edit.text, *edit.paraphrases}
    chosen = [template for template in edit.augmentations if template.replace("{}", edit.subject, 1) not in screened]
    return tuple(replace(edit, prompt=template, paraphrases=(), neighbors=()) for template in chosen[:most])
