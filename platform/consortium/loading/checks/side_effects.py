"""Rules for ``evaluate.perplexity_text`` and ``evaluate.downstream``: what is measured beside the edits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from consortium.common.errors import closest
from consortium.evaluation.choice_questions import INSTALL, PACKAGE, is_set, package_folder
from consortium.evaluation.side_effects import BUILTIN
from consortium.loading.builtin_scenarios import find_file
from consortium.loading.field_errors import FieldError
from consortium.loading.resolve import no_file
from consortium.scenario.schema import SETS, AssociativeModelSpec, Scenario


def side_effect_errors(scenario: Scenario, base_dir: Path) -> Iterator[FieldError]:
    """Texts and questions that no model could read, or that are not there."""
    for key in ("perplexity_text", "downstream"):
        name = getattr(scenario.evaluate, key)
        if name is not None and isinstance(scenario.model, AssociativeModelSpec):
            found = f"found {name!r} with the associative model"
            yield FieldError(("evaluate", key), found, "null: it knows no language")
        elif name is not None:
            yield from (_text if key == "perplexity_text" else _general)(name, base_dir)


def _text(name: str, base_dir: Path) -> Iterator[FieldError]:
    if name != BUILTIN and find_file(name, base_dir) is None:
        found = no_file(name, base_dir)
        yield FieldError(("evaluate", "perplexity_text"), found, f"{BUILTIN}, the path of a text file, or null")


def _general(name: str, base_dir: Path) -> Iterator[FieldError]:
    path = ("evaluate", "downstream")
    if is_set(name) and package_folder() is None:
        found = f"{name!r} is a set of the package {PACKAGE}, which is not installed"
        yield FieldError(path, found, "a set of an installed package, or the path of a file of JSON lines", INSTALL)
    elif not is_set(name) and find_file(name, base_dir) is None:
        found = no_file(name, base_dir)
        yield FieldError(
            path, found, "the path of a file of JSON lines, or one of " + ", ".join(SETS), closest(name, SETS)
        )
