"""Rules for ``evaluate.text`` and ``evaluate.general``: what is measured beside the edits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from consortium.common.errors import closest
from consortium.evaluation.choice_questions import INSTALL, PACKAGE, is_set, package_folder
from consortium.evaluation.harm import BUILTIN
from consortium.loading.builtin_scenarios import find_file
from consortium.loading.mistakes import Mistake
from consortium.loading.resolve import no_file
from consortium.scenario.schema import SETS, AssociativeModelSpec, Scenario


def harm_mistakes(scenario: Scenario, base_dir: Path) -> Iterator[Mistake]:
    """Texts and questions that no model could read, or that are not there."""
    for key in ("text", "general"):
        name = getattr(scenario.evaluate, key)
        if name is not None and isinstance(scenario.model, AssociativeModelSpec):
            found = f"found {name!r} with the associative model"
            yield Mistake(("evaluate", key), found, "null: it knows no language")
        elif name is not None:
            yield from (_text if key == "text" else _general)(name, base_dir)


def _text(name: str, base_dir: Path) -> Iterator[Mistake]:
    if name != BUILTIN and find_file(name, base_dir) is None:
        found = no_file(name, base_dir)
        yield Mistake(("evaluate", "text"), found, f"{BUILTIN}, the path of a text file, or null")


def _general(name: str, base_dir: Path) -> Iterator[Mistake]:
    path = ("evaluate", "general")
    if is_set(name) and package_folder() is None:
        found = f"{name!r} is a set of the package {PACKAGE}, which is not installed"
        yield Mistake(path, found, "a set of an installed package, or the path of a file of JSON lines", INSTALL)
    elif not is_set(name) and find_file(name, base_dir) is None:
        found = no_file(name, base_dir)
        yield Mistake(
            path, found, "the path of a file of JSON lines, or one of " + ", ".join(SETS), closest(name, SETS)
        )
