"""YAML text → plain data and the line of every key.

Scalars follow YAML 1.2's core schema: only ``true`` and ``false`` are truth values (YAML 1.1 also takes
``on``, ``off``, ``yes`` and ``no``), and ``1e-3`` is a number (YAML 1.1 takes it for text). Dates stay text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from consortium.common.counting import count as counted
from consortium.common.errors import ScenarioError

KeyPath = tuple[str | int, ...]

#: Bounds of a document. A scenario is a few kilobytes; a text beyond these would take minutes to read.
MAX_CHARACTERS = 1 << 18
MAX_DEPTH = 40
MAX_VALUES = 100_000

_LONGEST_KEY = 200
_LONGEST_NUMBER = 100
_SURROGATE = re.compile("[\ud800-\udfff]")
_HALF = "half a surrogate pair, which is no character"
_TAG = "tag:yaml.org,2002:"
# Kind of scalar → (what it looks like, first characters it can have).
_SCALARS: dict[str, tuple[str, list[str]]] = {
    "merge": ("<<", ["<"]),
    "null": ("~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": ("true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": ("[-+]?[0-9][0-9_]*", list("-+0123456789")),
    "float": (
        r"[-+]?([0-9][0-9_]*\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
}


@dataclass(frozen=True)
class YamlText:
    """A parsed text.

    Attributes:
        data: mappings, lists, text, numbers, truth values and None.
        lines: key path → line number, from 1.
    """

    data: Any
    lines: dict[KeyPath, int]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the core schema's scalars and no other tags."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own protocol)
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """One value; refuses what is nested deeper than a scenario can be."""
        if self.depth > MAX_DEPTH:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            problem = f"values nested more than {MAX_DEPTH} deep"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    if len(text) > _LONGEST_NUMBER:
        raise yaml.constructor.ConstructorError(
            None, None, f"a number of {counted(len(text), 'digit')}", node.start_mark
        )
    return int(text)


_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(_TAG) in ("null", "bool", "float", "str", "seq", "map")
}
_Loader.add_constructor(_TAG + "int", _whole_number)
for _kind, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"(?:{_pattern})$"), _first)


def parse(text: str, origin: str) -> YamlText:
    """Parse one YAML document.

    Args:
        text: the document.
        origin: where it came from, for messages.

    Raises:
        ScenarioError: the text is not YAML, holds several documents, tags of other kinds, a key given
            twice in one mapping, half a surrogate pair, or a value that contains itself (names line and column); or it
            is larger, deeper or, with its aliases written out, of more values than a scenario can be.
    """
    if len(text) > MAX_CHARACTERS:
        raise _too_large(f"{origin}: {counted(len(text), 'character')}", f"at most {MAX_CHARACTERS:,}")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return YamlText(None, {})
        _check_size(node, origin)
        lines = dict(_lines(node, (), ()))
        return YamlText(loader.construct_document(node), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _refusal(f"{origin}{place}: {_plain(error)}") from None
    except yaml.reader.ReaderError as error:
        found = f"{origin}: character number {error.position + 1} (code {error.character:#x}) may not stand in YAML"
        raise _refusal(found) from None
    except ScenarioError:
        raise
    except (ValueError, KeyError) as error:
        raise _refusal(f"{origin}: a value does not fit its !!tag: {error}") from None
    except RecursionError:
        raise _refusal(f"{origin}: values nested too deeply") from None


def _check_size(node: yaml.Node, origin: str) -> None:
    """Refuse a document that its aliases multiply (each alias stands for all that it names)."""
    num_values: dict[int, int] = {}  # of each node with all below it; an alias leads to the very same node

    def count(node: yaml.Node, outer: frozenset[int]) -> int:
        if id(node) in outer:
            raise yaml.composer.ComposerError(None, None, "a value contains itself", node.start_mark)
        if id(node) not in num_values:
            below = outer | {id(node)}
            inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
            parts = inner if isinstance(node, yaml.CollectionNode) else []
            num_values[id(node)] = 1 + sum(count(part, below) for part in parts)
        return num_values[id(node)]

    found = count(node, frozenset())
    if found > MAX_VALUES:
        raise _too_large(f"{origin}: {found:.3g} values, aliases counted in", f"at most {MAX_VALUES:,}")


def _lines(node: yaml.Node, path: KeyPath, outer: tuple[yaml.Node, ...]) -> Iterator[tuple[KeyPath, int]]:
    """Every key path below ``node`` with its line; refuses keys given twice and values inside themselves."""
    if any(node is other for other in outer):
        raise yaml.composer.ComposerError(None, None, "a value contains itself", node.start_mark)
    outer = (*outer, node)
    if isinstance(node, yaml.ScalarNode) and _SURROGATE.search(node.value):
        raise yaml.constructor.ConstructorError(None, None, _HALF, node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), item.start_mark.line + 1
            yield from _lines(item, (*path, index), outer)
    elif isinstance(node, yaml.MappingNode):
        first_line: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            _check_key(key, first_line)
            first_line[key.value] = line
            yield (*path, key.value), line
            yield from _lines(value, (*path, key.value), outer)


def _check_key(key: yaml.Node, first_line: dict[str, int]) -> None:
    """Refuse a key that is no plain word, or that its mapping had before."""
    problem = ""
    if not isinstance(key, yaml.ScalarNode):
        problem = "a key must be a plain word"
    elif len(key.value) > _LONGEST_KEY:
        problem = f"a key of {counted(len(key.value), 'character')}"
    elif _SURROGATE.search(key.value):
        problem = _HALF
    elif key.value in first_line:
        problem = f"the key {key.value!r} is given twice, first in line {first_line[key.value]}"
    if problem:
        raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)


def _too_large(found: str, expected: str) -> ScenarioError:
    return ScenarioError(
        found, f"{expected}, in one YAML document", "write the values out, and leave out what is unused"
    )


def _plain(error: yaml.MarkedYAMLError) -> str:
    parts = [error.context, error.problem]
    return " ".join(part for part in parts if part)


def _refusal(found: str) -> ScenarioError:
    return ScenarioError(
        found,
        "one YAML document of plain mappings, lists, text and numbers",
        "correct that place; text with : or # in it needs quotes, and keys of one mapping start in one column",
    )
