"""A fact set that holds its edits in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from consortium.common.counting import count
from consortium.common.errors import FactsError
from consortium.common.seeds import derive
from consortium.data.edit import Edit


@dataclass(frozen=True)
class FactTable:
    """Edits in a fixed order, addressed by number from 0; a :class:`~consortium.data.edit.FactSet`.

    Attributes:
        all_edits: every edit of the source.
        limit: only so many of them count as facts; the others still lend their objects to variants. None for all.
        record_numbers: fact id → number of its record in the source, from 1; empty where there are no records.
    """

    all_edits: tuple[Edit, ...]
    limit: int | None = None
    record_numbers: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def name_of(self, fact: int) -> str:
        """What messages call a fact: by its record, or by its place in the table from 1."""
        number = self.record_numbers.get(self.all_edits[fact].fact_id)
        return f"fact {fact + 1}" if number is None else f"record {number}"

    def __len__(self) -> int:
        num_edits = len(self.all_edits)
        return num_edits if self.limit is None else min(self.limit, num_edits)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The facts' own edits, in order."""
        return self.all_edits[: len(self)]

    def relations(self) -> list[str]:
        """The relation of every fact, in order."""
        return [edit.relation for edit in self.edits]

    def edit(self, fact: int, variant: int = 0) -> Edit:
        """The edit of a fact; variant v > 0 asks for another object of its relation.

        Those objects are all targets of the relation but the fact's own two, in sorted order. Variant 1
        takes one of them by a hash of the fact's id and every next variant the next one, cyclically, so that
        two variants in a row always differ. Where a relation has fewer than two such objects, those of
        the whole table follow them. A fact that brings rivals of its own takes those first, in their order. A
        variant has no neighbours that answer with its own target, and of the questions that should change with
        the edit those alone that name the subject otherwise.

        Raises:
            FactsError: the table has too few objects for this variant.
        """
        if not 0 <= fact < len(self) or variant < 0:
            raise IndexError(f"fact {fact}, variant {variant} of {count(len(self), 'fact')}")
        own = self.all_edits[fact]
        if variant == 0:
            return own
        others = self._rivals(own)
        if len(others) < min(variant, 2):
            raise FactsError(
                f"fact {own.fact_id!r}: {len(others)} other objects in the fact set",
                f"at least {min(variant, 2)}, to contradict it in {count(variant, 'way')}",
                "use more facts, or set stream.conflict to 0",
            )
        return _asking_for(own, others[(variant - 1) % len(others)])

    def rivals(self, fact: int) -> list[str]:
        """Targets of the variants 1, 2, … of a fact, each once."""
        return self._rivals(self.all_edits[fact])

    def _rivals(self, own: Edit) -> list[str]:
        """Targets of the variants 1, 2, … of a fact, each once."""
        others = self._other_objects(own)
        offset = derive(0, "variant", own.fact_id) % max(1, len(others))
        return [*own.rivals, *others[offset:], *others[:offset]]

    def _other_objects(self, own: Edit) -> list[str]:
        taken = (own.target_new, own.target_old, *own.rivals)
        others = [target for target in self._objects[own.relation] if target not in taken]
        if len(others) < 2:
            others += [target for target in self._objects[None] if target not in (*taken, *others)]
        return others

    @cached_property
    def _objects(self) -> dict[str | None, list[str]]:
        """Sorted targets of each relation; those of the whole table under None."""
        objects: dict[str | None, set[str]] = {}
        for edit in self.all_edits:
            for key in (None, edit.relation):
                objects.setdefault(key, set()).update(filter(None, (edit.target_new, edit.target_old)))
        return {key: sorted(targets) for key, targets in objects.items()}


def _asking_for(own: Edit, target: str) -> Edit:
    """The edit with another target, and the probes that hold for it."""
    return replace(
        own,
        target_new=target,
        # Where the old target itself is asked for, it would be compared with itself.
        target_old=own.target_new if target == own.target_old else own.target_old,
        neighbors=tuple(neighbor for neighbor in own.neighbors if neighbor.target != target),
        portability=tuple(replace(probe, answers=(target,)) for probe in own.portability if probe.kind == "alias"),
    )
