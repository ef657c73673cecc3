"""Looking over many run directories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from consortium.common.errors import ConsortiumError, InputError, RunDirectoryError
from consortium.common.files import own_path
from consortium.records import entries, lock, manifest


@dataclass(frozen=True)
class RunSummary:
    """A run at a glance.

    Attributes:
        path: its folder.
        name: the scenario's name; empty when damaged.
        status: running, done, failed, interrupted or damaged.
        rounds_done: committed rounds, the unedited model not counted.
        rounds: rounds in all; 0 when damaged.
        arms: arms in the scenario's order.
        started: ISO 8601, UTC; empty when damaged.
        worked_s: seconds of work so far.
        error: why it failed or what is damaged; else None.
    """

    path: Path
    name: str
    status: str
    rounds_done: int
    rounds: int
    arms: tuple[str, ...]
    started: str
    worked_s: float
    error: str | None


def list_runs(folder: str | Path) -> list[RunSummary]:
    """Run directories directly in ``folder`` (and itself, where it is one), oldest first.

    Raises:
        RunDirectoryError: there is no such folder.
    """
    folder = _existing(folder)
    try:
        if not folder.is_dir():
            raise RunDirectoryError(
                f"There is no folder {folder}.", "a folder that holds run directories.", "name another folder."
            )
        candidates = [folder, *sorted(each for each in folder.iterdir() if _is_folder(each))]
    except RunDirectoryError:
        raise
    except (OSError, ValueError) as error:
        raise RunDirectoryError(
            f"{folder} cannot be listed: {error}", "a folder that can be read.", "look at its permissions."
        ) from error
    runs = [run for each in candidates if (run := _look(each)) is not None]
    return sorted(runs, key=lambda run: (run.started, run.path.name))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # behind a link into a folder that this user may not enter
        return False


def _look(path: Path) -> RunSummary | None:
    """What one folder is: None for anything but a run; nothing about it that is wrong ends the list."""
    try:
        found = entries.names(path)
        if manifest.MANIFEST_FILE not in found:
            return _unfinished(path) if lock.RUN in found else None
        return _summary(path)
    except (ConsortiumError, OSError, ValueError) as error:
        if not path.exists():  # removed meanwhile
            return None
        return _damaged(path, str(error))


def _summary(path: Path) -> RunSummary:
    """By the manifest alone: it has the scenario, of which only what is shown is looked at."""
    found = manifest.read_manifest(path)
    try:
        shown = _Shown.model_validate(found.scenario)
    except ValidationError as error:
        raise entries.damage_error(path / manifest.MANIFEST_FILE, f"its scenario: {error.errors()[0]['msg']}") from None
    return RunSummary(
        path=path,
        name=found.name,
        status=manifest.status_of(path, found),
        rounds_done=found.committed_round or 0,
        rounds=shown.stream.rounds,
        arms=tuple(each.label or each.name for each in shown.merge.methods),
        started=found.started,
        worked_s=found.worked_s,
        error=found.error,
    )


class _Stream(BaseModel):
    rounds: int


class _Method(BaseModel):
    name: str
    label: str | None = None


class _Merge(BaseModel):
    methods: list[_Method]


class _Shown(BaseModel):
    """What a list of runs shows of a scenario."""

    stream: _Stream
    merge: _Merge


def _unfinished(path: Path) -> RunSummary | None:
    """A folder whose run directory a killed process was making; None where one is making it now."""
    from consortium.records import creation  # imports what writes a run, which takes a second

    if lock.is_locked(path) or not creation.is_new(path):
        return None
    return _damaged(path, creation.UNFINISHED)


def _damaged(path: Path, what: str) -> RunSummary:
    return RunSummary(path, "", "damaged", 0, 0, (), "", 0.0, what)


def _existing(path: str | Path) -> Path:
    try:
        return own_path(str(path))
    except InputError as error:
        raise RunDirectoryError(error.found, "a folder that holds run directories.", error.remedy) from None
