"""Defaults that depend on other keys, written out."""

from __future__ import annotations

from pathlib import Path

from consortium.common.reading import expanded, is_folder, why_no_file
from consortium.loading.builtin_scenarios import find_file
from consortium.scenario.schema import SETS, AssociativeModelSpec, EvaluateSpec, Scenario

_HUB = "hub:"
_NAMED_TEXTS = ("builtin", *SETS)
_NAMED_MODELS = ("associative", "smollm2-135m")


def resolve(scenario: Scenario, base_dir: Path | None = None) -> Scenario:
    """The scenario with every ``auto`` that follows from the scenario itself replaced.

    ``parties.edits`` is dealt to the rounds. Facts come from ``synthetic`` with the associative model and from
    ``builtin`` else; the associative model's critical layers, where the scenario names none, are all it has, and all
    of them change. With ``base_dir``, relative paths of files that exist are made absolute, so that the result means
    the same in every folder.
    Resolving twice changes nothing.
    """
    is_associative = isinstance(scenario.model, AssociativeModelSpec)
    facts, editor, model, parties = scenario.facts, scenario.editor, scenario.model, scenario.parties
    evaluate, virtual_time = scenario.evaluate, scenario.virtual_time
    if parties.edits is not None and "edits_per_round" not in parties.model_fields_set:
        parties = parties.model_copy(update={"edits_per_round": parties.edits // scenario.stream.rounds})
    if facts.source == "auto":
        facts = facts.model_copy(update={"source": "synthetic" if is_associative else "builtin"})
    if isinstance(model, AssociativeModelSpec):
        all_layers = {"layers": (0, model.num_layers - 1), "residual_schedule": "spread"}
        unnamed = {key: value for key, value in all_layers.items() if key not in editor.model_fields_set}
        editor = editor.model_copy(update=unnamed)
    if base_dir is not None:
        facts = facts.model_copy(update={"source": _absolute(facts.source, ("builtin", "synthetic"), base_dir)})
        if facts.augmentations is not None:
            facts = facts.model_copy(update={"augmentations": _absolute(facts.augmentations, (), base_dir)})
        covariance = editor.covariance.model_copy(
            update={"source": _absolute(editor.covariance.source, ("model",), base_dir)}
        )
        editor = editor.model_copy(update={"covariance": covariance})
        evaluate = _absolute_texts(evaluate, base_dir)
        if virtual_time.devices.trace is not None:
            trace = {"trace": _absolute(virtual_time.devices.trace, (), base_dir)}
            devices = virtual_time.devices.model_copy(update=trace)
            virtual_time = virtual_time.model_copy(update={"devices": devices})
        if model.name not in _NAMED_MODELS and is_folder(base_dir / expanded(model.name)):
            model = model.model_copy(update={"name": str((base_dir / expanded(model.name)).resolve())})
    changed = {
        "facts": facts,
        "editor": editor,
        "model": model,
        "parties": parties,
        "evaluate": evaluate,
        "virtual_time": virtual_time,
    }
    return scenario.model_copy(update=changed)


def no_file(name: str, base_dir: Path) -> str:
    """In words, why a scenario's name stands for no file."""
    path = expanded(name)
    why = next(filter(None, map(why_no_file, (base_dir / path, path))), None)
    if why is not None:
        return f"no file {name!r}: it {why}"
    return f"no file {name!r}, neither in {base_dir} nor in the working directory"


def _absolute_texts(evaluate: EvaluateSpec, base_dir: Path) -> EvaluateSpec:
    named = {"perplexity_text": evaluate.perplexity_text, "downstream": evaluate.downstream}
    files = {key: _absolute(name, _NAMED_TEXTS, base_dir) for key, name in named.items() if name is not None}
    return evaluate.model_copy(update=files)


def _absolute(source: str, words: tuple[str, ...], base_dir: Path) -> str:
    if source in words:
        return source
    if source.startswith(_HUB):
        name = expanded(source.removeprefix(_HUB))
        folder = next((each for each in (base_dir / name, name) if is_folder(each)), None)
        return source if folder is None or source == _HUB else f"{_HUB}{folder.resolve()}"
    path = find_file(source, base_dir)
    return source if path is None else str(path.resolve())
