"""Faults on purpose: what a scenario says shall break, and when."""

from __future__ import annotations

from collections.abc import Sequence

from consortium.scenario.schema import FaultSpec

from consortium_ray.pool import Pool


class Faults:
    """Strikes each of the scenario's faults once, when its round and phase have begun.

    Args:
        faults: what shall break.
    """

    def __init__(self, faults: Sequence[FaultSpec]) -> None:
        self._left = list(faults)

    def started(self, pool: Pool, host: int, phase: str, round_number: int) -> None:
        """A host has begun a call; it is killed if that is what the scenario says."""
        for fault in self._left:
            if (fault.round, fault.during) == (round_number, phase):
                self._left.remove(fault)
                pool.kill(host)
                return
