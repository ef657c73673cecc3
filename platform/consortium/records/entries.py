"""What lies in a run directory, opened so that it is what it seems to be.

A run directory may be a copy, an archive, or a folder that others can write. Whatever its entries are, only regular
files in real folders below it are read and replaced: no link is followed, nothing outside is reached, and nothing that
would make an open wait (a FIFO, a device) is waited for. Names are relative to the run directory, as in the manifest.

Everything is the user's own, whatever the umask: folders 0700, files 0600.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path, PurePosixPath
from uuid import uuid4

from consortium.common.errors import RunDirectoryError
from consortium.common.files import FILE_MODE, FOLDER_MODE, TEMPORARY, make_own

#: Without O_NONBLOCK, opening a FIFO waits until somebody writes to it.
SAFELY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NO_FOLDER = (errno.ENOTDIR, errno.ELOOP)
_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.EISDIR)


@contextmanager
def reading(folder: Path, name: str) -> Iterator[BufferedReader]:
    """A regular file of the run directory, open for reading.

    Raises:
        FileNotFoundError: there is nothing of this name.
        RunDirectoryError: it is a link or no regular file, lies behind a link, or cannot be read.
    """
    with _naming(folder / name), _parent(folder, name) as (at, last):
        descriptor = os.open(last, os.O_RDONLY | SAFELY, dir_fd=at)
        with os.fdopen(descriptor, "rb") as file:
            check_regular(folder / name, descriptor)
            yield file


def read_entry(folder: Path, name: str, limit: int) -> str:
    """A UTF-8 file of at most ``limit`` bytes; raises as :func:`reading` does, and where it is larger or no UTF-8."""
    with reading(folder, name) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise damage_error(folder / name, f"it has more than {limit:,} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise damage_error(folder / name, f"it is no UTF-8 ({error})") from None


def path_of_open(file: BufferedReader) -> str:
    """A path by which a library opens a file that is open already, whatever has become of its name."""
    number = file.fileno()
    return f"/proc/self/fd/{number}" if os.path.exists(f"/proc/self/fd/{number}") else f"/dev/fd/{number}"


@contextmanager
def replacing_entry(folder: Path, name: str) -> Iterator[Path]:
    """A temporary file to write to; when the block ends well it takes the place of ``name``. Its folders are made.

    Raises:
        OSError: it cannot be written; named.
        RunDirectoryError: it would lie behind a link, or a folder is in its place.
    """
    with _naming(folder / name, also=False), _parent(folder, name, makes=True) as (at, last):
        temporary = f"{TEMPORARY}{uuid4().hex}"
        make_own(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, FILE_MODE, dir_fd=at))
        try:
            yield _path_below(at, folder / name) / temporary
            _keep(temporary, at)
            os.replace(temporary, last, src_dir_fd=at, dst_dir_fd=at)
            os.fsync(at)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=at)


def write_entry(folder: Path, name: str, text: str) -> None:
    """Replace a UTF-8 file; raises as :func:`replacing_entry` does."""
    with replacing_entry(folder, name) as temporary:
        temporary.write_text(text, encoding="utf-8")


def names(folder: Path, name: str = "") -> list[str]:
    """Names in a folder of the run directory, sorted; none where it is not there."""
    with _naming(folder / name), suppress(FileNotFoundError), _parent(folder, f"{name}/_".lstrip("/")) as (at, _):
        return sorted(os.listdir(at))
    return []


def is_entry_folder(folder: Path, name: str) -> bool:
    """Whether an entry is a folder, and no link to one."""
    with _naming(folder / name), suppress(FileNotFoundError), _parent(folder, name) as (at, last):
        return stat.S_ISDIR(os.stat(last, dir_fd=at, follow_symlinks=False).st_mode)
    return False


def remove_entry(folder: Path, name: str) -> None:
    """Remove an entry and what is below it, where it is there; of a link the link alone."""
    with _naming(folder / name, also=False), suppress(FileNotFoundError), _parent(folder, name) as (at, last):
        if stat.S_ISDIR(os.stat(last, dir_fd=at, follow_symlinks=False).st_mode):
            shutil.rmtree(last, dir_fd=at)
        else:
            os.unlink(last, dir_fd=at)


def remove_temporaries(folder: Path) -> None:
    """Remove what interrupted writers left anywhere in the run directory."""
    with _naming(folder, also=False), _parent(folder, "_") as (top, _):
        for _, _, files, at in os.fwalk(".", follow_symlinks=False, dir_fd=top):
            for name in files:
                if name.startswith(TEMPORARY):
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=at)


def check_regular(path: Path, descriptor: int) -> None:
    """Raise RunDirectoryError where an open file is not a regular one."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise _no_file(path)


def damage_error(path: Path, what: str) -> RunDirectoryError:
    """The error for a file that is not what Consortium wrote."""
    return RunDirectoryError(
        f"{path} is damaged: {what}.", "the file as Consortium wrote it.", "restore it from a copy, or run again."
    )


@contextmanager
def _parent(folder: Path, name: str, *, makes: bool = False) -> Iterator[tuple[int, str]]:
    """A descriptor of the folder that an entry lies in, and the last part of its name."""
    *above, last = _parts(folder, name)
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in above:
            if makes:
                _make(part, at)
            try:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | SAFELY, dir_fd=at)
            except OSError as error:
                if error.errno in _NO_FOLDER:
                    raise _no_folder(folder / name, part) from None
                raise
            os.close(at)
            at = below
        yield at, last
    finally:
        os.close(at)


def _parts(folder: Path, name: str) -> tuple[str, ...]:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise RunDirectoryError(
            f"{name!r} is not the name of a file in {folder}.",
            "a name without .. and without / in front.",
            "restore manifest.json from a copy, or run again.",
        )
    return parts


def _make(part: str, at: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(part, FOLDER_MODE, dir_fd=at)
        os.chmod(part, FOLDER_MODE, dir_fd=at)  # whatever the umask took away


def _keep(temporary: str, at: int) -> None:
    """Have a written file on the disk; a library may have put another in its place, so its mode is set again."""
    descriptor = os.open(temporary, os.O_RDONLY | SAFELY, dir_fd=at)
    try:
        os.fchmod(descriptor, FILE_MODE)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _path_below(at: int, path: Path) -> Path:
    """The open folder as a path: the kernel's name for it cannot be turned into a link to somewhere else."""
    by_number = Path(f"/proc/self/fd/{at}")
    return by_number if by_number.exists() else path.parent


@contextmanager
def _naming(path: Path, *, also: bool = True) -> Iterator[None]:
    """Errors of the system name the whole path, and say it if an entry is not what it should be.

    ``also`` says whether all others, too, become a RunDirectoryError.
    """
    try:
        yield
    except FileNotFoundError as error:
        error.filename = str(path)
        raise
    except OSError as error:
        if error.errno in _NO_FILE:
            raise _no_file(path) from None
        if also:
            raise RunDirectoryError(
                f"{path} cannot be read: {error.strerror or error}.",
                "a file that can be read.",
                "look at its permissions and at its disk.",
            ) from error
        if error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _no_file(path: Path) -> RunDirectoryError:
    return RunDirectoryError(
        f"{path} is a link, a folder or a device.",
        "a regular file, as Consortium wrote it; links in a run directory are not followed.",
        "put the file itself in its place, or run again.",
    )


def _no_folder(path: Path, part: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"{path} cannot be reached: {part} is a link, or no folder.",
        "a folder, as Consortium made it; links in a run directory are not followed.",
        "put the folder itself in its place, or run again.",
    )
