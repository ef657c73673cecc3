"""Looking over many run directories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from consortium.errors import RunDirectoryError
from consortium.records import manifest
from consortium.records.directory import RunDirectory


@dataclass(frozen=True)
class RunSummary:
    """A run at a glance.

    Attributes:
        path: its folder.
        name: the scenario's name; empty when damaged.
        status: running, done, failed, interrupted or damaged.
        rounds_done: committed rounds, the unedited model not counted.
        rounds: rounds in all; 0 when damaged.
        lanes: lanes in the scenario's order.
        started: ISO 8601, UTC; empty when damaged.
        worked_s: seconds of work so far.
        error: why it failed or what is damaged; else None.
    """

    path: Path
    name: str
    status: str
    rounds_done: int
    rounds: int
    lanes: tuple[str, ...]
    started: str
    worked_s: float
    error: str | None


def list_runs(folder: str | Path) -> list[RunSummary]:
    """Run directories directly in ``folder`` (and itself, where it is one), oldest first.

    Raises:
        RunDirectoryError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunDirectoryError(
            f"There is no folder {folder}.", "a folder that holds run directories.", "name another folder."
        )
    candidates = [folder, *sorted(each for each in folder.iterdir() if each.is_dir())]
    runs = [_look(each) for each in candidates if (each / manifest.FILE).exists()]
    return sorted(runs, key=lambda run: (run.started, run.path.name))


def _look(path: Path) -> RunSummary:
    try:
        directory = RunDirectory.open(path)
    except RunDirectoryError as error:
        return RunSummary(path, "", "damaged", 0, 0, (), "", 0.0, str(error))
    scenario = directory.scenario
    return RunSummary(
        path=path,
        name=scenario.name,
        status=directory.status,
        rounds_done=directory.committed_round or 0,
        rounds=scenario.stream.rounds,
        lanes=tuple(method.lane for method in scenario.merge.methods),
        started=directory.manifest.started,
        worked_s=directory.worked_s,
        error=directory.manifest.error,
    )
