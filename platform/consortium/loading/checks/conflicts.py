"""Rules for ``overlap`` and ``conflicts``: what becomes of edits that several parties ask for, or that contradict."""

from __future__ import annotations

from collections.abc import Iterator

from consortium.common.errors import shown
from consortium.data.edit import FactSet
from consortium.editing.editors.registry import EDITORS
from consortium.loading.mistakes import Mistake
from consortium.scenario.schema import Scenario


def agreement_mistakes(scenario: Scenario) -> Iterator[Mistake]:
    """Every mistake of ``conflicts`` and of what belongs to it."""
    yield from _priorities(scenario)
    yield from _augment(scenario)
    yield from _detection(scenario)
    yield from _suits_the_editor(scenario)


def _priorities(scenario: Scenario) -> Iterator[Mistake]:
    path, conflicts = ("conflicts", "priorities"), scenario.conflicts
    last, listed = scenario.parties.count - 1, conflicts.priorities
    if listed and conflicts.policy != "priority":
        found = f"found {shown(listed)} with conflicts.policy: {conflicts.policy}"
        yield Mistake(path, found, "no priorities, or conflicts.policy: priority")
    outside = [party for party in listed if party > last]
    if outside:
        yield Mistake(path, f"no party {outside[0]}", f"numbers of parties, from 0 to {last} (parties.count)")
    if len(set(listed)) < len(listed):
        yield Mistake(path, f"found {shown(listed)}", "each party once")


def _augment(scenario: Scenario) -> Iterator[Mistake]:
    conflicts = scenario.conflicts
    if conflicts.span == "run" and conflicts.policy == "none":
        found = "found 'run' with conflicts.policy: none, by which nothing is settled"
        yield Mistake(("conflicts", "span"), found, "round, or a policy: latest, priority or majority")
    if conflicts.augment and conflicts.policy == "none":
        found = f"found {conflicts.augment} with conflicts.policy: none, by which no edit wins"
        yield Mistake(("conflicts", "augment"), found, "0, or a policy: latest, priority or majority")


def _detection(scenario: Scenario) -> Iterator[Mistake]:
    conflicts, path = scenario.conflicts, ("conflicts", "detect")
    if conflicts.detect == "none":
        if conflicts.on_detect != "count":
            found = f"found {conflicts.on_detect!r} with conflicts.detect: none, by which nothing is found"
            yield Mistake(("conflicts", "on_detect"), found, "count, or conflicts.detect: answer")
        return
    editor = EDITORS.get(scenario.editor.method)
    if editor is not None and editor.tunes_weights:
        yield Mistake(path, f"found 'answer' with the editor {editor.name}, which has no residuals", "none")
    based = [each.lane for each in scenario.merge.methods if scenario.merge.anchor_of(each) == "base"]
    if based:
        found = f"found 'answer', and lane {based[0]!r} has anchor: base"
        yield Mistake(path, found, "none: the unedited model, which parties of such a lane look at, was taught nothing")


def _suits_the_editor(scenario: Scenario) -> Iterator[Mistake]:
    editor = EDITORS.get(scenario.editor.method)
    if scenario.settles and editor is not None and editor.merges is not None:
        found = f"doubles or contradictions are settled with the editor {editor.name}, whose edits have no weights"
        able = ", ".join(name for name, each in EDITORS.items() if each.merges is None)
        yield Mistake(("editor", "method"), found, f"one of the editors {able}, or overlap.weigh: each and no policy")


def templates_are_there(scenario: Scenario, facts: FactSet) -> Iterator[Mistake]:
    """Asking an edit again needs other words for at least one fact."""
    if scenario.conflicts.augment and not any(facts.edit(fact).augmentations for fact in range(len(facts))):
        found = f"found {scenario.conflicts.augment}, and no fact of {scenario.facts.source} has further templates"
        allowed = "0, or facts with augmentations"
        hint = "name a file of templates by relation in facts.augmentations"
        yield Mistake(("conflicts", "augment"), found, allowed, hint)
