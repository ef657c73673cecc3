"""The built-in facts: true facts about the world, written for this project.

One YAML file per relation in ``builtin_facts/``::

    relation: capital
    prompt: The capital of {} is
    paraphrases: [two or more other wordings with {}]
    augmentations: [further wordings with {}, in which an edit may be asked for and by which it is never judged]
    facts: {France: Paris, …}          # subjects that may be edited, with their true objects
    neighbors: {Norway: Oslo, …}       # subjects that no relation edits, with their true objects

Everything else follows by rule. The false target is another object of the relation, by a hash of the
fact's id. The four neighbours are held-out subjects with the same object first (CounterFact's convention),
then others of the relation with different objects, from a place that a hash of the id says; none answers
with the false target.
A neighbour measures harm only where the model holds its answer: what it does not know cannot be lost, and a tie
falls by chance. So nearly every held-out subject is one whose true object SmolLM2-135M prefers, by the relation's
own prompt, to at least 95 of 100 other objects of the relation. Edited subjects need not be known.
The order is round-robin over the relations in alphabetical order, so any first few facts are a mix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import chain, zip_longest

import yaml

from consortium.common.seeds import derive
from consortium.data.edit import Edit, Neighbor

NUM_NEIGHBORS = 4

#: libyaml's loader takes a tenth of the time, where PyYAML was built with it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Relation:
    """A relation as its file says it; see the module's text."""

    name: str
    prompt: str
    paraphrases: tuple[str, ...]
    augmentations: tuple[str, ...]
    facts: Mapping[str, str]
    neighbors: Mapping[str, str]


@cache
def builtin_relations() -> tuple[Relation, ...]:
    """All relations, in alphabetical order of their files."""
    folder = resources.files("consortium.data") / "builtin_facts"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return tuple(_read(file.read_text(encoding="utf-8")) for file in files)


@cache
def builtin_edits() -> tuple[Edit, ...]:
    """All built-in edits, round-robin over the relations."""
    columns = [[_edit(relation, subject) for subject in relation.facts] for relation in builtin_relations()]
    return tuple(edit for edit in chain.from_iterable(zip_longest(*columns)) if edit is not None)


def _read(text: str) -> Relation:
    raw = yaml.load(text, Loader=_LOADER)  # a safe one
    return Relation(
        name=raw["relation"],
        prompt=raw["prompt"],
        paraphrases=tuple(raw["paraphrases"]),
        augmentations=tuple(raw["augmentations"]),
        facts=raw["facts"],
        neighbors=raw["neighbors"],
    )


def _edit(relation: Relation, subject: str) -> Edit:
    fact_id = f"{relation.name}/{subject}"
    target_old = relation.facts[subject]
    others = sorted(set(relation.facts.values()) - {target_old})
    target_new = others[derive(0, "builtin-target", fact_id) % len(others)]
    return Edit(
        fact_id=fact_id,
        relation=relation.name,
        subject=subject,
        prompt=relation.prompt,
        target_new=target_new,
        target_old=target_old,
        paraphrases=tuple(paraphrase.format(subject) for paraphrase in relation.paraphrases),
        neighbors=_neighbors(relation, fact_id, target_old, target_new),
        augmentations=relation.augmentations,
    )


def _neighbors(relation: Relation, fact_id: str, target_old: str, target_new: str) -> tuple[Neighbor, ...]:
    held_out = [(subject, target) for subject, target in relation.neighbors.items() if target != target_new]
    start = derive(0, "builtin-neighbors", fact_id) % len(held_out)
    rotated = held_out[start:] + held_out[:start]
    same = [pair for pair in rotated if pair[1] == target_old]
    by_object: dict[str, list[tuple[str, str]]] = {}
    for pair in rotated:
        by_object.setdefault(pair[1], []).append(pair)
    by_object.pop(target_old, None)
    # One of each other object before a second of any, so that a variant's target costs one neighbour at most.
    others = [pair for pair in chain.from_iterable(zip_longest(*by_object.values())) if pair is not None]
    return tuple(
        Neighbor(relation.prompt.format(subject), target) for subject, target in (same + others)[:NUM_NEIGHBORS]
    )
