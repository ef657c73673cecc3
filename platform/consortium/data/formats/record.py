"""One record of a data source, read field by field; every refusal names the place, the field and what stood there.

White space is removed at both ends of subjects and targets, and at the end of prompts but for line breaks;
:meth:`Record.spacing` keeps what of it says how a target joins its prompt. Braces other than the template's ``{}`` are
allowed in whole prompts, where nothing is filled in, and refused in templates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from consortium.common.errors import FactsError
from consortium.common.reading import text_fault

_REMEDY = "correct the record, or name its format with facts.format if another was taken for it"
_KINDS: dict[type, str] = {
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


class SkippedRecordError(Exception):
    """A well-formed record of a published set that cannot serve as an edit; loaders count, log and leave it out."""


class SkippedProbeError(Exception):
    """A well-formed question of a published set that cannot be asked; counted, logged and left out like a record."""


@dataclass(frozen=True)
class Record:
    """A record and where it stands.

    Attributes:
        fields: the record as parsed from JSON or a dataset; null stands for a field that is not there.
        source: file or dataset, for messages.
        number: the record's number in its source, from 1.
        line: its line in the file, where records are lines.
        prefix: path of this part within the record, ending in a dot, or empty.
    """

    fields: Mapping[str, Any]
    source: str
    number: int
    line: int | None = None
    prefix: str = ""

    @property
    def place(self) -> str:
        """Where the record stands, in words."""
        line = "" if self.line is None else f" (line {self.line})"
        return f"{self.source}, record {self.number}{line}"

    def rejection(self, field: str, found: str, expected: str) -> FactsError:
        """The error that refuses ``field``."""
        return FactsError(f"{self.place}, field `{self.prefix}{field}`: {found}", expected, _REMEDY)

    def has(self, field: str) -> bool:
        """Whether the field is there and not null."""
        return self.fields.get(field) is not None

    def text(self, field: str) -> str:
        """A text that is not blank, without white space at its ends; FactsError otherwise."""
        return self._text(field, self.fields.get(field)).strip()

    def prompt(self, field: str) -> str:
        """A whole prompt, without white space behind its last line."""
        return _without_spacing(self._text(field, self.fields.get(field)))

    def verbatim(self, field: str) -> str:
        """A text as it stands, which may be blank."""
        value = self.fields.get(field)
        if not isinstance(value, str):
            raise self.rejection(field, self._absent(field) or _describe(value), "text")
        return self._whole(field, value)

    def spacing(self, prompt_field: str, target_field: str) -> str | None:
        """How a record says that a target joins its prompt: by white space at the one's end or the other's beginning.

        None where there is no white space: the rule of :mod:`consortium.models.joining` then decides. A run of spaces
        counts as one. Of several answers the first is looked at.
        """
        prompt, target = self.fields.get(prompt_field), self.fields.get(target_field)
        while isinstance(target, list) and target:
            target = target[0]
        if isinstance(target, Mapping):  # as CounterFact writes targets
            target = target.get("str")
        if not isinstance(prompt, str) or not isinstance(target, str):
            return None
        found = prompt[len(_without_spacing(prompt)) :] + target[: len(target) - len(target.lstrip())]
        return re.sub(" +", " ", found) or None

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of whole prompts; a single text counts as a list of one, and an absent field as none."""
        items = enumerate(self._as_list(field))
        return tuple(_without_spacing(self._text(f"{field}[{place}]", item)) for place, item in items)

    def answers(self, field: str) -> tuple[str, ...]:
        """All texts of a text, a list of texts or a list of such lists, in order; no blanks, nulls and repetitions.

        Data sets write accepted answers in these three ways; an absent field has none.
        """
        found: list[str] = []
        for place, item in enumerate(self._as_list(field)):
            names = item if isinstance(item, list) else [item]
            for name in names:
                if name is None:
                    continue
                if not isinstance(name, str):
                    raise self.rejection(f"{field}[{place}]", _describe(name), "text, or a list of texts")
                found.append(self._whole(f"{field}[{place}]", name).strip())
        return tuple(dict.fromkeys(filter(None, found)))

    def _as_list(self, field: str) -> list[Any]:
        value = self.fields.get(field)
        return [value] if isinstance(value, str) else self.items(field)

    def items(self, field: str) -> list[Any]:
        """A list; empty when the field is absent."""
        value = self.fields.get(field)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.rejection(field, _describe(value), "a list")
        return value

    def part(self, field: str) -> Record:
        """The object in a field."""
        return self._part(field, self.fields.get(field))

    def parts(self, field: str) -> tuple[Record, ...]:
        """The objects in a list; none when the field is absent."""
        return tuple(self._part(f"{field}[{place}]", item) for place, item in enumerate(self.items(field)))

    def template(self, field: str) -> str:
        """A prompt with exactly one ``{}`` for the subject and no other brace."""
        return self.check_template(field, self.prompt(field))

    def check_template(self, field: str, prompt: str) -> str:
        """``prompt`` itself, if it is a template; FactsError naming ``field`` otherwise."""
        expected = "a prompt with exactly one {} in the subject's place and no other braces"
        if prompt.count("{}") != 1:
            raise self.rejection(field, f"{prompt.count('{}')} times {{}} in {shorten(prompt)}", expected)
        if re.search(r"[{}]", prompt.replace("{}", "")):
            raise self.rejection(field, f"stray braces in {shorten(prompt)}", expected)
        return prompt

    def name(self, field: str, default: str) -> str:
        """A text or whole number that names something, as text; ``default`` when absent."""
        if not self.has(field):
            return default
        value = self.fields[field]
        return str(value) if type(value) is int else self.text(field)

    def _part(self, field: str, value: Any) -> Record:
        if not isinstance(value, Mapping):
            raise self.rejection(field, self._absent(field) or _describe(value), "an object")
        return Record(value, self.source, self.number, self.line, f"{self.prefix}{field}.")

    def _text(self, field: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self.rejection(field, self._absent(field) or _describe(value), "text")
        if not value.strip():
            raise self.rejection(field, "empty text", "text that is not blank")
        return self._whole(field, value)

    def _whole(self, field: str, text: str) -> str:
        """The text itself, if it is one of whole characters."""
        fault = text_fault(text)
        if fault is not None:
            raise self.rejection(field, fault, "text of whole characters, without U+0000")
        return text

    def _absent(self, field: str) -> str:
        return "missing" if field not in self.fields and "[" not in field else ""


def subject_template(record: Record, field: str, subject: str) -> str | None:
    """The prompt in ``field`` with ``{}`` in place of the subject's first mention; None when it is not mentioned.

    A mention as a whole word is preferred to one inside another word.
    """
    prompt = record.prompt(field)
    name = re.escape(subject)
    mention = re.search(rf"(?<!\w){name}(?!\w)", prompt) or re.search(name, prompt)
    if mention is None:
        return None
    return record.check_template(field, f"{prompt[: mention.start()]}{{}}{prompt[mention.end() :]}")


def editable_template(record: Record, field: str, subject: str) -> str:
    """:func:`subject_template` for published sets: SkippedRecordError where the prompt cannot be made a template."""
    if re.search(r"[{}]", record.prompt(field)):
        raise SkippedRecordError("the prompt holds braces of its own")
    template = subject_template(record, field, subject)
    if template is None:
        raise SkippedRecordError(f"the prompt does not contain the subject {subject!r}")
    return template


def _without_spacing(prompt: str) -> str:
    """A prompt without the white space at its end that only joins it to a target: line breaks are the prompt's own."""
    words = prompt.rstrip()
    return words + prompt[len(words) : prompt.rfind("\n", len(words)) + 1]


def shorten(value: Any, width: int = 60) -> str:
    """How a value looks, cut after ``width`` characters."""
    text = repr(value)
    return text if len(text) <= width else f"{text[:width]}…"


def _describe(value: Any) -> str:
    return f"{_KINDS.get(type(value), type(value).__name__)}, {shorten(value)}" if value is not None else "null"
