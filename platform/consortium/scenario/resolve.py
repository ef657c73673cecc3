"""Defaults that depend on other keys, written out."""

from __future__ import annotations

from pathlib import Path

from consortium.scenario.schema import AssociativeModelSpec, Scenario

_NAMED_MODELS = ("associative", "smollm2-135m")


def resolve(scenario: Scenario, base_dir: Path | None = None) -> Scenario:
    """The scenario with every ``auto`` that follows from the scenario itself replaced.

    Facts come from ``drawn`` with the associative model and from ``builtin`` else; the associative model's
    critical layers, where the scenario names none, are all it has, and all of them change. With ``base_dir``,
    relative paths of files that exist are made absolute, so that the result means the same in every folder.
    Resolving twice changes nothing.
    """
    is_associative = isinstance(scenario.model, AssociativeModelSpec)
    facts, editor, model = scenario.facts, scenario.editor, scenario.model
    if facts.source == "auto":
        facts = facts.model_copy(update={"source": "drawn" if is_associative else "builtin"})
    if isinstance(model, AssociativeModelSpec):
        all_layers = {"layers": (0, model.num_layers - 1), "sharing": "memit"}
        unnamed = {key: value for key, value in all_layers.items() if key not in editor.model_fields_set}
        editor = editor.model_copy(update=unnamed)
    if base_dir is not None:
        facts = facts.model_copy(update={"source": _anchored(facts.source, ("builtin", "drawn"), base_dir)})
        prior = editor.prior.model_copy(update={"source": _anchored(editor.prior.source, ("model",), base_dir)})
        editor = editor.model_copy(update={"prior": prior})
        if model.name not in _NAMED_MODELS and (base_dir / model.name).is_dir():
            model = model.model_copy(update={"name": str((base_dir / model.name).resolve())})
    return scenario.model_copy(update={"facts": facts, "editor": editor, "model": model})


def find_file(name: str, base_dir: Path) -> Path | None:
    """The file that a scenario names: beside the scenario if it is there, else from the working directory."""
    path = Path(name).expanduser()
    return next((each for each in (base_dir / path, path) if each.is_file()), None)


def _anchored(source: str, words: tuple[str, ...], base_dir: Path) -> str:
    if source in words or source.startswith("hub:"):
        return source
    path = find_file(source, base_dir)
    return source if path is None else str(path.resolve())
