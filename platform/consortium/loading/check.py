"""What the types alone cannot see: keys that contradict each other, the model or the facts.

Nothing here opens a model. Each rule is a function that yields mistakes; all of a scenario's mistakes
are reported at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from consortium.common.counting import count
from consortium.common.errors import shown
from consortium.data.edit import FactSet
from consortium.data.num_facts import facts_needed
from consortium.loading.builtin_scenarios import find_file
from consortium.loading.checks.attacks import attack_errors
from consortium.loading.checks.cluster import cluster_errors
from consortium.loading.checks.conflicts import conflict_errors, templates_are_there
from consortium.loading.checks.data import facts_errors
from consortium.loading.checks.faults import fault_errors
from consortium.loading.checks.metrics import errors_of_probes, evaluation_errors
from consortium.loading.checks.side_effects import side_effect_errors
from consortium.loading.checks.stream import stream_errors
from consortium.loading.checks.unlearning import reference_errors, unlearning_errors
from consortium.loading.checks.virtual_time import virtual_time_errors
from consortium.loading.estimate import covariance_size_errors, size_errors
from consortium.loading.field_errors import FieldError, SourcePlaces, refuse
from consortium.loading.load import LoadedScenario
from consortium.loading.resolve import no_file, resolve
from consortium.loading.yaml_text import KeyPath
from consortium.models.description import ModelDescription
from consortium.scenario.editor import AlphaEditSpec, EditorSpec
from consortium.scenario.schema import UNEDITED, AssociativeModelSpec, LanguageModelSpec, Scenario


def check_scenario(loaded: LoadedScenario) -> Scenario:
    """Refuse a scenario whose keys contradict each other, before its facts are read or its model is looked at.

    Returns:
        The scenario as resolved.

    Raises:
        ScenarioError: every mistake with key path, place, what was found and what is allowed.
    """
    scenario, base_dir = resolve(loaded.scenario, loaded.base_dir), loaded.base_dir
    refuse(list(size_errors(scenario)), loaded.places)  # first, since other rules go through rounds and facts
    field_errors: list[FieldError] = []
    for rule in _RULES:
        field_errors += rule(scenario)
    for rule_of_files in (_sources, facts_errors, side_effect_errors, virtual_time_errors):
        field_errors += rule_of_files(scenario, base_dir)
    refuse(field_errors, loaded.places)
    return scenario


def check_fit(scenario: Scenario, facts: FactSet, model: ModelDescription, places: SourcePlaces) -> None:
    """Refuse a scenario that does not fit its model or its facts.

    Args:
        scenario: the scenario as resolved; its keys were checked.
        facts: its facts.
        model: its model's measures.
        places: where each key was written.

    Raises:
        ScenarioError: every mistake, those of the model first.
    """
    refuse([*covariance_size_errors(scenario, model), *_fit_of_model(scenario, model)], places)
    rules = (_fit_of_facts, errors_of_probes, templates_are_there)
    refuse([each for rule in rules for each in rule(scenario, facts)], places)


def _layers(scenario: Scenario) -> Iterator[FieldError]:
    layers = scenario.editor.layers
    path = ("editor", "layers")
    if len(layers) == 2 and layers[0] > layers[1]:
        yield FieldError(path, f"found {shown(layers)}", "the first critical layer, then the last", "swap the two")
    elif len(layers) > 2 and any(low >= high for low, high in pairwise(layers)):
        ascending = shown(sorted(set(layers)))
        yield FieldError(path, f"found {shown(layers)}", "each layer once, in ascending order", f"write {ascending}")


def _editor(scenario: Scenario) -> Iterator[FieldError]:
    editor, name = scenario.editor, scenario.editor.method
    for index, method in enumerate(scenario.merge.methods):
        if editor.merges is not None and method.name not in editor.merges:
            found = f"merge method {method.name!r} with the editor {name}: {editor.why_not_others}"
            yield FieldError(("merge", "methods", index), found, "one of " + ", ".join(editor.merges))
    yield from _all_at_once(scenario, editor)


def _all_at_once(scenario: Scenario, editor: EditorSpec) -> Iterator[FieldError]:
    """An editor that tunes weights changes all layers at once, and has no residuals."""
    if not editor.tunes_weights:
        return
    num_layers = len(scenario.editor.edited_layers) if scenario.editor.critical_layers else 0
    if num_layers > 1 and any(scenario.merge.exchange_of(each) != "round" for each in scenario.merge.methods):
        found = f"found 'layer' with the editor {editor.method}, which changes {count(num_layers, 'layer')} at once"
        yield FieldError(("merge", "exchange"), found, "round, or a single layer in editor.layers")
    if scenario.overlap.skip_known != "none":
        found = f"found {scenario.overlap.skip_known!r} with the editor {editor.method}, which has no residuals"
        yield FieldError(("overlap", "skip_known"), found, "none")
    for index, method in enumerate(scenario.merge.methods):
        if method.skip_known not in (None, "none"):
            found = f"found {method.skip_known!r} with the editor {editor.method}, which has no residuals"
            yield FieldError(("merge", "methods", index, "detect"), found, "none, or null")


def _arms(scenario: Scenario) -> Iterator[FieldError]:
    # On some disks `A` and `a` would be one file.
    counts = Counter(method.arm.lower() for method in scenario.merge.methods)
    for index, method in enumerate(scenario.merge.methods):
        path = ("merge", "methods", index)
        if method.arm == UNEDITED:
            yield FieldError(path, f"arm {method.arm!r}", "another name: this one is the unedited model's row")
        elif counts[method.arm.lower()] > 1:
            hint = f"give each a label of its own, for example {{name: {method.name}, label: {method.name}-{index}}}"
            times = counts[method.arm.lower()]
            yield FieldError(path, f"arm {method.arm!r} is there {times} times", "each arm once, capitals aside", hint)


def _sources(scenario: Scenario, base_dir: Path) -> Iterator[FieldError]:
    is_associative = isinstance(scenario.model, AssociativeModelSpec)
    source, covariance = scenario.facts.source, scenario.editor.covariance.source
    path: KeyPath = ("facts", "source")
    if is_associative and source != "synthetic":
        yield FieldError(path, f"found {source!r} with the associative model", "auto or drawn: it knows no language")
    elif not is_associative and source == "synthetic":
        yield FieldError(
            path, "found 'synthetic' with a language model", "auto, builtin, the path of a file, or hub:NAME"
        )
    elif source not in ("builtin", "synthetic"):
        yield from _missing_file(
            path, source, "auto, builtin, the path of a file, or hub:NAME (a folder: hub:FOLDER)", base_dir
        )
    path = ("editor", "covariance", "source")
    if is_associative and covariance != "model":
        yield FieldError(
            path, f"found {covariance!r} with the associative model", "model: its keys are drawn, not read"
        )
    elif covariance != "model":
        yield from _missing_file(path, covariance, "model, the path of a text file, or hub:NAME", base_dir)


def _missing_file(path: KeyPath, source: str, allowed: str, base_dir: Path) -> Iterator[FieldError]:
    if not source.startswith("hub:") and find_file(source, base_dir) is None:
        yield FieldError(path, no_file(source, base_dir), allowed)


def _fit_of_model(scenario: Scenario, model: ModelDescription) -> Iterator[FieldError]:
    last = model.num_layers - 1
    outside = [layer for layer in scenario.editor.layers if layer > last]
    if outside:
        allowed = f"layers from 0 to {last}: the model {scenario.model.name} has {model.num_layers}"
        yield FieldError(("editor", "layers"), f"layer {outside[0]} is out of range", allowed)
    elif isinstance(scenario.model, LanguageModelSpec) and scenario.editor.edited_layers[-1] == last:
        # Nothing attends to the subject above the last layer, so no target there could change what follows it.
        allowed = f"layers from 0 to {last - 1}: what the last one ({last}) says of a subject reaches no later token"
        yield FieldError(("editor", "layers"), f"layer {last} is the model's last", allowed)
    editor = scenario.editor
    if isinstance(editor, AlphaEditSpec) and editor.threshold is None and int(editor.share * model.key_width) == 0:
        found = f"found {editor.share:g}, by which none of {model.key_width} directions is free"
        yield FieldError(("editor", "share"), found, f"at least {1 / model.key_width:.2g}")
    tokens, least = scenario.editor.covariance.tokens, 2 * model.key_width
    if tokens is not None and tokens < least:
        allowed = f"at least {least}, twice the width K = {model.key_width} of a key (or null for ten times K)"
        yield FieldError(("editor", "covariance", "tokens"), f"found {tokens}", allowed)


def _fit_of_facts(scenario: Scenario, facts: FactSet) -> Iterator[FieldError]:
    needed = facts_needed(scenario)
    if needed <= len(facts):
        return
    parties, stream = scenario.parties, scenario.stream
    found = (
        f"{count(needed, 'fact')} are asked for (parties.count {parties.count} × parties.edits_per_round "
        f"{parties.edits_per_round} × stream.rounds {stream.rounds}, with phases and shares counted in)"
    )
    allowed = f"at most {len(facts)}: so many exist in {scenario.facts.source}"
    if scenario.facts.limit is not None:
        allowed += f" with facts.limit {scenario.facts.limit}"
    hint = (
        "lower parties.count, parties.edits_per_round or stream.rounds, raise facts.limit, or name another facts.source"
    )
    yield FieldError(("parties",), found, allowed, hint)


_RULES: tuple[Callable[[Scenario], Iterable[FieldError]], ...] = (
    *(stream_errors, evaluation_errors, _layers, _editor, _arms, reference_errors, unlearning_errors),
    *(cluster_errors, fault_errors, attack_errors, conflict_errors),
)
