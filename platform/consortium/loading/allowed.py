"""What the schema allows at a key path, in words; read from the JSON Schema, so that it cannot drift."""

from __future__ import annotations

from functools import cache
from typing import Any

from consortium.common.counting import count
from consortium.evaluation.registry import by_name
from consortium.loading.yaml_text import KeyPath
from consortium.scenario.schema import Scenario

SchemaNode = dict[str, Any]


@cache
def json_schema() -> SchemaNode:
    """The JSON Schema of :class:`Scenario`, with the names of metrics."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Scenario.model_json_schema()}
    schema["$defs"]["EvaluateSpec"]["properties"]["metrics"]["items"]["enum"] = by_name()
    return schema


def is_tag(part: str | int) -> bool:
    """Whether a part of a pydantic error's location names a branch of the schema and not a key."""
    return isinstance(part, str) and part.startswith("<") and part.endswith(">")


def resolved(node: SchemaNode) -> SchemaNode:
    """``node``, or what its reference points to with the node's own words kept."""
    if "$ref" not in node:
        return node
    target: SchemaNode = json_schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def branches(node: SchemaNode) -> list[SchemaNode]:
    """The alternatives of a node, resolved; the node itself when it has none."""
    node = resolved(node)
    members = node.get("oneOf") or node.get("anyOf")
    return [branch for member in members for branch in branches(member)] if members else [node]


def node_at(location: KeyPath) -> SchemaNode | None:
    """The schema's node at a location (key path, with pydantic's branch tags where it has them); None if unknown."""
    node: SchemaNode | None = json_schema()
    for part in location:
        if node is None:
            return None
        node = _branch(node, str(part)) if is_tag(part) else _child(node, part)
    return node


def _branch(node: SchemaNode, tag: str) -> SchemaNode:
    """The alternative that a tag names: by its title, lists by their type, or else the one that is no model."""
    name = tag.strip("<>")
    members = branches(node)
    plain = [member for member in members if "properties" not in member]
    return next(
        (member for member in members if name in (member.get("title"), member.get("type"))), plain[0] if plain else node
    )


def _child(node: SchemaNode, part: str | int) -> SchemaNode | None:
    for member in branches(node):
        if isinstance(part, int):
            items = member.get("prefixItems", [])
            child = items[part] if part < len(items) else member.get("items")
        else:
            child = member.get("properties", {}).get(part)
        if child is not None:
            return resolved(child)
    return None


def keys_of(node: SchemaNode) -> list[str]:
    """All keys that a mapping at this node may have."""
    return [key for member in branches(node) for key in member.get("properties", {})]


def kinds_at(node: SchemaNode) -> tuple[str, list[str]]:
    """The key that tells a node's alternatives apart, and all that it may be; an empty key where none does."""
    mappings = [member["properties"] for member in branches(node) if "properties" in member]
    for key in mappings[0] if len(mappings) > 1 else ():
        names = [_names(resolved(properties.get(key, {}))) for properties in mappings]
        flat = [name for each in names for name in each]
        if all(names) and len(set(flat)) == len(flat):
            return key, flat
    return "", []


def _names(node: SchemaNode) -> list[str]:
    return [node["const"]] if "const" in node else list(node.get("enum", ()))


def words_for(node: SchemaNode) -> str:
    """What is allowed at a node, in words."""
    key, names = kinds_at(node)
    if not key:
        return " or ".join(dict.fromkeys(map(_branch_words, branches(node))))
    mapping = f"a mapping with {key}: one of {', '.join(names)}"
    has_short_form = any(branch.get("enum") == names for branch in branches(node))
    return f"{mapping}; or such a {key} alone" if has_short_form else mapping


def _branch_words(node: SchemaNode) -> str:
    if "const" in node:
        return str(node["const"])
    if "enum" in node:
        return "one of " + ", ".join(str(value) for value in node["enum"])
    kind = node.get("type")
    if kind in ("integer", "number"):
        return " ".join(["a whole number" if kind == "integer" else "a number", *_bounds(node)])
    if kind == "string":
        description = node.get("description")
        return f"text: {description}" if description else "text"
    if kind == "array":
        return _list_words(node)
    if kind == "object":
        return "a mapping with the keys " + ", ".join(node.get("properties", {}))
    return "null" if kind == "null" else "a value"


def _bounds(node: SchemaNode) -> list[str]:
    low, above, high = node.get("minimum"), node.get("exclusiveMinimum"), node.get("maximum")
    if low is not None and high is not None:
        return [f"from {low:g} to {_plain(high)}"]
    if above is not None and high is not None:
        return [f"above {above:g} and at most {_plain(high)}"]
    if low is not None:
        return [f"of at least {low:g}"]
    return [f"above {above:g}"] if above is not None else []


def _plain(number: float) -> str:
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:g}"


def _list_words(node: SchemaNode) -> str:
    if "prefixItems" in node:
        return f"a list of {count(len(node['prefixItems']), 'item')}, each {words_for(node['prefixItems'][0])}"
    least = f" of at least {node['minItems']} item" if node.get("minItems") else ""
    return f"a list{least}, each {words_for(node['items'])}"
