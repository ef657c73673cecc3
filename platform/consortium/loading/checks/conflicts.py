"""Rules for ``overlap`` and ``conflicts``: what becomes of edits that several parties ask for, or that contradict."""

from __future__ import annotations

from collections.abc import Iterator

from consortium.common.errors import shown
from consortium.data.edit import FactSet
from consortium.loading.field_errors import FieldError
from consortium.scenario.editor import EDITORS
from consortium.scenario.schema import Scenario


def conflict_errors(scenario: Scenario) -> Iterator[FieldError]:
    """Every mistake of ``conflicts`` and of what belongs to it."""
    yield from _priorities(scenario)
    yield from _augment(scenario)
    yield from _detection(scenario)
    yield from _suits_the_editor(scenario)


def _priorities(scenario: Scenario) -> Iterator[FieldError]:
    path, conflicts = ("conflicts", "priorities"), scenario.conflicts
    last, listed = scenario.parties.count - 1, conflicts.priorities
    if listed and conflicts.policy != "priority":
        found = f"found {shown(listed)} with conflicts.policy: {conflicts.policy}"
        yield FieldError(path, found, "no priorities, or conflicts.policy: priority")
    outside = [party for party in listed if party > last]
    if outside:
        yield FieldError(path, f"no party {outside[0]}", f"numbers of parties, from 0 to {last} (parties.count)")
    if len(set(listed)) < len(listed):
        yield FieldError(path, f"found {shown(listed)}", "each party once")


def _augment(scenario: Scenario) -> Iterator[FieldError]:
    conflicts = scenario.conflicts
    if conflicts.scope == "run" and conflicts.policy == "none":
        found = "found 'run' with conflicts.policy: none, by which nothing is resolved"
        yield FieldError(("conflicts", "scope"), found, "round, or a policy: latest, priority or majority")
    if conflicts.num_paraphrases and conflicts.policy == "none":
        found = f"found {conflicts.num_paraphrases} with conflicts.policy: none, by which no edit wins"
        yield FieldError(("conflicts", "num_paraphrases"), found, "0, or a policy: latest, priority or majority")


def _detection(scenario: Scenario) -> Iterator[FieldError]:
    conflicts, path = scenario.conflicts, ("conflicts", "detect")
    if conflicts.detect == "none":
        if conflicts.on_detect != "report":
            found = f"found {conflicts.on_detect!r} with conflicts.detect: none, by which nothing is found"
            yield FieldError(("conflicts", "on_detect"), found, "report, or conflicts.detect: model_answer")
        return
    editor = scenario.editor
    if editor.tunes_weights:
        yield FieldError(path, f"found 'model_answer' with the editor {editor.method}, which has no residuals", "none")
    based = [each.arm for each in scenario.merge.methods if scenario.merge.reference_of(each) == "initial"]
    if based:
        found = f"found 'model_answer', and arm {based[0]!r} has reference: initial"
        yield FieldError(
            path, found, "none: the unedited model, which parties of such an arm look at, was taught nothing"
        )


def _suits_the_editor(scenario: Scenario) -> Iterator[FieldError]:
    editor = scenario.editor
    if scenario.resolves and editor.merges is not None:
        found = f"doubles or contradictions are resolved with the editor {editor.method}, whose edits have no weights"
        able = ", ".join(name for name, each in EDITORS.items() if each.merges is None)
        yield FieldError(
            ("editor", "method"), found, f"one of the editors {able}, or overlap.duplicates: count_all and no policy"
        )


def templates_are_there(scenario: Scenario, facts: FactSet) -> Iterator[FieldError]:
    """Asking an edit again needs other words for at least one fact."""
    if scenario.conflicts.num_paraphrases and not any(facts.edit(fact).augmentations for fact in range(len(facts))):
        found = (
            f"found {scenario.conflicts.num_paraphrases}, and no fact of {scenario.facts.source} has further templates"
        )
        allowed = "0, or facts with augmentations"
        hint = "name a file of templates by relation in facts.augmentations"
        yield FieldError(("conflicts", "num_paraphrases"), found, allowed, hint)
