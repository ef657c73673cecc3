"""``consortium new``: a scenario file with every key, its meaning and its default, made from the schema."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from consortium.common.errors import ScenarioError
from consortium.common.terminal import printable
from consortium.loading import allowed
from consortium.loading.allowed import SchemaNode
from consortium.loading.yaml_text import parse

COMMENT_COLUMN = 34
TEMPLATE_WIDTH = 120
_HEAD = """\
# A scenario for Consortium: many parties edit one language model together.
# Every key is listed with its meaning and its default; all but `name` may be left out.
# A line that is commented out shows another form of the key above it: use it instead of that line.
#
#     consortium validate {file}
#     consortium run {file}

"""
# Examples for lists whose default is empty, and for other forms of a value; each is valid where it stands, but for
# what is removed, which needs another merge.reference and enough rounds.
_EXAMPLES = {
    ("stream", "conflict"): ["conflict: {party: 0.1, round: 0}"],
    ("stream", "phases"): ["phases:", "  - {rounds: [1, 1], edits_per_round: 2, overlap: 0.2}"],
    ("conflicts",): ["conflicts: {policy: priority, priorities: [2, 0], num_paraphrases: 3}"],
    ("unlearn", "parties"): ["parties:", "  - {round: 2, parties: [0]}"],
    ("unlearn", "edits"): ["edits:", "  - {round: 2, parties: [1], of_round: 1, share: 0.5}"],
    ("merge", "methods"): [
        "methods: [global, {name: collabedit, history_weight: 0}, {name: task_arithmetic, alpha: 0.5}]"
    ],
    ("faults",): ["faults:", "  - {round: 1, during: collect, action: kill, what: worker}"],
    ("cluster", "workers"): ["workers: 2", "workers: [{min: 1, max: 4, gpus: 0.5}, {min: 1, max: 8, device: cpu}]"],
    ("cluster", "prices"): ["prices: [{of: cpu, per_hour: 0.05}, {of: gpu-worker, per_hour: 1.2}]"],
    ("virtual_time", "devices"): [
        "devices: {speed: {lognormal: {median: 2, sigma: 0.5}}, latency_s: {uniform: [0.05, 0.2]}}"
    ],
    ("virtual_time", "devices", "classes"): [
        "classes:",
        "  - {name: phone, share: 0.7, speed: 0.5, upload: {choice: [1e5, 1e6]}}",
    ],
    ("attacks",): ["attacks:", "  - {kind: sign_flip, share: 0.25}"],
}


def write_template(path: Path) -> None:
    """Write the commented scenario to a new file.

    Raises:
        ScenarioError: the file exists, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template(path.name))
    except FileExistsError:
        found, remedy = f"{path} exists", "choose another name, or remove the file first"
        raise ScenarioError(found, "the name of a new file", remedy) from None
    except OSError as error:
        found = f"{path} cannot be written ({error.strerror})"
        raise ScenarioError(found, "a new file in a folder that can be written", "check the path") from None


def template(file_name: str) -> str:
    """The text of a commented scenario that runs as it is."""
    stem = re.sub("[^A-Za-z0-9._-]", "-", Path(file_name).stem)
    name = stem.lstrip("._-")[:100] or "my-scenario"  # as many characters as a name may have
    lines: list[str] = []
    for key, node in allowed.json_schema()["properties"].items():
        value = name if key == "name" else node.get("default")
        lines += _entry(key, value, allowed.resolved(node), (key,))
        lines.append("")
    one_line = shlex.quote(printable(file_name).replace("\n", "\\n")).encode("utf-8", "backslashreplace").decode()
    return _HEAD.format(file=one_line) + "\n".join(lines[:-1]) + "\n"


def _entry(key: str, value: Any, node: SchemaNode, path: tuple[str, ...]) -> Iterator[str]:
    """The lines of one key: its value and meaning, the keys below it, and examples."""
    indent = "  " * (len(path) - 1)
    if isinstance(value, dict):
        yield from _commented(f"{indent}{key}:", node.get("description", ""))
        for name, child in _properties(node, path).items():
            yield from _entry(name, value[name], allowed.resolved(child), (*path, name))
        yield from _other_kinds(node, f"{indent}  ")
    else:
        yield from _commented(f"{indent}{key}: {_yaml(value)}", _note(node))
    for line in _EXAMPLES.get(path, ()):
        yield f"{indent}# {line}"


def _other_kinds(node: SchemaNode, indent: str) -> Iterator[str]:
    """What a mapping of another kind than the default may hold besides, commented out."""
    key, names = allowed.kinds_at(node)
    if not key:
        return
    first, *others = (branch["properties"] for branch in allowed.branches(node))
    for name, properties in zip(names[1:], others, strict=True):
        own = {each: allowed.resolved(child) for each, child in properties.items() if each not in first}
        if own:
            yield f"{indent}# With {key}: {name}, besides:"
        for each, child in own.items():
            yield from _commented(f"{indent}# {each}: {_yaml(child.get('default'))}", _note(child))


def _properties(node: SchemaNode, path: tuple[str, ...]) -> SchemaNode:
    """The keys below a mapping, in the schema's order; of the language model where the kind of model decides."""
    location = (*path, "<LanguageModelSpec>") if path == ("model",) else path
    branches = allowed.branches(allowed.node_at(location) or node)
    properties: SchemaNode = next(branch["properties"] for branch in branches if "properties" in branch)
    key, names = allowed.kinds_at(node)
    kind = {"enum": names, "description": properties[key]["description"]} if key else {}
    return {**properties, key: kind} if key else properties


def _note(node: SchemaNode) -> str:
    description = node.get("description", "")
    words = allowed.words_for(node)
    is_plain = words.startswith("text") or "mapping" in words
    return "; ".join(part for part in (description, "" if is_plain else words) if part)


def _commented(text: str, note: str) -> Iterator[str]:
    """A line with its note behind it, or above it where the line would get too long."""
    line = f"{text:<{COMMENT_COLUMN - 1}} # {note}" if note else text
    if len(line) <= TEMPLATE_WIDTH:
        yield line
        return
    indent = text[: len(text) - len(text.lstrip())]
    yield from textwrap.wrap(note, TEMPLATE_WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}#   ")
    yield text


def _yaml(value: Any) -> str:
    """A value on one line, as YAML; names of methods without their empty labels."""
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(item["name"] if isinstance(item, dict) else item) for item in value) + "]"
    if isinstance(value, str) and value and parse(value, "a default").data == value:
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False)
