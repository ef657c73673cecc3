"""Errors as they travel between processes: what cannot be sent, or not be read, goes as its words.

Ray pickles what an actor raises. Where that fails the process dies, and where reading fails the words are lost; so it
is with errors of HTTP libraries, which are made from a request and a response. An actor that raises SystemExit would
end.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consortium.common.errors import ConsortiumError
from ray import cloudpickle

#: Longest text of an error that is quoted; a library may put a whole document into one.
_MOST = 500


class WorkError(Exception):
    """Stands for an error that cannot travel: its class, its words, and where it was raised."""


@contextmanager
def errors_that_travel() -> Iterator[None]:
    """Whatever the block raises, the caller in another process is told what it was."""
    try:
        yield
    except BaseException as error:
        # Ray itself ends a process in this way, and says so to whoever waits.
        if isinstance(error, ConsortiumError) or hasattr(error, "ray_terminate_msg") or _travels(error):
            raise
        raise WorkError(first_line(error) + _place_of(error)) from None


def first_line(error: BaseException) -> str:
    """An error's class and the first line of what it says."""
    if isinstance(error, WorkError):
        return str(error)
    text = _text_of(error)
    line = text.splitlines()[0] if text else ""
    line = line if len(line) <= _MOST else f"{line[:_MOST]}…"
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _text_of(error: BaseException) -> str:
    try:
        return str(error).strip()
    except Exception:  # noqa: BLE001 (another's code, which failed already)
        return ""


def _travels(error: BaseException) -> bool:
    if not isinstance(error, Exception):
        return False
    try:
        again = cloudpickle.loads(cloudpickle.dumps(error))  # type: ignore[no-untyped-call]
        return type(again).__name__ == type(error).__name__ and str(again) == str(error)
    except Exception:  # noqa: BLE001 (whatever another's class raises when it is pickled or made again)
        return False


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
