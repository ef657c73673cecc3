"""Screening: every party's own message is looked at before it is added to its party batch's sum.

Refused is, in this order,

    basis         of another arm, round or layer: an earlier round's message, or one against other weights
    group         of another group than the party's, where a method keeps groups apart, or of several
    repeated      a second message of the same party for the same arm, round and layer
    count         of more parties than one, or of more edits than a party may ask for in the round
    shape         arrays that do not fit each other or the layer, or more columns than edits
    not finite    a NaN or an infinite number
    asymmetric    a dense Gram matrix that is not symmetric
    indefinite    one that is no sum of k·kᵀ over as many edits: not positive semidefinite, or of too many columns
    too large     keys, residuals or an update that are more than ``screening.max_norm`` times as long as what is usual

A factored message is positive semidefinite by construction. What passes may be poisoned nevertheless: screening knows
what statistics can be, and not what they should be.

Shapes: K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consortium.common.arrays import tensor_of
from consortium.common.counting import count
from consortium.common.errors import StatisticsError
from consortium.features.hooks import Rejection
from consortium.features.screening.semidefinite import gram_fault
from consortium.features.screening.shapes import misfit
from consortium.merging.bucketing import BucketSums
from consortium.merging.method import Contribution
from consortium.merging.methods.global_edit import OwnedEdits
from consortium.merging.norms import RelativeNorms, relative_norms_of
from consortium.merging.reference_norms import ReferenceNorms
from consortium.merging.statistics import Basis, DenseStatistics, Statistics


@dataclass(frozen=True)
class Screened:
    """What became of some parties' messages.

    Attributes:
        admitted: the messages to be added and their parties, in the order in which they came.
        rejections: who was refused, the first reason of each.
        max_norm_ratio: the largest size among those admitted, in multiples of what is usual.
    """

    admitted: list[tuple[int, Contribution]]
    rejections: tuple[Rejection, ...]
    max_norm_ratio: float


@dataclass(frozen=True)
class UpdateValidator:
    """Screening of one arm, round and layer.

    Attributes:
        basis: what messages must be taken against.
        reference_norms: the layer's measures.
        max_norm: a message may be so many times as large as what is usual.
        most_edits: edits that a party may ask for.
        system_trace: tr(C + H) where parties send Δ·G̃ (:mod:`consortium.merging.norms`); else None.
        num_buckets: in how many groups the method keeps parties apart; None where it does not.
    """

    basis: Basis
    reference_norms: ReferenceNorms
    max_norm: float
    most_edits: int
    system_trace: float | None = None
    num_buckets: int | None = None

    def screen(self, messages: Sequence[tuple[int, Contribution]]) -> Screened:
        """Admit messages of parties or refuse them; who has one message refused has them all refused."""
        rejections: dict[int, Rejection] = {}
        admitted: list[tuple[int, Contribution]] = []
        largest = 0.0
        seen: set[int] = set()
        for party, message in messages:
            relative_norms: RelativeNorms = {}
            found = ("repeated", "a second message") if party in seen else self._bucket_fault(party, message)
            if found is None:
                inner = next(iter(message.buckets.values())) if isinstance(message, BucketSums) else message
                found, relative_norms = self._screen_one(inner)
            seen.add(party)
            if found is not None:
                rejections.setdefault(party, Rejection(party, *found))
                continue
            admitted.append((party, message))
            largest = max([largest, *relative_norms.values()])
        kept = [(party, message) for party, message in admitted if party not in rejections]
        return Screened(kept, tuple(rejections[party] for party in sorted(rejections)), largest)

    def _bucket_fault(self, party: int, message: Contribution) -> tuple[str, str] | None:
        buckets = list(message.buckets) if isinstance(message, BucketSums) else None
        expected = None if self.num_buckets is None else [party % self.num_buckets]
        return None if buckets == expected else ("bucket", f"groups {buckets} in place of {expected}")

    def _screen_one(self, message: Contribution) -> tuple[tuple[str, str] | None, RelativeNorms]:
        """Reason and detail of what is wrong with a message, and its sizes where it has any."""
        found = self._formal_fault(message)
        if found is not None:
            return found, {}
        relative_norms = relative_norms_of(message, self.reference_norms, self.system_trace)
        return self._too_large(relative_norms), relative_norms

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
        wrong = misfit(message, self.reference_norms.shape)
        if wrong is not None:
            return "shape", wrong
        try:
            message.check()
        except StatisticsError as error:
            return "not finite", error.found
        return None if isinstance(message, OwnedEdits) else _gram_fault(message.gram)

    def _too_large(self, relative_norms: RelativeNorms) -> tuple[str, str] | None:
        for name, size in relative_norms.items():
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
