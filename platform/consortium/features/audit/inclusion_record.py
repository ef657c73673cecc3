"""Receipts: what a worker says of the edits that its answer to the coordinator speaks for, without saying what they
are.

The digest is over places alone (round, party, number among the party's requests), whether an entry is a copy in other
words, and weights: all of it follows from the scenario and from what was decided, so it tells nobody what is edited.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from consortium.data.party_batch import WeightedEdit

#: Of SHA-256, enough that two different sets of edits never look the same by chance.
_DIGEST_DIGITS = 32


@dataclass(frozen=True)
class InclusionRecord:
    """The edits of one party batch that are in one sum.

    Attributes:
        party_batch: the party batch.
        num_edits: accepted edits, copies in other words not counted.
        num_summed: what is in the sum: those edits and their copies, but for what the model held already.
        digest: of the accepted edits and copies, in their order: hexadecimal digits.
    """

    party_batch: int
    num_edits: int
    num_summed: int
    digest: str


def inclusion_record_of(
    party_batch: int, edits: Iterable[WeightedEdit], num_summed: int | None = None
) -> InclusionRecord:
    """The inclusion record for some accepted edits of a party batch; all of them are in the sum where ``num_summed`` is
    None."""
    lines, num_copies = [], 0
    for each in edits:
        place = each.request.round, each.request.party, each.request.index
        num_copies += each.copy is not None
        lines.append(f"{place} {each.copy is not None} {float(each.weight).hex()}")
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_DIGEST_DIGITS]
    return InclusionRecord(
        party_batch, len(lines) - num_copies, len(lines) if num_summed is None else num_summed, digest
    )
