"""The door: every party's own message is looked at before it is added to its cohort's sum.

Refused is, in this order,

    basis         of another lane, round or layer: an earlier round's message, or one against other weights
    group         of another group than the party's, where a method keeps groups apart, or of several
    repeated      a second message of the same party for the same lane, round and layer
    count         of more parties than one, or of more edits than a party may ask for in the round
    shape         arrays that do not fit each other or the layer, or more columns than edits
    not finite    a NaN or an infinite number
    asymmetric    a dense Gram matrix that is not symmetric
    indefinite    one that is no sum of k·kᵀ over as many edits: not positive semidefinite, or of too many columns
    too large     keys, residuals or an update that are more than ``admission.max_norm`` times as long as what is usual

A factored message is positive semidefinite by construction. What passes may be poisoned nevertheless: the door knows
what statistics can be, and not what they should be.

Shapes: K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consortium.common.arrays import tensor_of
from consortium.common.counting import count
from consortium.common.errors import StatisticsError
from consortium.features.screening.semidefinite import gram_fault
from consortium.features.screening.shapes import misfit
from consortium.merging.bucketing import GroupSums
from consortium.merging.method import Contribution
from consortium.merging.methods.global_edit import OwnedEdits
from consortium.merging.norms import Sizes, sizes_of
from consortium.merging.reference_norms import Yardstick
from consortium.merging.statistics import Basis, DenseStatistics, Statistics


@dataclass(frozen=True)
class Refusal:
    """A party whose message was refused.

    Attributes:
        party: its number.
        reason: one of those above.
        detail: what was found, in words.
    """

    party: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Judged:
    """What became of some parties' messages.

    Attributes:
        admitted: the messages to be added, in the order in which they came.
        refusals: who was refused, the first reason of each.
        largest_norm: the largest size among those admitted, in multiples of what is usual.
    """

    admitted: list[Contribution]
    refusals: tuple[Refusal, ...]
    largest_norm: float


@dataclass(frozen=True)
class Door:
    """The door of one lane, round and layer.

    Attributes:
        basis: what messages must be taken against.
        yardstick: the layer's measures.
        max_norm: a message may be so many times as large as what is usual.
        most_edits: edits that a party may ask for.
        system_trace: tr(C + H) where parties send Δ·G̃ (:mod:`consortium.merging.norms`); else None.
        num_groups: in how many groups the method keeps parties apart; None where it does not.
    """

    basis: Basis
    yardstick: Yardstick
    max_norm: float
    most_edits: int
    system_trace: float | None = None
    num_groups: int | None = None

    def judge(self, messages: Sequence[tuple[int, Contribution]]) -> Judged:
        """Admit messages of parties or refuse them; who has one message refused has them all refused."""
        refusals: dict[int, Refusal] = {}
        admitted: list[tuple[int, Contribution]] = []
        largest = 0.0
        seen: set[int] = set()
        for party, message in messages:
            sizes: Sizes = {}
            found = ("repeated", "a second message") if party in seen else self._group_fault(party, message)
            if found is None:
                inner = next(iter(message.groups.values())) if isinstance(message, GroupSums) else message
                found, sizes = self._judge_one(inner)
            seen.add(party)
            if found is not None:
                refusals.setdefault(party, Refusal(party, *found))
                continue
            admitted.append((party, message))
            largest = max([largest, *sizes.values()])
        kept = [message for party, message in admitted if party not in refusals]
        return Judged(kept, tuple(refusals[party] for party in sorted(refusals)), largest)

    def _group_fault(self, party: int, message: Contribution) -> tuple[str, str] | None:
        groups = list(message.groups) if isinstance(message, GroupSums) else None
        expected = None if self.num_groups is None else [party % self.num_groups]
        return None if groups == expected else ("group", f"groups {groups} in place of {expected}")

    def _judge_one(self, message: Contribution) -> tuple[tuple[str, str] | None, Sizes]:
        """Reason and detail of what is wrong with a message, and its sizes where it has any."""
        found = self._formal_fault(message)
        if found is not None:
            return found, {}
        sizes = sizes_of(message, self.yardstick, self.system_trace)
        return self._too_large(sizes), sizes

    def _formal_fault(self, message: Contribution) -> tuple[str, str] | None:
        """Reason and detail of what is wrong with a message whatever its size; None for nothing."""
        if message.basis != self.basis:
            return "basis", f"statistics for {message.basis}"
        if message.num_parties != 1 or not 0 <= message.num_edits <= self.most_edits:
            return (
                "count",
                f"{count(message.num_edits, 'edit')} of {count(message.num_parties, 'party')}, "
                f"at most {self.most_edits} of 1",
            )
        wrong = misfit(message, self.yardstick.shape)
        if wrong is not None:
            return "shape", wrong
        try:
            message.check()
        except StatisticsError as error:
            return "not finite", error.found
        return None if isinstance(message, OwnedEdits) else _gram_fault(message.gram)

    def _too_large(self, sizes: Sizes) -> tuple[str, str] | None:
        for name, size in sizes.items():
            if not size <= self.max_norm:
                return "too large", f"{name} {size:.3g} times as long as is usual, at most {self.max_norm:g}"
        return None


def _gram_fault(gram: Statistics) -> tuple[str, str] | None:
    """What keeps Gram sums from being any; nothing in the factored form."""
    if not isinstance(gram, DenseStatistics):
        return None
    fault = gram_fault(tensor_of(gram.gram_KK), gram.num_edits)
    if fault is None:
        return None
    reason, _, detail = fault.partition(": ")
    return reason, f"gram_KK {detail}"
