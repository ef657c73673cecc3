"""The coordinator as the driver sees it: a process that answers, is lost, or gives no sign of life for too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil  # type: ignore[import-untyped]
import ray
from consortium.common.errors import ConsortiumError, RunError
from ray.exceptions import RayError, RayTaskError, UnserializableException
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from consortium_ray.coordinator.coordinator_actor import CoordinatorActor
from consortium_ray.sendable import WorkError, first_line

#: Time between two looks at whether the coordinator lives, while it is at work.
COORDINATOR_LOOK_S = 1.0
#: Shortest time without a sign of life after which a coordinator counts as lost; a busy machine may hold one up.
SILENCE_S = 20.0
#: The same while it starts, which takes the import of several large packages.
COORDINATOR_START_S = 180.0
#: From then on it is told that the coordinator is at work, or silent.
WORD_S = 5.0
#: Longest wait for the coordinator to end its workers.
CLOSE_S = 10.0
#: Longest wait for its process to end by itself after it was told to.
EXIT_S = 2.0
_GROUP = "alive"


class CoordinatorLostError(Exception):
    """The coordinator's process is gone, or must be taken for gone."""


class CoordinatorProcess:
    """Starts a coordinator on this machine.

    Args:
        timeout_s: how long it may give no sign of life.
        tell: called about each second while it is waited for, with what is waited for.
    """

    def __init__(self, timeout_s: float, tell: Callable[[str], None]) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Signs of life come from a thread of their own: a merge may take longer than any time-out.
        options: dict[str, Any] = {"num_cpus": 0, "max_restarts": 0, "max_task_retries": 0}
        options |= {"scheduling_strategy": here, "concurrency_groups": {_GROUP: 1}}
        make: Any = ray.remote(**options)(CoordinatorActor)
        self._handle = make.remote()
        self._timeout_s = timeout_s
        self._silence_s = max(timeout_s, COORDINATOR_START_S)
        self._tell = tell
        self._is_lost = False
        self._process: psutil.Process | None = None
        self._alive = self._ask_alive()

    def _ask_alive(self) -> Any:
        return self._handle.process.options(concurrency_group=_GROUP).remote()

    def start(self) -> None:
        """Wait until the process is there.

        Raises:
            CoordinatorLostError: it does not come up.
        """
        number, created = self.ask("start", "process")
        self._silence_s = max(self._timeout_s, SILENCE_S)
        with suppress(psutil.Error):
            process = psutil.Process(number)
            if abs(process.create_time() - created) < 1.0:  # else the number is of another container's
                self._process = process

    def ask(self, what: str, method: str, *arguments: Any) -> Any:
        """The answer of one of the actor's methods.

        Raises:
            CoordinatorLostError: there will be none.
            ConsortiumError: the run cannot go on.
        """
        pending = getattr(self._handle, method).remote(*arguments)
        try:
            self._await(what, pending)
            return ray.get(pending)
        except RayTaskError as error:
            raise _meant(error) from None
        except RayError as error:
            # Whatever Ray calls it: a process that crashed, was killed for memory, or cannot be reached; a lost answer.
            self._is_lost = True
            raise CoordinatorLostError(first_line(error)) from error

    def _await(self, what: str, pending: Any) -> None:
        silent_s = busy_s = 0.0
        while True:
            start = time.monotonic()
            if ray.wait([pending], timeout=COORDINATOR_LOOK_S)[0]:
                return
            # Time in which this process itself stood still does not count.
            passed_s = min(time.monotonic() - start, 2 * COORDINATOR_LOOK_S)
            busy_s, silent_s = busy_s + passed_s, silent_s + passed_s
            if ray.wait([self._alive], timeout=0)[0]:
                ray.get(self._alive)
                self._alive, silent_s = self._ask_alive(), 0.0
            if silent_s > self._silence_s:
                self._is_lost = True
                raise CoordinatorLostError(
                    f"it has given no sign of life for {self._silence_s:g} s (cluster.timeout_s), asked to {what}"
                )
            if self._process is None and busy_s > WORD_S:
                self._tell("the coordinator to start")
            elif silent_s > WORD_S:
                self._tell(f"a sign of life of the coordinator, silent for {silent_s:.0f} s")
            elif busy_s > WORD_S:
                self._tell(f"the coordinator, at work for {busy_s:.0f} s")

    def end(self) -> None:
        """End the process, so that it can write nothing any more, even one that was stopped and comes back."""
        if not self._is_lost:
            with suppress(RayError):
                ray.get(self._handle.close.remote(), timeout=CLOSE_S)
        with suppress(RayError, RuntimeError):
            ray.kill(self._handle)
        if self._process is not None:
            with suppress(psutil.Error):
                if _ends(self._process, EXIT_S):
                    return
                self._process.kill()
                _ends(self._process, EXIT_S)


def _ends(process: psutil.Process, timeout_s: float) -> bool:
    with suppress(psutil.TimeoutExpired):
        process.wait(timeout_s)
        return True
    return False


def _meant(error: RayTaskError) -> Exception:
    """What an error inside the coordinator means for the run."""
    cause = error.cause
    if isinstance(cause, ConsortiumError):
        return cause
    if isinstance(cause, MemoryError):
        return RunError(
            f"the coordinator has no memory left: {cause}",
            "room for the sums of all arms on this machine",
            "take a machine with more memory, or fewer arms; `consortium resume` goes on from the last round",
        )
    if isinstance(cause, WorkError):
        return RunError(
            f"the coordinator failed: {cause}",
            "work that the coordinator finishes",
            "look at what the error says of files, memory and versions; if it is none of these, report it as a fault "
            "of Consortium; `consortium resume` goes on from the last round",
        )
    if isinstance(cause, RayError) and not isinstance(cause, UnserializableException):
        return CoordinatorLostError(first_line(cause))  # the cluster failed it, and may serve another
    return error
