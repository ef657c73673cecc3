"""Conflicts of two answers to one prompt: which was chosen over which, for the metrics about them."""

from __future__ import annotations

from dataclasses import dataclass

from consortium.data.edit import Edit, FactSet
from consortium.data.request import Request
from consortium.evaluation.item import AskedEdit
from consortium.evaluation.metric import EvaluatedBatch


@dataclass(frozen=True)
class Case:
    """Two answers to one prompt.

    Attributes:
        chosen: the edit whose answer is to hold.
        losing: the answer that it contradicts.
    """

    chosen: Edit
    losing: str


def case_of(facts: FactSet, request: Request, is_rejected: bool, rival_stands: bool = False) -> Case | None:
    """The conflict that a request brought up; None where it contradicts nobody.

    The chosen answer is the one that was decided on. Where nothing was decided, it is that of the request that
    contradicts: of two parties the later one, of two rounds the later one, as if the last writer had won.

    Args:
        facts: the facts.
        request: the request.
        is_rejected: whether another answer was chosen.
        rival_stands: whether the answer of an earlier round that it contradicts is the one that was decided on.
    """
    if request.rival_variant is None:
        return None
    own, rival = facts.edit(request.fact, request.variant), facts.edit(request.fact, request.rival_variant)
    if not is_rejected:
        return Case(own, rival.target_new)
    # Rejected for others, and what its party once asked for does not stand: between the two nothing was chosen.
    return Case(rival, own.target_new) if request.kind == "conflict-party" or rival_stands else None


def case_in(batch: EvaluatedBatch, asked: AskedEdit) -> Case | None:
    """The conflict that an edit brought up; if it was rejected, it may have lost against its party's earlier answer."""
    request = asked.request
    assert request is not None, "whose edit is probed"
    may_stand = batch.scenario.conflicts.scope == "run" and asked.is_rejected
    rival_stands = False
    if may_stand and request.rival_variant is not None:
        rival = batch.facts.edit(request.fact, request.rival_variant)
        rival_stands = batch.stands(rival, request.round)
    return case_of(batch.facts, request, asked.is_rejected, rival_stands)
