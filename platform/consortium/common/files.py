"""Files that are whole or absent: a reader, or the next process after a crash, sees the old file or the new one."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from consortium.common.errors import InputError

#: How names of files begin that are being written.
TEMPORARY = ".writing-"
#: What Consortium writes holds parties' facts: it is the user's own, whatever the umask.
FILE_MODE = 0o600
FOLDER_MODE = 0o700


def own_path(text: str) -> Path:
    """A path that a user names; ``~`` and ``~user`` are home folders.

    Raises:
        InputError: there is no such user, or no path is written like that.
    """
    try:
        path = Path(text).expanduser()
        os.fsencode(path)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{text!r} is not a path here: {error}", "a path in this machine's file system", "name another one"
        ) from error
    if "\0" in text:
        raise InputError(f"{text!r} is not a path: it holds a null byte", "a path", "name another one")
    return path


def make_folders(path: Path) -> list[Path]:
    """Make a folder and what is missing above it, each the user's own; returns those that were made, outermost first.

    Raises:
        OSError: it cannot be made, or is no folder.
    """
    missing = []
    while not path.is_dir():
        missing.append(path)
        if path == path.parent:
            break
        path = path.parent
    made: list[Path] = []
    try:
        for each in reversed(missing):
            try:
                os.mkdir(each, FOLDER_MODE)
            except FileExistsError:
                if not each.is_dir() and each != missing[0]:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(each)) from None
                if not each.is_dir():
                    raise
                continue  # another process was quicker
            made.append(each)
            os.chmod(each, FOLDER_MODE)  # whatever the umask took away
    except OSError:
        remove_folders(made)
        raise
    return made


def remove_folders(made: Sequence[Path]) -> None:
    """Remove what :func:`make_folders` made, as far as nothing is in it."""
    for each in reversed(made):
        with suppress(OSError):
            each.rmdir()


def make_own(descriptor: int) -> None:
    """Have a new file be the user's own, to be opened again whatever the umask took away; the descriptor is closed."""
    try:
        os.fchmod(descriptor, FILE_MODE)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to; when the block ends well it takes the place of ``path``."""
    make_folders(path.parent)
    # Not by the process number alone: machines that share a folder may have equal ones.
    temporary = path.with_name(f"{TEMPORARY}{uuid4().hex}")
    make_own(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
    try:
        yield temporary
        os.chmod(temporary, FILE_MODE)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a UTF-8 text file."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file; its folders are made."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as safetensors, atomically."""
    write_bytes(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """Arrays of a safetensors file; None when it is not there, damaged or not readable (it can be made again)."""
    if not path.is_file():  # a pipe would be waited for
        return None
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError):
        return None


def sha256(file: Path | BufferedReader) -> str:
    """SHA-256 of a file's content, of an open one from where it stands, as hexadecimal digits."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return sha256(opened)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
