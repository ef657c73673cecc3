"""Locks of a run directory, held by the operating system: a killed process lets go by itself.

``run.lock`` is held by the process that answers for the run, from its first moment to its last. ``writer.lock`` is held
by the one that writes: the same process, or the coordinator that it lets write (:meth:`RunLock.allow`). A coordinator
writes only while ``run.lock`` says so, so one that was given up, or whose run another process has taken over, writes
nothing any more, whatever it is doing. ``report.lock`` is held while the report is written, by anybody.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from consortium.common.errors import RunDirectoryError
from consortium.common.files import FILE_MODE
from consortium.records.entries import SAFELY, check_regular

RUN = "run.lock"
WRITER = "writer.lock"
REPORT = "report.lock"
FILES = (RUN, WRITER, REPORT)

#: What is wrong with the folder or its disk, and not with the lock's file.
_OF_THE_FOLDER = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT}
_PATIENCE_S = 0.5  # longer than anybody who only asks `is_locked` holds on
_POLL_S = 0.02
_MOST_BYTES = 400


class RunLock:
    """The right to do something in one run directory, for one process at a time.

    Args:
        folder: the run directory.
        file: which of :data:`FILES`.
        doing: what its holder does, for messages.
    """

    def __init__(self, folder: Path, file: str = RUN, doing: str = "written") -> None:
        self._path = folder / file
        self._doing = doing
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """True while this object holds the lock."""
        return self._descriptor is not None

    def acquire(self, patience_s: float = _PATIENCE_S) -> None:
        """Take the lock, or raise RunDirectoryError that names the process which holds it."""
        if self.held:
            return
        give_up = time.monotonic() + patience_s
        while (descriptor := self._take()) is None:
            if time.monotonic() > give_up:
                raise RunDirectoryError(
                    f"{self._path.parent} is being {self._doing} by {_first_line(self._path) or 'another process'}.",
                    "one process at a time for a run.",
                    "wait until it has finished, or end it; or choose another folder with --out.",
                )
            time.sleep(_POLL_S)
        self._descriptor = descriptor
        try:
            self._say("")
        except OSError:  # a full disk
            if os.fstat(descriptor).st_size == 0:  # nobody's before
                self.remove()
            self.release()
            raise

    def release(self) -> None:
        """Let go; harmless when the lock is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """Remove the file and let go; who opened it meanwhile sees that it is gone, and takes another."""
        if self.held:
            self._path.unlink(missing_ok=True)
            self.release()

    def allow(self) -> str:
        """Let another process write: the permit that it shows. Every permit that was given before is void."""
        permit = uuid4().hex
        self._say(f"permit {permit}\n")
        return permit

    def revoke(self) -> None:
        """No permit is good any more."""
        self._say("")

    def check(self) -> None:
        """Raise RunDirectoryError where the lock's file is not the one that is held: the run is another's by now."""
        assert self._descriptor is not None, f"{self._path.name} is not held"
        if not _is_same(self._path, self._descriptor):
            raise RunDirectoryError(
                f"{self._path} was removed or replaced while this process wrote the run.",
                "a run directory that is left alone while a run goes on.",
                "look for another process that writes there, and run the scenario again.",
            )

    def _take(self) -> int | None:
        """The locked file's descriptor; None where another has it."""
        descriptor = _open(self._path, os.O_RDWR | os.O_CREAT)
        is_taken = False
        try:
            is_taken = (
                _try_lock(self._path, descriptor, fcntl.LOCK_EX)
                and _is_same(self._path, descriptor)
                and not self._has_other_names(descriptor)
            )
            if is_taken:
                with suppress(PermissionError):  # another's file, which this one may write
                    os.fchmod(descriptor, FILE_MODE)
        finally:
            if not is_taken:
                os.close(descriptor)
        return descriptor if is_taken else None

    def _has_other_names(self, descriptor: int) -> bool:
        """Whether the file is somebody's under another name; if so, it is not written to, and this name is given up."""
        if os.fstat(descriptor).st_nlink < 2:
            return False
        self._path.unlink()
        return True

    def _say(self, more: str) -> None:
        assert self._descriptor is not None
        text = f"process {os.getpid()} on {socket.gethostname()}\n{more}".encode()
        os.pwrite(self._descriptor, text.ljust(_MOST_BYTES // 2), 0)
        os.ftruncate(self._descriptor, len(text))


def is_locked(folder: Path) -> bool:
    """True when some process (this one included) answers for the run in ``folder``, or writes there."""
    return any(_is_locked(folder / file) for file in (RUN, WRITER))


def holder(folder: Path) -> str:
    """Who holds the run in ``folder``, or held it last: process and machine; empty where it is not said."""
    return _first_line(folder / RUN)


def is_permitted(folder: Path, permit: str) -> bool:
    """Whether the process that answers for the run lets the bearer of a permit write."""
    return f"permit {permit}" in _content(folder / RUN).splitlines()


def _is_locked(path: Path) -> bool:
    try:
        descriptor = _open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(path, descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _open(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | SAFELY, FILE_MODE)
    except FileNotFoundError:
        if flags & os.O_CREAT:
            raise _unusable(path, "cannot be made: its folder is gone") from None
        raise
    except OSError as error:
        if error.errno in _OF_THE_FOLDER:
            raise RunDirectoryError(
                f"{path} cannot be opened: {error.strerror}.",
                "a run directory of your own that can be written, on a disk with room.",
                "see to that, or copy the run to such a folder and name the copy.",
            ) from error
        raise _unusable(path, f"cannot be opened: {error.strerror}") from error
    try:
        check_regular(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _try_lock(path: Path, descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # file systems without locks: some of networks, and object storage that is mounted
        raise _unusable(path, f"cannot be locked: {error.strerror}") from error
    return True


def _is_same(path: Path, descriptor: int) -> bool:
    """Whether a name still stands for the file that is open."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _first_line(path: Path) -> str:
    return _content(path).partition("\n")[0].strip()


def _content(path: Path) -> str:
    try:
        descriptor = _open(path, os.O_RDONLY)
    except FileNotFoundError:
        return ""
    try:
        return os.read(descriptor, _MOST_BYTES).decode(errors="replace")
    finally:
        os.close(descriptor)


def _unusable(path: Path, what: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"{path} {what}.",
        "a regular file of your own on a file system with locks; links in a run directory are not followed.",
        "remove it if no process writes the run, or choose another folder with --out.",
    )
