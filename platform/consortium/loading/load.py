"""From a name or a file, with overrides, to a checked scenario."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consortium.common.errors import ScenarioError, closest, shown
from consortium.common.reading import is_file
from consortium.loading import allowed
from consortium.loading.builtin_scenarios import scenario_names, scenario_path
from consortium.loading.field_errors import REMEDY, SourcePlaces, refuse
from consortium.loading.overrides import apply_overrides, parse_override
from consortium.loading.validate import validate
from consortium.loading.yaml_text import MAX_CHARACTERS, parse
from consortium.scenario.schema import Scenario


@dataclass(frozen=True)
class LoadedScenario:
    """A scenario and where it came from.

    Attributes:
        scenario: the scenario; its keys, types and bounds are right, the rest is for :mod:`consortium.loading.check`.
        origin: the file, for messages.
        base_dir: the folder that relative paths in the scenario start from.
        places: where each key was written.
    """

    scenario: Scenario
    origin: str
    base_dir: Path
    places: SourcePlaces


def load_scenario(name_or_file: str, overrides: Sequence[str] = ()) -> LoadedScenario:
    """Read a scenario and check it against the schema.

    Args:
        name_or_file: name of a shipped scenario, or path of a YAML file. A file of that very path wins.
        overrides: ``key.path=value`` each, applied in order.

    Raises:
        ScenarioError: the file is missing, no UTF-8 or no YAML, or its keys and values are not as the
            schema has them; then all mistakes are reported at once.
    """
    path = find_scenario(name_or_file)
    origin = str(path)
    parsed = parse(_read(path), origin)
    data = _mapping(parsed.data, origin)
    changes = [parse_override(text) for text in overrides]
    changed = apply_overrides(data, changes)
    places = SourcePlaces(origin, parsed.lines, {change.path: change.text for change in changes})
    scenario, field_errors = validate(changed)
    refuse(field_errors, places)
    assert scenario is not None
    return LoadedScenario(scenario, origin, path.resolve().parent, places)


def find_scenario(name_or_file: str) -> Path:
    """The file of a scenario given by name or path.

    Raises:
        ScenarioError: there is neither such a file nor a shipped scenario of that name.
    """
    path = Path(name_or_file)
    if is_file(path):
        return path
    shipped = scenario_path(name_or_file)
    if shipped is not None:
        return shipped
    names = scenario_names()
    found = f"{shown(name_or_file)}: {_instead_of_file(path)}"
    hint = closest(name_or_file.removesuffix(".yaml"), names)
    remedy = "`consortium new FILE` writes a scenario to start from"
    expected = "the path of a YAML file, or one of the shipped scenarios: " + ", ".join(names)
    raise ScenarioError(found, expected, f"{hint} {remedy}".strip())


def _instead_of_file(path: Path) -> str:
    """What is at a path that is no regular file, in words."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return "no such file, and no shipped scenario"
    return "a folder" if stat.S_ISDIR(mode) else "no regular file"


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(
                4 * MAX_CHARACTERS + 1
            )  # four bytes a character at most; `parse` refuses what is longer
        return content.decode("utf-8-sig", errors="ignore" if len(content) > 4 * MAX_CHARACTERS else "strict")
    except UnicodeDecodeError as error:
        found = f"{path}: not UTF-8 (byte number {error.start + 1} is {error.object[error.start]:#04x})"
        raise ScenarioError(found, "a YAML file in UTF-8", "save it again as UTF-8") from None
    except OSError as error:
        found = f"{path}: cannot be read ({error.strerror})"
        raise ScenarioError(found, "a readable YAML file", "check the path and its permissions") from None


def _mapping(data: Any, origin: str) -> dict[str, Any]:
    if isinstance(data, dict):
        return data
    found = f"{origin}: the file is empty" if data is None else f"{origin}: found {shown(data)}"
    keys = ", ".join(allowed.keys_of(allowed.json_schema()))
    raise ScenarioError(found, f"a mapping with the keys {keys} (only name is needed)", REMEDY)
