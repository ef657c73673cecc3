"""Writing a round to a disk that may be full: :mod:`consortium.features.faults.retry` says what to do then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safetensors import SafetensorError

from consortium.common.errors import RunError
from consortium.merging.arm_state import ArmState
from consortium.records.directory import RunDirectory
from consortium.records.rows import RoundRows
from consortium.scenario.faults import OnFailureSpec


@dataclass
class Commit:
    """One round to be written, as often as it takes; what an attempt left is removed by the next one.

    Attributes:
        directory: where to.
        round: the round.
        states: the state of every arm after it.
        rows: what it adds to the tables.
        policy: what to do when the disk is full.
        reached: told of each stage of the commit before it begins.
        failures: attempts that found the disk full.
    """

    directory: RunDirectory
    round: int
    states: Sequence[ArmState]
    rows: RoundRows
    policy: OnFailureSpec
    reached: Callable[[str], None]
    failures: int = 0

    def attempt(self) -> float | None:
        """Write the round: None when it counts, else the seconds after which to try again.

        Raises:
            RunError: the disk is full, and the policy is to stop; the run is at the round before.
        """
        try:
            self.directory.commit(self.round, self.states, self.rows, self.reached)
        except (OSError, SafetensorError) as error:
            from consortium.features.faults.retry import is_full  # needed where something breaks, and nowhere else

            if not is_full(error):
                raise
            return self._after_full(error)
        return None

    def _after_full(self, error: Exception) -> float:
        from consortium.features.faults.retry import retry_after_s

        self.failures += 1
        wait_s = retry_after_s(self.policy, self.failures)
        if wait_s is None:
            tried = "" if self.failures == 1 else f", tried {self.failures} times"
            raise RunError(
                f"no space is left on the disk of {self.directory.path}: round {self.round} is not written{tried}",
                "room for the checkpoints of two rounds and for the tables",
                "make room; `consortium resume` goes on from the round before (see cluster.on_failure.disk)",
            ) from error
        return wait_s
