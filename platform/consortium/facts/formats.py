"""The data formats that loaders know, by name.

To add one: a module with ``recognises`` and ``parse`` as in :mod:`consortium.facts.jsonl`, a line here, and
its name in the scenario's ``facts.format``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from consortium.errors import FactsError
from consortium.facts import conflict, convsent, counterfact, jsonl, knowedit, sanitation, wikibio, zsre
from consortium.facts.edit import Edit
from consortium.facts.record import Record, SkippedProbeError, SkippedRecordError

#: What a record gives: one edit, or several together with the reasons for what of the record is left out.
Parsed = Edit | tuple[Edit | SkippedRecordError | SkippedProbeError, ...]


@dataclass(frozen=True)
class Format:
    """A shape of records.

    Attributes:
        recognises: whether a record with these fields is of this format.
        parse: turns a record into edits; raises SkippedRecordError for a record that cannot serve as any.
    """

    recognises: Callable[[Mapping[str, Any]], bool]
    parse: Callable[[Record], Parsed]


# In the order in which the first record is tried.
FORMATS: dict[str, Format] = {
    "counterfact": Format(counterfact.recognises, counterfact.parse),
    "zsre": Format(zsre.recognises, zsre.parse),
    "knowedit": Format(knowedit.recognises, knowedit.parse),
    "wikibio": Format(wikibio.recognises, wikibio.parse),
    "convsent": Format(convsent.recognises, convsent.parse),
    "sanitation": Format(sanitation.recognises, sanitation.parse),
    "conflict": Format(conflict.recognises, conflict.parse),
    "jsonl": Format(jsonl.recognises, jsonl.parse),
}


def find_format(name: str, first: Record) -> Format:
    """The format called ``name``; for ``auto`` the one that recognises the first record, FactsError if none does."""
    if name != "auto":
        if name not in FORMATS:
            raise FactsError(f"unknown format {name!r}", f"auto, {', '.join(FORMATS)}", "change facts.format")
        return FORMATS[name]
    for known in FORMATS.values():
        if known.recognises(first.fields):
            return known
    raise FactsError(
        f"{first.place}: fields {', '.join(first.fields) or '(none)'} belong to no known format",
        f"records of one of the formats {', '.join(FORMATS)}",
        "convert the file to Consortium's own format, described in consortium/facts/jsonl.py",
    )
