"""Making a run directory, and removing one of which nothing came: only what Consortium made is touched.

The manifest is written last. A folder without one that holds nothing but what comes before it is what a process left
that was killed while it made a run directory: the next run takes it as if it were empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consortium.common.errors import ConsortiumError, InputError, RunDirectoryError
from consortium.common.files import TEMPORARY, make_folders, own_path
from consortium.records import checkpoints, entries, lock, manifest, scalars, scenario_file, tables
from consortium.records.rows import ROW_TYPES

#: What is said of such a folder.
UNFINISHED = "it was not made to its end; a run with --out takes it as if it were empty"
_BEFORE_MANIFEST = {*lock.FILES, scenario_file.SCENARIO_FILE, tables.TABLE_FOLDER}
#: In the order in which they go: as long as the manifest is there, so is all that it needs to be one.
_ALL = (
    "error.txt",
    "report.html",
    scalars.TENSORBOARD_FOLDER,
    checkpoints.CHECKPOINT_FOLDER,
    manifest.MANIFEST_FILE,
    tables.TABLE_FOLDER,
    scenario_file.SCENARIO_FILE,
    lock.REPORT,
)


class TakenError(RunDirectoryError):
    """The folder for a run has something else in it, or is another process's."""


def prepared_run(path: str | Path) -> tuple[Path, list[Path]]:
    """The folder for a new run, made where it is missing, and which folders were made.

    Raises:
        RunDirectoryError: it cannot be made, or is not empty.
    """
    try:
        folder = own_path(str(path))
    except InputError as error:
        raise RunDirectoryError(
            error.found, "a folder that does not exist or is empty.", "choose another --out."
        ) from None
    with refusing(folder):
        made = make_folders(folder)
        check_new(folder)
    return folder, made


def check_new(folder: Path) -> None:
    """Raise TakenError where a folder holds anything but what a killed creation left."""
    if not is_new(folder):
        if lock.is_locked(folder):
            raise TakenError(
                f"{folder} is being written by {lock.holder(folder) or 'another process'}.",
                "a folder that does not exist or is empty.",
                "choose another --out.",
            )
        raise TakenError(
            f"{folder} exists and is not empty.",
            "a folder that does not exist or is empty.",
            f"choose another --out, remove the folder, or continue the run in it: consortium resume {folder}"
            if manifest.MANIFEST_FILE in entries.names(folder)
            else "choose another --out.",
        )


def check_made(folder: Path) -> None:
    """Raise RunDirectoryError where a folder is no run yet, since whoever makes it is at it or was killed."""
    if not _is_folder(folder) or lock.RUN not in entries.names(folder) or not is_new(folder):
        return
    if lock.is_locked(folder):
        found, remedy = (
            f"{folder} is being made by {lock.holder(folder) or 'another process'}",
            "try again in a moment.",
        )
    else:
        found = f"{folder} is no run yet: it was not made to its end"
        remedy = f"run the scenario again with --out {folder}, which takes it as if it were empty."
    raise RunDirectoryError(f"{found}.", "a folder that `consortium run` made.", remedy)


def is_new(folder: Path) -> bool:
    """Whether a folder is empty, or holds what a killed creation left."""
    found = {name for name in entries.names(folder) if not name.startswith(TEMPORARY)}
    if not found:
        return True
    inside = set(entries.names(folder, tables.TABLE_FOLDER)) if tables.TABLE_FOLDER in found else set()
    known = {f"{table}.parquet" for table in ROW_TYPES}
    return (
        lock.RUN in found
        and found <= _BEFORE_MANIFEST
        and all(name in known or name.startswith(TEMPORARY) for name in inside)
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, or a folder above that may not be entered: whoever reads it says so
        return False


def clear(folder: Path) -> None:
    """Remove what a killed creation left; the locks stay."""
    entries.remove_temporaries(folder)
    for name in (tables.TABLE_FOLDER, scenario_file.SCENARIO_FILE):
        entries.remove_entry(folder, name)


def remove_run(folder: Path) -> None:
    """Remove what Consortium made in a run directory, but for the locks of the run and its writer."""
    entries.remove_temporaries(folder)
    for name in _ALL:
        entries.remove_entry(folder, name)


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """What the system refuses while a run directory is made becomes a message."""
    try:
        yield
    except ConsortiumError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RunDirectoryError(
            f"The run directory {folder} cannot be made: {what}.",
            "a folder that can be written.",
            "choose another --out.",
        ) from error
