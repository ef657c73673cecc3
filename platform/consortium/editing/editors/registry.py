"""From an editor as a scenario names it to what it does."""

from __future__ import annotations

from pkgutil import resolve_name

from consortium.editing.editors.editor import Editor
from consortium.scenario.editor import EditorSpec


def create_editor(spec: EditorSpec) -> Editor:
    """The editor with these settings; its module is imported now."""
    editor: Editor = resolve_name(spec.implementation)(spec)
    return editor
