"""Rules for ``facts``: keys that go together, and files that are there and of use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from consortium.common.errors import shown
from consortium.loading.builtin_scenarios import find_file
from consortium.loading.field_errors import FieldError
from consortium.loading.resolve import no_file
from consortium.scenario.schema import AssociativeModelSpec, FactsSpec, Scenario

_WHOLE_SPLIT = FactsSpec().split


def facts_errors(scenario: Scenario, base_dir: Path) -> Iterator[FieldError]:
    """Every mistake of ``facts`` but its source."""
    yield from _parts_of_a_dataset(scenario.facts)
    yield from _augmentations(scenario, base_dir)


def _parts_of_a_dataset(facts: FactsSpec) -> Iterator[FieldError]:
    """``config``, ``files`` and ``split`` choose from a dataset; files are whole."""
    said = {"config": facts.config, "split": None if facts.split == _WHOLE_SPLIT else facts.split}
    chosen = {key: value for key, value in said.items() if value is not None}
    if not facts.source.startswith("hub:"):
        for key, value in (chosen | ({"files": facts.files} if facts.files else {})).items():
            found = f"found {shown(value)} with facts.source: {facts.source}, which is no dataset"
            yield FieldError(("facts", key), found, "no such key, or hub:NAME as facts.source (a folder: hub:FOLDER)")
    elif facts.files:
        for key, value in chosen.items():
            found = f"found {shown(value)} with facts.files, whose files are read whole"
            yield FieldError(("facts", key), found, "facts.files, or facts.config and facts.split")


def _augmentations(scenario: Scenario, base_dir: Path) -> Iterator[FieldError]:
    path, file = ("facts", "augmentations"), scenario.facts.augmentations
    if file is None:
        return
    if isinstance(scenario.model, AssociativeModelSpec):
        yield FieldError(path, f"found {file!r} with the associative model", "null: its facts bring their own")
    elif find_file(file, base_dir) is None:
        yield FieldError(path, no_file(file, base_dir), "the path of a JSON file, or null")
    elif not scenario.conflicts.num_paraphrases:
        found = f"found {file!r} with conflicts.num_paraphrases: 0, by which no edit is asked again in other words"
        yield FieldError(path, found, "null, or conflicts.num_paraphrases of 1 or more and a conflicts.policy")
