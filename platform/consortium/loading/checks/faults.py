"""Rules for ``faults``: what cannot happen in this scenario is refused, rather than waited for in vain."""

from __future__ import annotations

from collections.abc import Iterator

from consortium.loading.field_errors import FieldError
from consortium.scenario.faults import FaultSpec
from consortium.scenario.schema import Scenario


def fault_errors(scenario: Scenario) -> Iterator[FieldError]:
    """Every mistake of ``faults``."""
    for index, fault in enumerate(scenario.faults):
        yield from _round(scenario, ("faults", index), fault)
        yield from _phase(scenario, ("faults", index), fault)


def _round(scenario: Scenario, path: tuple[str, int], fault: FaultSpec) -> Iterator[FieldError]:
    rounds, every = scenario.stream.rounds, scenario.evaluate.every
    if fault.round is None:
        return
    if fault.round > rounds:
        yield FieldError((*path, "round"), f"found {fault.round}", f"a round from 1 to {rounds} (stream.rounds)")
    elif fault.during == "covariance" and fault.round:
        yield FieldError((*path, "round"), f"found {fault.round}", "0: the key covariance comes before the first round")
    elif fault.during != "covariance" and not fault.round:
        yield FieldError((*path, "round"), "found 0", "a round from 1, or during: key covariance")
    elif fault.during == "evaluate" and fault.round % every and fault.round != rounds:
        allowed = f"a round that is evaluated: a multiple of evaluate.every ({every}), or the last"
        yield FieldError((*path, "round"), f"found {fault.round}", allowed)
    elif fault.during == "unlearn" and fault.round not in _unlearning(scenario):
        yield FieldError((*path, "round"), f"found {fault.round}", "a round in which edits are removed")


def _unlearning(scenario: Scenario) -> set[int]:
    parties, edits = scenario.unlearn.parties, scenario.unlearn.edits
    return {each.round for each in parties} | {each.round for each in edits}


def _phase(scenario: Scenario, path: tuple[str, int], fault: FaultSpec) -> Iterator[FieldError]:
    where = (*path, "during")
    if fault.during == "announce" and not scenario.resolves:
        allowed = (
            "targets, collect or evaluate; parties announce their edits with overlap.duplicates: count_once or a policy"
        )
        yield FieldError(where, "found 'announce', where nothing is resolved", allowed)
    elif fault.during == "unlearn" and not _unlearning(scenario):
        yield FieldError(where, "found 'unlearn', where no edits are removed", "another phase")
    elif fault.during not in (None, *fault.phases):
        allowed = f"one of {', '.join(fault.phases)}: {fault.words} can happen in no other phase"
        yield FieldError(where, f"found {fault.during!r} with action: {fault.action}", allowed)
