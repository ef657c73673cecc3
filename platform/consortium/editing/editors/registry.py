"""All editors by name. To add one: write its file, add it to EDITORS, write its test."""

from __future__ import annotations

from consortium.common.errors import ScenarioError
from consortium.editing.editors.alphaedit import AlphaEdit
from consortium.editing.editors.editor import Editor
from consortium.editing.editors.emmet import Emmet
from consortium.editing.editors.ft import FineTuning
from consortium.editing.editors.memit import Memit
from consortium.editing.editors.rome import Rome
from consortium.scenario.editor import EditorSpec

EDITORS: dict[str, type[Editor]] = {
    "memit": Memit,
    "alphaedit": AlphaEdit,
    "emmet": Emmet,
    "rome": Rome,
    "ft": FineTuning,
}


def known() -> list[str]:
    """Names of all editors, in the order of the registry."""
    return list(EDITORS)


def create(spec: EditorSpec) -> Editor:
    """The editor that a scenario asks for.

    Raises:
        ScenarioError: there is none of that name.
    """
    if spec.method not in EDITORS:
        raise ScenarioError(f"unknown editor {spec.method!r}", f"one of {', '.join(known())}", "write one of these")
    return EDITORS[spec.method](spec)
