"""The data formats that loaders know, by name.

To add one: a module with ``recognises`` and ``parse`` as in :mod:`consortium.data.formats.jsonl`, a line here, and
its name in the scenario's ``facts.format``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consortium.common.errors import FactsError
from consortium.data.edit import Edit
from consortium.data.formats import conflict, convsent, counterfact, jsonl, knowedit, mquake, sanitation, wikibio, zsre
from consortium.data.formats.record import Record, SkippedProbeError, SkippedRecordError

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


# In the order in which they are tried.
FORMATS: dict[str, Format] = {
    "mquake": Format(mquake.recognises, mquake.parse),
    "counterfact": Format(counterfact.recognises, counterfact.parse),
    "zsre": Format(zsre.recognises, zsre.parse),
    "knowedit": Format(knowedit.recognises, knowedit.parse),
    "wikibio": Format(wikibio.recognises, wikibio.parse),
    "convsent": Format(convsent.recognises, convsent.parse),
    "sanitation": Format(sanitation.recognises, sanitation.parse),
    "conflict": Format(conflict.recognises, conflict.parse),
    "jsonl": Format(jsonl.recognises, jsonl.parse),
}


def find_format(name: str, first: Sequence[Record]) -> tuple[str, Format]:
    """Name and format called ``name``; for ``auto`` the one that recognises what the first records have together.

    A field that is null in one record, or missing, may be there in the next: each counts as the first record has it
    where it is not null.

    Raises:
        FactsError: there is no such format, or none recognises the records.
    """
    if name != "auto":
        if name not in FORMATS:
            raise FactsError(f"unknown format {name!r}", f"auto, {', '.join(FORMATS)}", "change facts.format")
        return name, FORMATS[name]
    fields = _together(first)
    found = likely_formats(fields)
    if found:
        return found[0], FORMATS[found[0]]
    raise FactsError(
        f"{first[0].place}: fields {', '.join(fields) or '(none)'} belong to no known format",
        f"records of one of the formats {', '.join(FORMATS)}",
        "convert the file to Consortium's own format, described in consortium/facts/jsonl.py",
    )


def likely_formats(fields: Mapping[str, Any]) -> list[str]:
    """Names of the formats that a record with these fields may be in, the likeliest first."""
    return [name for name, known in FORMATS.items() if known.recognises(fields)]


def _together(records: Sequence[Record]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for record in records:
        for name, value in record.fields.items():
            if fields.get(name) is None:
                fields[name] = value
    return fields
