"""Who holds a run, and who writes it: one process for both, but where a coordinator writes for the one that holds."""

from __future__ import annotations

from pathlib import Path

from consortium.common.errors import RunDirectoryError
from consortium.records import lock
from consortium.records.lock import RunLock

#: Longest wait for a coordinator whose run was taken from it: its process ends with the one that started it.
_ORPHAN_S = 30.0
#: Longest wait for a coordinator that was ended.
_HAND_BACK_S = 5.0


class Holding:
    """One process's rights in a run directory.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run = RunLock(folder)
        self._writer = RunLock(folder, lock.WRITER)
        self._permit: str | None = None  # by which another process lets this one write

    @property
    def holds(self) -> bool:
        """Whether this process answers for the run."""
        return self._run.held

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes."""
        return self._writer.held

    def take(self) -> None:
        """Become the one that writes, and but for a coordinator the one that answers for the run.

        Raises:
            RunDirectoryError: another process has the run; it is named.
        """
        if self._permit is not None:
            self._writer.acquire()
            try:
                self.check()
            except BaseException:
                self._writer.release()
                raise
        elif self._run.held:
            self._run.revoke()
            self._writer.acquire(_HAND_BACK_S)
        else:
            self._run.acquire()
            try:
                self._writer.acquire(_ORPHAN_S)
            except BaseException:
                self._run.release()
                raise

    def hand_over(self) -> str:
        """Let the bearer of what is returned write, and go on answering for the run; :meth:`take` ends it."""
        permit = self._run.allow()
        self._writer.release()
        return permit

    def show(self, permit: str) -> None:
        """From now on, write by another process's leave."""
        self._permit = permit

    def check(self) -> None:
        """Raise RunDirectoryError where the run is in another's hands by now."""
        self._writer.check()
        if self._permit is None:
            self._run.check()
        elif not lock.is_permitted(self._folder, self._permit):
            raise RunDirectoryError(
                f"{self._folder} is in the hands of another process by now.",
                "a coordinator that the process which answers for the run lets write.",
                "nothing: what this one had not written yet, the other one does.",
            )

    def release(self) -> None:
        """Let other processes have the run."""
        self._writer.release()
        self._run.release()

    def remove(self) -> None:
        """Remove the locks' files, and let go."""
        self._writer.remove()
        self._run.remove()
