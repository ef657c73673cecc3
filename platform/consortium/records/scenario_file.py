"""scenario.yaml of a run directory: the scenario as resolved, for people; the manifest holds the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from consortium.common.errors import RunDirectoryError
from consortium.records import entries, manifest
from consortium.records.digests import differing
from consortium.records.manifest import Manifest
from consortium.scenario.schema import Scenario

SCENARIO_FILE = "scenario.yaml"
#: Differences that are named; the rest is counted.
_NAMED = 5
_MOST_BYTES = 4 * 2**20


class _Loader(yaml.SafeLoader):
    """Takes what :func:`write_scenario` writes: plain values, and no aliases, by which few bytes become many."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "it has an alias", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def write_scenario(folder: Path, scenario: Scenario) -> None:
    """Replace scenario.yaml."""
    content = scenario.model_dump(mode="json")
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    entries.write_entry(folder, SCENARIO_FILE, text)


def scenario_text(folder: Path) -> str:
    """scenario.yaml as it stands.

    Raises:
        RunDirectoryError: it is missing, or cannot be read.
    """
    try:
        return entries.read_entry(folder, SCENARIO_FILE, _MOST_BYTES)
    except FileNotFoundError:
        raise _damaged(folder, "there is no such file") from None


def read_scenario(folder: Path, found: Manifest) -> Scenario:
    """The scenario of a run.

    Raises:
        RunDirectoryError: scenario.yaml is missing, damaged, or not what the manifest has; what differs is named.
    """
    path = folder / SCENARIO_FILE
    try:
        written = _scenario(yaml.load(scenario_text(folder), Loader=_Loader))
    except RunDirectoryError:
        raise
    except (ValueError, TypeError, RecursionError, yaml.YAMLError, ValidationError) as error:
        raise _damaged(folder, str(error)) from error
    if (written.name, written.seed) != (found.name, found.seed):
        raise RunDirectoryError(
            f"{path} is of the run {written.name!r} with seed {written.seed}.",
            f"that of the manifest: {found.name!r} with seed {found.seed}.",
            "restore the scenario from a copy; to run another one, choose another folder.",
        )
    scenario = _of_manifest(folder, found.scenario)
    if written != scenario and (found.replaced is None or written != _of_manifest(folder, found.replaced)):
        raise RunDirectoryError(
            f"{path} is not the scenario that the run began with: {_named(scenario, written)}.",
            f"the scenario as {manifest.MANIFEST_FILE} has it.",
            "put back what was changed; to run another scenario, choose another folder; "
            "`consortium resume DIR --set KEY=VALUE` changes what can be changed in a run.",
        )
    return scenario


def _damaged(folder: Path, what: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"{folder / SCENARIO_FILE} is missing or damaged: {what}",
        "the scenario as Consortium wrote it.",
        "restore it from a copy, or run the scenario again.",
    )


def _scenario(content: Any) -> Scenario:
    # By way of JSON, whose lists are what strict types take for tuples.
    return Scenario.model_validate_json(json.dumps(content))


def _of_manifest(folder: Path, content: Any) -> Scenario:
    try:
        return _scenario(content)
    except (ValueError, ValidationError) as error:
        raise RunDirectoryError(
            f"{folder / manifest.MANIFEST_FILE} holds a scenario that this version of Consortium does not know: "
            f"{error}",
            "a scenario of this version.",
            "use the version of Consortium that wrote it.",
        ) from error


def _named(was: Scenario, now: Scenario) -> str:
    found = differing(was.model_dump(mode="json"), now.model_dump(mode="json"))
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return "; ".join(found[:_NAMED]) + more
