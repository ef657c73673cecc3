"""Standard streams that never fail on a character, and a standard output that libraries cannot write to."""

from __future__ import annotations

import logging
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

#: Characters of a message's line. A file may hold a value of a megabyte, and a path may have 4,096 bytes.
LONGEST_LINE = 1000


def make_tolerant() -> None:
    """Let both standard streams write ``?`` for what their encoding lacks, rather than fail; warnings are printable."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    if logging.lastResort is not None:  # what shows warnings as long as nobody has asked for more
        logging.lastResort.setFormatter(_Printable())


def takes_unicode(stream: TextIO) -> bool:
    """Whether the stream's encoding has the characters that tables and bars are drawn with."""
    try:
        "─│█·…–’×⁻⁹".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


#: What would move the cursor, change colours or titles, or turn the order of characters: controls but for the end of a
#: line and tabulators, marks of direction, separators of lines, and halves of characters, which no file takes.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    """``text`` with the codes of its control characters in their place, so that a terminal obeys none."""
    return _CONTROLS.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def say(text: object, stream: TextIO | None = None) -> None:
    """Print a message, whatever file names, keys or fields of data in it hold, and however long those are."""
    print(readable(str(text)), file=stream, flush=True)


def readable(text: str) -> str:
    """``text`` made printable, each line at most :data:`LONGEST_LINE` long: of a longer one the middle is left out."""
    return "\n".join(_short(printable(line)) for line in text.split("\n"))


def _short(line: str) -> str:
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} … {line[-half:]}"


class _Printable(logging.Formatter):
    """Warnings name records and files."""

    def format(self, record: logging.LogRecord) -> str:
        return readable(super().format(record))


def finite(value: Any) -> Any:
    """What JSON can hold of a value: None for a number that is not finite, however deep it lies."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_PLAIN = str.maketrans("–’“”×⁻⁰¹²³⁴⁵⁶⁷⁸⁹", '-\'""x-0123456789')


def fitting(text: str, stream: TextIO) -> str:
    """``text``, with plain characters for dashes, quotes and powers of ten where the stream lacks them."""
    return text if takes_unicode(stream) else text.replace("10⁻", "10^⁻").translate(_PLAIN)


@contextmanager
def reserved_stdout() -> Iterator[TextIO]:
    """Standard output for the caller alone: whatever else is written to it meanwhile goes to standard error.

    The redirection holds for the process's file descriptor, so it catches libraries written in C and child
    processes as well as ``print``.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    python_stdout, sys.stdout = sys.stdout, sys.stderr
    own = open(os.dup(kept), "w", encoding="utf-8")  # noqa: SIM115 (closing may fail)
    try:
        yield own
    finally:
        with suppress(OSError):  # a full disk or a closed pipe, which has been told of when it was written to
            own.close()
        sys.stdout = python_stdout
        os.dup2(kept, 1)
        os.close(kept)
