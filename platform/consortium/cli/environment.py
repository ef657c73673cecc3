"""What a process is started with, made such that Consortium and the libraries under it can work in it.

A container may run as a user whom the machine does not know, without a home or with one that cannot be written; a
service may start without standard streams; a folder can go while a shell stands in it.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import sys
from contextlib import suppress
from pathlib import Path

from consortium.common.errors import InputError
from consortium.common.places import can_write, has_home, private_folder, scheme_of

# Libraries' banners and bars would tear the progress line apart.
_QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


def open_streams() -> None:
    """Give each standard stream that is closed a place: the next file that is opened would get its number.

    An output that is open only for reading, as after ``1</dev/null``, counts as closed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if number and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (as long as the process)


def make_usable() -> None:
    """Quiet the libraries, and let them find a user, a home and a present folder.

    Raises:
        InputError: there is no place for files at all, or the present folder is gone.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        os.getcwd()
    except OSError as error:
        found = "the present folder is not there any more"
        raise InputError(found, "a folder that is there", "cd to another folder, and start again") from error
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:  # torch and Ray ask for a name
        for name in ("USER", "LOGNAME"):
            os.environ.setdefault(name, f"uid-{os.getuid()}")
    with suppress(RuntimeError):  # ~nobody, which is refused when it is needed
        named = os.environ.get("CONSORTIUM_CACHE")
        if named and scheme_of(named) is None:  # by its whole path, since other processes may stand elsewhere
            os.environ["CONSORTIUM_CACHE"] = str(Path(named).expanduser().absolute())
    if not has_home():
        os.environ["HOME"] = str(private_folder())
    elif "MPLCONFIGDIR" not in os.environ and not can_write(Path.home() / ".config"):
        with suppress(InputError):  # then matplotlib looks for a place itself
            os.environ["MPLCONFIGDIR"] = str(private_folder() / "matplotlib")
