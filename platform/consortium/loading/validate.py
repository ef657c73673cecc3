"""Plain data → a checked :class:`Scenario`; what pydantic refuses is put in the words of the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from consortium.common.errors import closest, shown
from consortium.loading import allowed
from consortium.loading.checks.metrics import unknown_metrics
from consortium.loading.field_errors import FieldError
from consortium.loading.yaml_text import KeyPath
from consortium.scenario.schema import Scenario

#: Sizes of numbers that a scenario can hold. Others are keyed digests of the pen, and overflow in arithmetic or in
#: tables.
LARGEST = 1e15
SMALLEST = 1e-15
#: A seed is hashed, and may be any number of 64 bits.
LARGEST_SEED = (1 << 64) - 1


def validate(data: Mapping[str, Any]) -> tuple[Scenario | None, list[FieldError]]:
    """The scenario that ``data`` says, or None and every mistake that its types and the sizes of its numbers show."""
    absurd = [*_absurd_numbers(data, ()), *unknown_metrics(data)]
    try:
        scenario = Scenario.model_validate_json(json.dumps(data))
    except ValidationError as error:
        field_errors = [_field_error(details) for details in error.errors(include_url=False) if not _is_echo(details)]
        places = {field_error.path for field_error in field_errors}
        return None, list(dict.fromkeys([*field_errors, *(each for each in absurd if each.path not in places)]))
    return (None, absurd) if absurd else (scenario, [])


def _absurd_numbers(value: Any, path: KeyPath) -> Iterator[FieldError]:
    """Numbers that are too large or too close to zero for any key, wherever they stand."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _absurd_numbers(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _absurd_numbers(inner, (*path, index))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        largest = LARGEST_SEED if path == ("seed",) else LARGEST
        if not abs(value) <= largest or 0 < abs(value) < SMALLEST:
            is_whole = isinstance(value, int)
            allowed = f"0, or a size from {SMALLEST:g} to {LARGEST:g}" if not is_whole else f"at most {int(largest):,}"
            yield FieldError(path, f"found {shown(value)}", allowed)


def _is_echo(error: Mapping[str, Any]) -> bool:
    """A list that is too short only because pydantic left out its wrong items, which are reported themselves."""
    return bool(error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"])


def _field_error(error: Mapping[str, Any]) -> FieldError:
    location: KeyPath = error["loc"]
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_kind(location, error["input"])
    if error["type"] == "extra_forbidden":
        return _unknown_key(location)
    if error["type"] == "missing" and isinstance(location[-1], int):
        location = location[:-1]  # a list that is too short
    elif error["type"] == "missing":
        return FieldError(_path(location), "the key is missing", _words(location))
    return FieldError(_path(location), f"found {shown(error['input'])}", _words(location), _hint(error, location))


def _path(location: KeyPath) -> KeyPath:
    """The location without pydantic's tags for branches of the schema."""
    return tuple(part for part in location if not allowed.is_tag(part))


def _words(location: KeyPath) -> str:
    # Outermost branch tag left out: all alternatives are allowed, not only the one that was tried.
    end = next((index for index, part in enumerate(location) if allowed.is_tag(part)), None)
    around = location[:end] if end == len(location) - 1 else location
    node = allowed.node_at(around)
    return allowed.words_for(node) if node is not None else "another value"


def _unknown_key(location: KeyPath) -> FieldError:
    node = allowed.node_at(location[:-1])
    keys = allowed.keys_of(node) if node is not None else []
    return FieldError(_path(location), "unknown key", "the keys " + ", ".join(keys), closest(location[-1], keys))


def _unknown_kind(location: KeyPath, value: Any) -> FieldError:
    """A mapping whose kind is unknown, or a value that is no mapping."""
    node = allowed.node_at(location) or {}
    key, names = allowed.kinds_at(node)
    if not isinstance(value, Mapping):
        return FieldError(_path(location), f"found {shown(value)}", allowed.words_for(node))
    where, words = (*_path(location), key), f"one of {', '.join(names)}"
    if key not in value:
        return FieldError(where, "the key is missing", words)
    kind = value[key]
    return FieldError(where, f"found {shown(kind)}", words, closest(kind, names) if isinstance(kind, str) else "")


def _hint(error: Mapping[str, Any], location: KeyPath) -> str:
    value = error["input"]
    node = allowed.node_at(location)
    if value is None:
        return "leave the key out for its default, or write something after it"
    if location[:1] == ("model",) and error["type"] == "model_type" and isinstance(value, str):
        return f"write it as model: {{name: {value}}}"
    if error["type"] == "tuple_type":
        return f"put it in a list: [{value}]" if isinstance(value, str | int | float) else ""
    if error["type"] == "string_type":
        return f'text that looks like a number or truth value needs quotes: "{value}"'
    if isinstance(value, str) and error["type"] in ("int_type", "float_type"):
        return "write the number without quotes" if _is_number(value) else ""
    if error["type"] == "int_type" and isinstance(value, float) and value.is_integer():
        return f"write it without a decimal point: {int(value)}"
    return closest(value, node.get("enum", [])) if node is not None and isinstance(value, str) else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
