"""Conflicts: which answer was chosen over which, and how far the losing one fell.

Conflict score and conflict magnitude of Li et al. 2024 (arXiv 2310.02129, section 3.1), for an answer o₁ that lost
against o₂ on the same prompt, with p the model's probability::

    CS = share of cases with p(o₂) > p(o₁) after the edits           (the metric ``conflict``)
    CM = mean of (p_before(o₁) - p_after(o₁)) / p_before(o₁)         (the metric ``conflict_magnitude``)

"Before" are the weights with which the round began; where an earlier round is contradicted, those hold o₁. What
differs: where p(o₁) has risen, the rise is taken relative to what it rose to, (p_before - p_after) / p_after, so that
CM is between -1 and 1, and no single answer that was next to impossible before outweighs all others; and p is the
geometric mean over the answer's tokens, as in all metrics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from consortium.data.edit import Edit, FactSet
from consortium.data.request import Request
from consortium.editing.backend import Backend
from consortium.evaluation.metrics import MagnitudeSum, ProbeSums
from consortium.features.conflicts.resolution import Verdict
from consortium.models.queries import Probe

MAGNITUDE = "conflict_magnitude"


@dataclass(frozen=True)
class Case:
    """Two answers to one prompt.

    Attributes:
        chosen: the edit whose answer is to hold.
        losing: the answer that it contradicts.
    """

    chosen: Edit
    losing: str


def case_of(facts: FactSet, request: Request, verdict: Verdict, rival_stands: bool = False) -> Case | None:
    """The conflict that a request brought up; None where it contradicts nobody.

    The chosen answer is the one that was settled on. Where nothing was settled, it is that of the request that
    contradicts: of two parties the later one, of two rounds the later one, as if the last writer had won.

    Args:
        facts: the facts.
        request: the request.
        verdict: what was settled about it.
        rival_stands: whether the answer of an earlier round that it contradicts is the one that was settled on.
    """
    if request.rival_variant is None:
        return None
    own, rival = facts.edit(request.fact, request.variant), facts.edit(request.fact, request.rival_variant)
    if verdict.fate != "withdrawn":
        return Case(own, rival.target_new)
    # Withdrawn against others, and what its party once asked for does not stand: between the two nothing was chosen.
    return Case(rival, own.target_new) if request.kind == "conflict-party" or rival_stands else None


def losing_nlls(backend: Backend, cases: Sequence[Case]) -> list[float]:
    """Negative log likelihood of each losing answer, per token, under the present weights."""
    probes = [Probe(case.chosen.text, case.losing, join=case.chosen.join) for case in cases]
    return [score.nll_target for score in backend.score(probes)]


def magnitude(of_round: int, before: Sequence[float], after: Sequence[float]) -> ProbeSums:
    """The sum over cases of how far the losing answer's probability fell, from its negative log likelihoods."""
    pairs = list(zip(before, after, strict=True))
    falls = [fall(was, now) for was, now in pairs if math.isfinite(was) and math.isfinite(now)]
    return {(MAGNITUDE, of_round): MagnitudeSum(sum(falls), len(falls), len(pairs) - len(falls))} if pairs else {}


def fall(nll_before: float, nll_after: float) -> float:
    """(p_before - p_after) / max(p_before, p_after), from -1 to 1: the relative fall, or less the relative rise."""
    change = nll_before - nll_after  # log(p_after / p_before)
    return -math.expm1(change) if change <= 0 else math.expm1(-change)
