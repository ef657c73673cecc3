"""Rules for ``faults``: what cannot happen in this scenario is refused, rather than waited for in vain."""

from __future__ import annotations

from collections.abc import Iterator

from consortium.loading.mistakes import Mistake
from consortium.scenario.faults import CALLED, FaultSpec
from consortium.scenario.schema import Scenario


def fault_mistakes(scenario: Scenario) -> Iterator[Mistake]:
    """Every mistake of ``faults``."""
    for index, fault in enumerate(scenario.faults):
        yield from _one_action(("faults", index), fault)
        yield from _round(scenario, ("faults", index), fault)
        yield from _phase(scenario, ("faults", index), fault)


def _one_action(path: tuple[str, int], fault: FaultSpec) -> Iterator[Mistake]:
    if len(fault.actions) > 1:
        found = f"found {fault.words}"
        yield Mistake(path, found, "one of kill, cut, slow, corrupt and fill", "write a fault of its own for each")


def _round(scenario: Scenario, path: tuple[str, int], fault: FaultSpec) -> Iterator[Mistake]:
    rounds, every = scenario.stream.rounds, scenario.evaluate.every
    if fault.round is None:
        return
    if fault.round > rounds:
        yield Mistake((*path, "round"), f"found {fault.round}", f"a round from 1 to {rounds} (stream.rounds)")
    elif fault.during == "prior" and fault.round:
        yield Mistake((*path, "round"), f"found {fault.round}", "0: the prior comes before the first round")
    elif fault.during != "prior" and not fault.round:
        yield Mistake((*path, "round"), "found 0", "a round from 1, or during: prior")
    elif fault.during == "evaluate" and fault.round % every and fault.round != rounds:
        allowed = f"a round that is evaluated: a multiple of evaluate.every ({every}), or the last"
        yield Mistake((*path, "round"), f"found {fault.round}", allowed)
    elif fault.during == "retract" and fault.round not in _taking_back(scenario):
        yield Mistake((*path, "round"), f"found {fault.round}", "a round in which edits are taken back")


def _taking_back(scenario: Scenario) -> set[int]:
    stream = scenario.stream
    return {each.round for each in stream.leave} | {each.round for each in stream.retract}


def _phase(scenario: Scenario, path: tuple[str, int], fault: FaultSpec) -> Iterator[Mistake]:
    where = (*path, "during")
    if fault.during == "announce" and not scenario.settles:
        allowed = "targets, collect or evaluate; parties announce their edits with overlap.weigh: once or a policy"
        yield Mistake(where, "found 'announce', where nothing is settled", allowed)
    elif fault.during == "retract" and not _taking_back(scenario):
        yield Mistake(where, "found 'retract', where no edits are taken back", "another phase")
    elif fault.fill is not None and fault.during not in (None, "commit"):
        yield Mistake(where, f"found {fault.during!r} with fill: disk", "commit: rounds are written in no other phase")
    elif fault.needs_call and fault.during not in (None, *CALLED):
        found = f"found {fault.during!r} with {fault.words}"
        yield Mistake(where, found, f"a phase in which hosts are called: {', '.join(CALLED)}")
