"""The edit: one request to a model, and the probes by which it is judged.

A data set is a :class:`FactSet`: edits addressed by number. Streams work on the numbers alone, so a
set may draw its edits on demand and hold none of them in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Neighbor:
    """A prompt about something else, and the answer that an edit must leave as it is."""

    prompt: str
    target: str


@dataclass(frozen=True)
class Edit:
    """One request: what the model shall say of a subject.

    Attributes:
        fact_id: the record's name in its data source; unique within a fact set.
        relation: the relation's name, by which facts are dealt to parties.
        subject: the subject as it stands in the prompt.
        prompt: text with exactly one ``{}`` for the subject, ending where the target begins.
        target_new: what the model shall say, without a leading space.
        target_old: what it says (or should say) before the edit; None where the source has none.
        paraphrases: whole prompts that ask the same in other words.
        neighbors: prompts near the subject whose answers must stay.
    """

    fact_id: str
    relation: str
    subject: str
    prompt: str
    target_new: str
    target_old: str | None = None
    paraphrases: tuple[str, ...] = ()
    neighbors: tuple[Neighbor, ...] = ()

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
