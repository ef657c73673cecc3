"""Files that a user names, read with bounds: regular files only, so many bytes, UTF-8, JSON of a bounded depth.

What cannot be read is told in words by an :class:`UnreadableError`; the caller says which key named the file, and what
was expected of it.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import stat
import zlib
from pathlib import Path
from typing import Any, BinaryIO

#: Bytes of a file that are read at most, compressed ones unpacked: about ten times the largest published set of facts.
MOST_BYTES = 1 << 30
#: Characters of one JSON value at most; the largest published set of facts has about 100 million.
MOST_JSON = 1 << 28
#: Lines of a text, rows of a table, or fields and elements of one JSON value, at most: each takes a hundred bytes of
#: memory and more, and may be a single one in a file.
MOST_PARTS = 20_000_000
#: Objects and lists inside each other, at most; records of published sets have five.
DEEPEST = 64

_KINDS = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a pipe (FIFO)"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)
_CONTROL = re.compile(r"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]")
#: Share of control characters from which on a text is taken for something else.
_MOST_CONTROL = 0.01


class UnreadableError(ValueError):
    """Why a file, or a part of it, cannot be read, in words that go after its name.

    Attributes:
        line: line of the text at which it stands, from 1; None where it is about the whole file.
        column: its column, from 1.
    """

    def __init__(self, why: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(why)
        self.line = line
        self.column = column


def expanded(name: str) -> Path:
    """A path with ``~`` as the user's folder; where no such user is known, the path as it is written."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def is_file(path: Path) -> bool:
    """Whether there is a regular file; False, too, for names that no file can have."""
    return os.path.isfile(path)


def is_folder(path: Path) -> bool:
    """Whether there is a folder; False, too, for names that no folder can have."""
    return os.path.isdir(path)


def why_no_file(path: Path) -> str | None:
    """Why there is no regular file, where something else is or one cannot look; None where there is nothing."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "is a link to nothing" if os.path.islink(path) else None
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    except ValueError:  # a zero byte, or half a surrogate pair, in the name
        return "is a name that no file can have"
    return next((words for is_kind, words in _KINDS if is_kind(mode)), None)


def open_file(path: Path, most: int = MOST_BYTES) -> BinaryIO:
    """A regular file of at most ``most`` bytes, opened to be read.

    Raises:
        UnreadableError: it is not there, no regular file, too large, or may not be read.
    """
    why = why_no_file(path)
    if why is not None:
        raise UnreadableError(why)
    try:
        # Without waiting: a pipe put there in the meantime, to which nobody writes, would never open.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UnreadableError(str(error.strerror)) from None
    file = os.fdopen(descriptor, "rb")
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise UnreadableError(why_no_file(path) or "is no regular file")
    if status.st_size > most:
        file.close()
        raise UnreadableError(f"has {status.st_size:,} bytes, and {most:,} are read at most")
    return file


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """A file's content, unpacked where its name ends in ``.gz``.

    Raises:
        UnreadableError: it cannot be read, is no gzip file, or holds more than ``most`` bytes.
    """
    with open_file(path, most) as file:
        try:
            content = _unpacked(file, most) if path.suffix.lower() == ".gz" else file.read(most + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UnreadableError(f"is no whole gzip file: {error}") from None
        except OSError as error:
            raise UnreadableError(str(error.strerror or error)) from None
    if len(content) > most:
        raise UnreadableError(f"holds more than {most:,} bytes, and no more are read")
    return content


def _unpacked(file: BinaryIO, most: int) -> bytes:
    with gzip.GzipFile(fileobj=file) as unpacked:
        return unpacked.read(most + 1)


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """A file of text in UTF-8, with or without a byte order mark, with lines that end as they do.

    Raises:
        UnreadableError: as for :func:`read_bytes`, or it is not UTF-8.
    """
    content = read_bytes(path, most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"byte {error.start} is not UTF-8{_guess(content)}") from None


def _guess(content: bytes) -> str:
    """What a content that is no text in UTF-8 looks like."""
    prefix_cache = {
        b"PAR1": ": it is Parquet, whose name should end in .parquet",
        b"\x1f\x8b": ": it is compressed, and its name should end in .gz",
        b"PK\x03\x04": ": it is a ZIP archive",
        b"\xff\xfe": ": it begins as UTF-16",
        b"\xfe\xff": ": it begins as UTF-16",
    }
    return next((words for beginning, words in prefix_cache.items() if content.startswith(beginning)), "")


def refuse_many_lines(text: str) -> None:
    """Raise UnreadableError for a text of more lines than :data:`MOST_PARTS`."""
    if len(text) > MOST_PARTS and sum(map(text.count, "\n\r")) > MOST_PARTS:
        raise UnreadableError(f"has more than {MOST_PARTS:,} lines, and no more are read")


def parse_json(text: str) -> Any:
    """One JSON value.

    Raises:
        UnreadableError: it is no JSON, is larger than :data:`MOST_JSON` or :data:`MOST_PARTS` allow, is nested deeper
            than :data:`DEEPEST`, or holds a number of thousands of digits.
    """
    if len(text) > MOST_JSON:
        raise UnreadableError(f"one JSON value of {len(text):,} characters, and {MOST_JSON:,} are read at most")
    if len(text) > MOST_PARTS and sum(map(text.count, ",[{")) > MOST_PARTS:
        raise UnreadableError(f"one JSON value of more than {MOST_PARTS:,} fields and elements, and no more are read")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableError(f"invalid JSON: {error.msg}", error.lineno, error.colno) from None
    except RecursionError:
        raise UnreadableError(_TOO_DEEP) from None
    except ValueError:  # Python converts so many digits and no more
        raise UnreadableError("a whole number of thousands of digits") from None
    if _is_too_deep(value):
        raise UnreadableError(_TOO_DEEP)
    return value


_TOO_DEEP = f"lists and objects more than {DEEPEST} deep inside each other"


def _is_too_deep(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def text_fault(text: str) -> str | None:
    """What keeps a text from being tokenised or written down: half of a surrogate pair, or a zero character."""
    place = text.find("\0")
    if place >= 0:
        return f"a zero character (U+0000) at place {place}"
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"half of a surrogate pair (U+{ord(text[error.start]):04X}) at place {error.start}"
    return None


def prose_fault(text: str) -> str | None:
    """Why a text is none that a model could read: there is nothing in it, or it is something else than text."""
    if not text.strip():
        return "is empty"
    fault = text_fault(text)
    if fault is not None:
        return f"is no text: it holds {fault}"
    share = len(_CONTROL.findall(text)) / len(text)
    return f"is no text: {share:.0%} of it are control characters" if share > _MOST_CONTROL else None
