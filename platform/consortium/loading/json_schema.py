"""``consortium schema``: the JSON Schema of a scenario, with the names that only registries know."""

from __future__ import annotations

import copy
from typing import Any

from consortium.editing.editors.registry import EDITORS
from consortium.loading import allowed
from consortium.merging.registry import bounds_of, known


def full_json_schema() -> dict[str, Any]:
    """The schema's own words, the names of merge methods and editors, and each method's parameters."""
    schema = copy.deepcopy(allowed.json_schema())
    definitions = schema["$defs"]
    definitions["EditorSpec"]["properties"]["method"]["enum"] = list(EDITORS)
    definitions["MethodSpec"] = _method_schema(definitions["MethodSpec"])
    items = definitions["MergeSpec"]["properties"]["methods"]["items"]
    for branch in items["anyOf"]:
        if branch.get("type") == "string":
            branch["enum"] = known()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _method_schema(common: dict[str, Any]) -> dict[str, Any]:
    """One alternative for each merge method: its name, and its parameters with their bounds."""
    return {"oneOf": [_one_method(common, name) for name in known()]}


def _one_method(common: dict[str, Any], name: str) -> dict[str, Any]:
    properties = {**common["properties"], "name": {"const": name}}
    for parameter, bounds in bounds_of(name).items():
        low = "minimum" if bounds.low_included else "exclusiveMinimum"
        properties[parameter] = {"type": "number", low: bounds.low, "description": bounds.description}
        if bounds.high is not None:
            high = "maximum" if bounds.high_included else "exclusiveMaximum"
            properties[parameter][high] = bounds.high
    return {**common, "title": name, "properties": properties, "additionalProperties": False}
