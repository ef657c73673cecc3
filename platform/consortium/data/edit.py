"""The edit: one request to a model, and the probes by which it is judged.

A data set is a :class:`FactSet`: edits addressed by number. Streams work on the numbers alone, so a
set may draw its edits on demand and hold none of them in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Neighbor:
    """A prompt about something else, and the answer that an edit must leave as it is.

    ``join``, here and below: what stands between a prompt and its answer where the source says so; None goes by the
    rule of :mod:`consortium.models.joining`.
    """

    prompt: str
    target: str
    join: str | None = None


#: What an edit should be carried over to: another name of the subject, a conclusion of two steps, a fact that follows.
PortabilityKind = Literal["alias", "reasoning", "generalisation"]


@dataclass(frozen=True)
class PortabilityProbe:
    """A question that an edit should change too (KnowEdit, arXiv 2401.01286).

    Attributes:
        kind: how the question follows from the edit.
        prompt: whole prompt, ending where the answer begins.
        answers: what counts as right, other names included; at least one, the first is the usual name.
    """

    kind: PortabilityKind
    prompt: str
    answers: tuple[str, ...]
    join: str | None = None


@dataclass(frozen=True)
class LocalityProbe:
    """A question that an edit must leave as it is: the model shall go on saying whatever it said before.

    Attributes:
        kind: name of the group that it belongs to; groups of an edit weigh the same.
        prompt: whole prompt, ending where the answer begins.
        target: the true answer; it says how many tokens of the model's answers are compared.
    """

    kind: str
    prompt: str
    target: str
    join: str | None = None


@dataclass(frozen=True)
class Edit:
    """One request: what the model shall say of a subject.

    Attributes:
        fact_id: the record's name in its data source; unique within a fact set.
        relation: the relation's name, by which facts are dealt to parties.
        subject: the subject as it stands in the prompt.
        prompt: text with exactly one ``{}`` for the subject, ending where the target begins.
        target_new: what the model shall say, without white space at its ends.
        target_old: what it says (or should say) before the edit; None where the source has none.
        paraphrases: whole prompts that ask the same in other words.
        neighbors: prompts near the subject whose answers must stay.
        portability: questions whose answers should change with the edit's.
        locality: questions whose answers must stay as they are, right or wrong.
        generation_prompts: beginnings of texts about the subject; empty where the prompt itself serves.
        rivals: targets that contradict this one, each another than the one before; empty where objects of the
            same relation serve.
        augmentations: further prompts with ``{}`` that ask the same, none of them among ``paraphrases``: an edit may
            be asked for in these words too, and is never judged by them.
        join: what stands between prompt and target where the source says so, for all targets of the edit's own
            questions; None goes by the rule of :mod:`consortium.models.joining`.
    """

    fact_id: str
    relation: str
    subject: str
    prompt: str
    target_new: str
    target_old: str | None = None
    paraphrases: tuple[str, ...] = ()
    neighbors: tuple[Neighbor, ...] = ()
    portability: tuple[PortabilityProbe, ...] = ()
    locality: tuple[LocalityProbe, ...] = ()
    generation_prompts: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    augmentations: tuple[str, ...] = ()
    join: str | None = None

    @property
    def text(self) -> str:
        """The prompt with the subject in its place."""
        return self.prompt.replace("{}", self.subject, 1)


class FactSet(Protocol):
    """Edits addressed by number."""

    def __len__(self) -> int:
        """Number of facts."""
        ...

    def relations(self) -> list[str]:
        """The relation of every fact, in order."""
        ...

    def edit(self, fact: int, variant: int = 0) -> Edit:
        """The edit of a fact.

        Variant 0 asks for the fact's own new target. Variant v > 0 asks for another object of the
        same relation, so that two variants of a fact contradict each other.
        """
        ...
