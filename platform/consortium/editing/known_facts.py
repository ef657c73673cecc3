"""What a model holds already: the signal of overlap, and what parties say of it.

The residual of an edit, z - h, is what the model is still wanting of it. Where a fact is held already, the loss is
low from the start and the residual short: its length is the signal of overlap of CollabEdit (arXiv 2410.09508,
section 4.1). Here it is taken relative to the hidden state's, so that one threshold serves all subjects and layers
(:attr:`consortium.editing.backend.Targets.shifts`). A party that sees an edit under the threshold leaves it out, in
arms with ``skip_known: residual``. Only counts and sums leave a party.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from consortium.models.queries import Answer
from consortium.scenario.schema import OverlapSpec

#: The kind of a request, and in how many earlier rounds its party asked the same.
RequestGroup = tuple[str, int]


@dataclass(frozen=True)
class Detection:
    """An edit beside what others taught (:mod:`consortium.editing.contradiction`).

    Attributes:
        is_contradicting: in truth it contradicts an earlier round; parties do not know, the simulation does.
        is_found: its party found so.
    """

    is_contradicting: bool = False
    is_found: bool = False


@dataclass(frozen=True)
class Residuals:
    """Sums over some edits that were asked for alike.

    Attributes:
        num_edits: edits.
        shift: Σ ‖z - h‖ / ‖h‖.
        num_known: edits under the threshold, which the model is taken to hold already; arms that share targets share
            this number, whether their parties leave such edits out or not.
        num_contradicting: edits that contradict an earlier round, where parties look for that.
        num_detected: edits of which their party found so.
        num_correctly_detected: edits of both kinds.
        num_not_finite: edits besides, whose residuals are not finite; in no other number.
    """

    num_edits: int = 0
    shift: float = 0.0
    num_known: int = 0
    num_contradicting: int = 0
    num_detected: int = 0
    num_correctly_detected: int = 0
    num_not_finite: int = 0

    def __add__(self, other: Residuals) -> Residuals:
        return Residuals(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


def is_already_known(overlap: OverlapSpec, shift: float) -> bool:
    """Whether a party that looks takes an edit with this relative residual for held."""
    return shift < overlap.threshold


def residual_sums(
    asked: Sequence[RequestGroup], shifts: Sequence[float], overlap: OverlapSpec, detections: Sequence[Detection] = ()
) -> dict[RequestGroup, Residuals]:
    """Sums over a party batch's edits, by how they were asked for; ``detections`` is empty where nobody looked."""
    edits = zip(asked, shifts, detections or [Detection()] * len(asked), strict=True)
    return add_residuals({each: _of_one(shift, overlap, seen)} for each, shift, seen in edits)


def _of_one(shift: float, overlap: OverlapSpec, seen: Detection) -> Residuals:
    if not math.isfinite(shift):
        return Residuals(num_not_finite=1)
    is_right = seen.is_contradicting and seen.is_found
    held = int(is_already_known(overlap, shift))
    return Residuals(1, shift, held, int(seen.is_contradicting), int(seen.is_found), int(is_right))


def add_residuals(parts: Iterable[Mapping[RequestGroup, Residuals]]) -> dict[RequestGroup, Residuals]:
    """The sums of several party batches, added in the order given."""
    total: dict[RequestGroup, Residuals] = {}
    for part in parts:
        for each, residuals in part.items():
            total[each] = total.get(each, Residuals()) + residuals
    return total


#: Above this probability of one token no other can be the likeliest.
SURE = 0.5


def is_contradicted(now: Answer, unedited: Answer, shift: float, overlap: OverlapSpec) -> bool:
    """Whether a model says something else that it was taught.

    Args:
        now: its answer to an edit's prompt by teacher forcing, with the chances of its tokens.
        unedited: that of the unedited model.
        shift: length of the edit's residual, relative to the hidden state's.
        overlap: says which residuals are short.
    """
    if not (now.is_finite and unedited.is_finite):
        return False  # what is no answer contradicts nothing
    if now.is_target or is_already_known(overlap, shift):
        return False
    pairs = zip(now.said, now.wanted, strict=True)
    place = next(place for place, (said, wanted) in enumerate(pairs) if said != wanted)
    return now.said[place] != unedited.said[place] and now.chances[place] > SURE
