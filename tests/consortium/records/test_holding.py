"""Who holds a run and who writes it: no moment in which nobody does, and nobody writes who does not."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys

import pytest
from consortium.common.errors import RunDirectoryError
from consortium.records import holding, lock
from consortium.records.directory import RunDirectory
from consortium.report.page import build_report


@pytest.fixture
def run(tmp_path, scenario, states, rows):
    """A run that this process holds and writes, with round 0 committed."""
    with RunDirectory.create(tmp_path / "run", scenario) as made:
        made.commit(0, states(0), rows(0))
        yield made


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch):
    monkeypatch.setattr(holding, "_ORPHAN_S", 0.1)
    monkeypatch.setattr(holding, "_HAND_BACK_S", 0.1)


def is_free(path) -> bool:
    with (path / lock.RUN).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_the_run_is_held_while_another_writes_it(run, states, rows):
    permit = run.hand_over()
    assert not is_free(run.path)
    with RunDirectory.open(run.path) as coordinator:
        coordinator.lock_by(permit)
        assert (run.status, coordinator.status) == ("running", "running")
        coordinator.commit(1, states(1), rows(1))
        assert not is_free(run.path)
        with pytest.raises(RunDirectoryError, match=f"being written by process {os.getpid()}"):
            RunDirectory.open(run.path).lock()
    assert not is_free(run.path)
    run.lock()
    assert run.committed_round == 1
    run.mark_done()


def test_who_has_no_permit_does_not_write(run):
    run.hand_over()
    with RunDirectory.open(run.path) as other, pytest.raises(RunDirectoryError, match="in the hands of another"):
        other.lock_by("0" * 32)
    run.lock()


def test_a_coordinator_that_was_given_up_writes_nothing_any_more(run, states, rows):
    """It is still there, and holds the writer's lock: nobody writes until it is gone, and it does not either."""
    coordinator = RunDirectory.open(run.path)
    coordinator.lock_by(run.hand_over())
    with pytest.raises(RunDirectoryError, match="being written by"):
        run.lock()
    before = (run.path / "manifest.json").read_bytes()
    with pytest.raises(RunDirectoryError, match="in the hands of another"):
        coordinator.commit(1, states(1), rows(1))
    with pytest.raises(RunDirectoryError, match="in the hands of another"):
        coordinator.note("late", "x")
    assert (run.path / "manifest.json").read_bytes() == before
    coordinator.close()
    run.lock()
    late = RunDirectory.open(run.path)
    late.lock_by(run.hand_over())
    assert late.is_already_known
    late.close()


def test_a_commit_under_way_does_not_count_when_the_run_was_taken(run, states, rows):
    """The permit goes between the first and the last stage of a commit."""
    coordinator = RunDirectory.open(run.path)
    coordinator.lock_by(run.hand_over())

    def reached(stage):
        if stage == "manifest":
            run._holding._run.revoke()

    with pytest.raises(RunDirectoryError, match="in the hands of another"):
        coordinator.commit(1, states(1), rows(1), reached)
    coordinator.close()
    run.lock()
    assert run.committed_round == 0


def test_a_coordinator_whose_driver_was_killed_is_waited_for_and_then_named(run, states, rows):
    coordinator = RunDirectory.open(run.path)
    coordinator.lock_by(run.hand_over())
    run._holding._run.release()  # as a killed process does
    with RunDirectory.open(run.path) as successor:
        assert successor.status == "running", "somebody writes still"
        with pytest.raises(RunDirectoryError, match="being written by process"):
            successor.lock()
        with pytest.raises(RunDirectoryError, match="in the hands of another"):
            coordinator.commit(1, states(1), rows(1))
        coordinator.close()
        successor.lock()
        assert successor.committed_round == 0


@pytest.mark.parametrize("how", ["lock removed", "lock replaced", "folder replaced"])
def test_a_writer_whose_folder_was_replaced_writes_nothing_there(run, scenario, states, rows, how):
    if how == "lock removed":
        (run.path / "run.lock").unlink()
    elif how == "lock replaced":
        (run.path / "run.lock").unlink()
        (run.path / "run.lock").write_text("")
    else:
        shutil.rmtree(run.path)
        RunDirectory.create(run.path, scenario).close()
    before = (run.path / "manifest.json").read_bytes()
    with pytest.raises(RunDirectoryError, match="was removed or replaced"):
        run.commit(1, states(1), rows(1))
    assert (run.path / "manifest.json").read_bytes() == before


def test_who_never_held_the_run_says_nothing_about_it(run):
    run.mark_done()
    other = RunDirectory.open(run.path)
    with pytest.raises(RunDirectoryError, match="not held by this process"):
        other.mark_failed(ValueError("rejected"))
    run.close()
    with pytest.raises(RunDirectoryError, match="not held by this process"):
        other.mark_failed(ValueError("rejected"))
    assert RunDirectory.open(run.path).status == "done"


def test_a_report_shows_the_newest_state_whoever_began_first(run, states, rows, monkeypatch):
    """A reader opens the run, the run goes on, and then the reader writes: not what it saw when it opened."""
    reader = RunDirectory.open(run.path)
    run.commit(1, states(1), rows(1))
    build_report(reader)
    assert reader.committed_round == 1


def test_a_lock_that_is_in_use_for_a_moment_is_waited_for(run):
    """Readers who ask whether a run is held take the lock for a moment."""
    path = run.path
    run.close()
    code = f"""
import fcntl, sys, time
file = open({str(path / "run.lock")!r})
fcntl.flock(file, fcntl.LOCK_SH)
print("held", flush=True)
time.sleep(0.2)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with RunDirectory.open(path) as directory:
            directory.lock()
            assert directory.is_already_known
            with pytest.raises(RunDirectoryError, match="is being written by process"):
                RunDirectory.open(path).lock()


def test_a_file_system_without_locks_is_told(tmp_path, scenario, monkeypatch):
    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(RunDirectoryError, match=r"run\.lock cannot be locked: Operation not supported"):
        RunDirectory.create(tmp_path / "run", scenario)
