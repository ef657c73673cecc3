"""Facts without language, for the associative model: drawn, made on demand, with numbers for names.

Subject 17 of relation 3 is asked for by ``the r3 of s17 is``, answered with an object such as ``o5``, and asked for in
other words by ``paraphrase 1: the r3 of s17 is``. Subjects ``n0``, ``n1``, … are held out: the unedited memory
knows them, no edit is about them, and they are the neighbours whose answers must stay.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from consortium.common.errors import FactsError
from consortium.common.seeds import numpy_generator
from consortium.data.edit import Edit, Neighbor
from consortium.scenario.schema import AssociativeModelSpec

NUM_PARAPHRASES = 2
NUM_SYNTHETIC_NEIGHBORS = 2
#: Templates for asking an edit again; their numbers follow those of the paraphrases that judge it.
NUM_AUGMENTATIONS = 8

_PROMPT = re.compile(r"(?:paraphrase (?P<paraphrase>\d+): )?the r(?P<relation>\d+) of (?P<kind>[sn])(?P<number>\d+) is")
_OBJECT = re.compile(r"o(\d+)")


def _drawn(seed: int, purpose: str, end: int, count: int) -> NDArray[np.int32]:
    """Numbers below ``end``, kept in four bytes: every worker holds those of all parties' facts."""
    return numpy_generator(seed, purpose).integers(end, size=count).astype(np.int32)


class SyntheticFacts:
    """A :class:`~consortium.data.edit.FactSet`: relations and objects are drawn, edits are made on demand.

    The first facts are the same whatever ``count`` is.

    Args:
        spec: the associative model that is to be edited.
        count: number of facts.
        seed: the run's seed.
        first_count: how many facts there were when the run began, of which the model knows some; None for ``count``.
    """

    def __init__(self, spec: AssociativeModelSpec, count: int, seed: int, first_count: int | None = None) -> None:
        self._spec = spec
        self._count = count
        self._first_count = count if first_count is None else first_count
        self._relations = _drawn(seed, "drawn-relations", spec.num_relations, count)
        self._old_objects = _drawn(seed, "drawn-objects", spec.num_objects, count)
        # With two objects only, variants alternate between them; with more, the old one is never asked for.
        self._num_variants = max(2, spec.num_objects - 1)
        self._offsets = _drawn(seed, "drawn-targets", spec.num_objects - 1, count)
        self._augmentations = [_augmentations(relation) for relation in range(spec.num_relations)]
        self._held_out_objects = numpy_generator(seed, "drawn-held-out").integers(
            spec.num_objects, size=self.num_held_out
        )
        self._neighbors_of: dict[tuple[int, int], tuple[Neighbor, ...]] = {}  # filled as they are asked for

    def __len__(self) -> int:
        return self._count

    @property
    def num_held_out(self) -> int:
        """Number of held-out subjects: a quarter of a layer's capacity (K keys), at least one of each relation."""
        return self._held_out_per_relation * self._spec.num_relations

    @property
    def _held_out_per_relation(self) -> int:
        return max(1, self._spec.key_width // (4 * self._spec.num_relations))

    def relations(self) -> list[str]:
        """The relation of every fact, in order."""
        names = [f"r{relation}" for relation in range(self._spec.num_relations)]
        return [names[relation] for relation in self._relations.tolist()]

    def edit(self, fact: int, variant: int = 0) -> Edit:
        """The edit of a fact; neighbouring variants ask for different objects.

        Variants come round again after as many as there are objects besides the true one.
        """
        assert 0 <= fact < self._count, f"fact {fact} of {self._count}"
        relation, old = int(self._relations[fact]), int(self._old_objects[fact])
        step = 1 + (int(self._offsets[fact]) + variant) % self._num_variants
        prompt = f"the r{relation} of {{}} is"
        text = prompt.format(f"s{fact}")
        return Edit(
            fact_id=f"s{fact}",
            relation=f"r{relation}",
            subject=f"s{fact}",
            prompt=prompt,
            target_new=f"o{(old + step) % self._spec.num_objects}",
            target_old=f"o{old}",
            paraphrases=tuple(f"paraphrase {number}: {text}" for number in range(1, NUM_PARAPHRASES + 1)),
            neighbors=self._neighbors(fact, relation),
            augmentations=self._augmentations[relation],
        )

    def known(self) -> tuple[list[Query], list[int]]:
        """What the unedited memory knows: queries, and the number of each one's object.

        All held-out subjects, and the true objects of the first facts, as many as are a quarter of a layer's
        capacity. Of further facts it knows nothing: their true object is only what it should say.
        """
        num_facts = min(self._first_count, max(1, self._spec.key_width // 4))
        relations = self._relations[:num_facts].tolist()
        facts = [Query(_subject("s", fact), relation) for fact, relation in enumerate(relations)]
        held_out = [
            Query(_subject("n", number), self._held_out_relation(number)) for number in range(self.num_held_out)
        ]
        return facts + held_out, [*self._old_objects[:num_facts].tolist(), *self._held_out_objects.tolist()]

    def _neighbors(self, fact: int, relation: int) -> tuple[Neighbor, ...]:
        """Held-out subjects of the same relation, spread evenly over the facts; there are few such groups."""
        amount = min(NUM_SYNTHETIC_NEIGHBORS, self._held_out_per_relation)
        first = fact * amount % self._held_out_per_relation
        if (relation, first) not in self._neighbors_of:
            places = [(first + offset) % self._held_out_per_relation for offset in range(amount)]
            numbers = [place * self._spec.num_relations + relation for place in places]
            self._neighbors_of[relation, first] = tuple(
                Neighbor(f"the r{relation} of n{number} is", f"o{self._held_out_objects[number]}") for number in numbers
            )
        return self._neighbors_of[relation, first]

    def _held_out_relation(self, number: int) -> int:
        return number % self._spec.num_relations


def _augmentations(relation: int) -> tuple[str, ...]:
    numbers = range(NUM_PARAPHRASES + 1, NUM_PARAPHRASES + NUM_AUGMENTATIONS + 1)
    return tuple(f"paraphrase {number}: the r{relation} of {{}} is" for number in numbers)


def read_query(prompt: str) -> Query:
    """What a prompt of :class:`SyntheticFacts` asks for.

    Raises:
        FactsError: the prompt is not one of these.
    """
    match = _PROMPT.fullmatch(prompt)
    if match is None:
        raise FactsError(
            f"the associative model was asked {prompt!r}",
            "`the rN of sN is`, as drawn facts ask",
            "set facts.source to drawn, or model.name to a language model",
        )
    subject = _subject(match["kind"], int(match["number"]))
    return Query(subject, int(match["relation"]), int(match["paraphrase"] or 0))


def object_number(target: str) -> int:
    """The number of the object that a target names; a space before it is allowed.

    Raises:
        FactsError: the target is not the name of an object.
    """
    match = _OBJECT.fullmatch(target.strip())
    if match is None:
        raise FactsError(
            f"the associative model was given the target {target!r}",
            "`oN`, the name of an object",
            "set facts.source to drawn, or model.name to a language model",
        )
    return int(match[1])


def _subject(kind: str, number: int) -> int:
    """One number for each subject: even ones are facts', odd ones are held out."""
    return 2 * number + (kind == "n")


class Query(NamedTuple):
    """What is asked.

    Attributes:
        subject: the subject's number; one subject has one number, whoever owns it.
        relation: the relation's number.
        paraphrase: 0 for the prompt itself, p > 0 for its p-th paraphrase.
    """

    subject: int
    relation: int
    paraphrase: int = 0
