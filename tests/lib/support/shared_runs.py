"""Finished serial runs that tests share, each made when it is first asked for, by one process of all.

    directory = finished_run(associative_scenario(stream={"rounds": 3}))    # a fixture of tests/conftest.py
    own = copy_of(directory, tmp_path / "run")                              # for a test that writes

A shared run is only read: ``check`` says which files of which run were changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from pathlib import Path

from consortium.records.directory import RunDirectory
from consortium.scenario.schema import Scenario
from support.scenarios import run_serially


class SharedRuns:
    """Runs in a folder, one for each scenario."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._given: set[Path] = set()
        folder.mkdir(exist_ok=True)

    def __call__(self, scenario: Scenario) -> RunDirectory:
        """The run directory of a scenario, finished and closed."""
        path = self._folder / hashlib.sha256(scenario.model_dump_json().encode()).hexdigest()[:20]
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                unfinished = path.with_suffix(".unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)
                run_serially(scenario, unfinished)
                unfinished.rename(path)
                path.with_suffix(".json").write_text(json.dumps(_files_of(path)), encoding="utf-8")
        self._given.add(path)
        return RunDirectory.open(path)

    def check(self) -> None:
        """That nobody wrote into a run that was given."""
        for path in sorted(self._given):
            before, now = json.loads(path.with_suffix(".json").read_text(encoding="utf-8")), _files_of(path)
            changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
            assert not changed, f"a test changed {changed} of a shared run; let it change a copy_of() it"


def copy_of(run: RunDirectory, path: Path) -> RunDirectory:
    """A copy that may be written."""
    shutil.copytree(run.path, path)
    return RunDirectory.open(path)


def _files_of(path: Path) -> dict[str, list[int]]:
    """Relative path → size and time of the last change, of every file."""
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): [(found := file.stat()).st_size, found.st_mtime_ns] for file in files}
