"""Faults on purpose: what a scenario says shall break, and when.

An occasion is a call that is handed to a worker, a merge, or a commit. Whether a fault with a rate happens at one is
drawn from (seed, fault, occasion), so it does not depend on which worker is there first. It happens at an occasion at
most once, and at most ``max`` times in the run. What happens is written to the run directory before: a coordinator that
starts again, or a run that is resumed, does not break at the same place for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from consortium.common.seeds import numpy_generator
from consortium.records.directory import STAGES
from consortium.scenario.faults import FaultSpec
from consortium.scenario.schema import Scenario

_KEY = "faults"


class Faults:
    """Which of the scenario's faults are due.

    Args:
        scenario: says what shall break.
        recall: what :meth:`consortium.records.directory.RunDirectory.remember` kept under a name.
        remember: keeps something under a name.
    """

    def __init__(
        self,
        scenario: Scenario,
        recall: Callable[[str, Any], Any] = lambda key, default: default,
        remember: Callable[[str, Any], None] = lambda key, value: None,
    ) -> None:
        self._scenario = scenario
        self._remember = remember
        # A list for each fault, since JSON has no other keys than texts.
        kept = recall(_KEY, [])
        self._struck: list[list[str]] = [list(each) for each in kept] or [[] for _ in scenario.faults]

    def at_call(
        self, phase: str, round_number: int, key: Hashable, can_lose_node: Callable[[], bool]
    ) -> FaultSpec | None:
        """The fault that strikes a call; ``can_lose_node`` says whether its worker's node may go."""
        return self._due(phase, round_number, str(key), lambda _, fault: not fault.strikes_node or can_lose_node())

    def at_merge(self, round_number: int, arm: str, layer: int) -> FaultSpec | None:
        """The fault that strikes a merge."""
        return self._due("merge", round_number, f"{arm}/{layer}", lambda _, fault: True)

    def at_commit(self, round_number: int, stage: str) -> FaultSpec | None:
        """The fault that strikes a stage of a commit; each has its stage, drawn from the seed."""

        def suits(number: int, fault: FaultSpec) -> bool:
            generator = numpy_generator(self._scenario.seed, "fault-stage", number, round_number)
            return STAGES[generator.integers(len(STAGES))] == stage

        return self._due("commit", round_number, "", suits)

    def _due(
        self, phase: str, round_number: int, place: str, suits: Callable[[int, FaultSpec], bool]
    ) -> FaultSpec | None:
        """The first fault that is due at an occasion; from now on it has happened there."""
        occasion = f"{round_number}/{phase}/{place}"
        for number, fault in enumerate(self._scenario.faults):
            struck = self._struck[number]
            is_here = fault.round in (None, round_number) and fault.during in (None, phase) and phase in fault.phases
            is_over = len(struck) >= fault.max or occasion in struck
            if is_here and not is_over and self._is_synthetic(number, fault, occasion) and suits(number, fault):
                struck.append(occasion)
                self._remember(_KEY, self._struck)
                return fault
        return None

    def _is_synthetic(self, number: int, fault: FaultSpec, occasion: str) -> bool:
        generator = numpy_generator(self._scenario.seed, "fault", number, occasion)
        return bool(generator.random() < fault.rate)
