"""A damaged checkpoint: the run goes back to the round before, says so, and ends with the same bits."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from consortium.cli import main
from consortium.common.errors import RunDirectoryError
from consortium.engine import serial
from consortium.loading.prepare import open_facts
from consortium.records import manifest, tables
from consortium.records.directory import RunDirectory
from consortium.records.rows import ROW_TYPES
from support.scenarios import associative_scenario, difference, run_serially

TABLES = ("edits", "parties", "metrics", "residuals")


def flip(path):
    """One bit of one number."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(path):
    """As after a write that stopped halfway."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete(path):
    path.unlink()


DAMAGES = [flip, truncate, delete]


def small(**changes):
    return associative_scenario(merge={"methods": ["global", "collabedit"]}, **changes)


@pytest.fixture(scope="module")
def whole(finished_run):
    """An undisturbed run of three rounds."""
    return finished_run(small(stream={"rounds": 3}))


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of the finished run, to be damaged."""
    return shutil.copytree(whole.path, tmp_path / "run")


def checkpoint(path, round, arm="collabedit"):
    return path / f"checkpoints/round-{round:04d}/{arm}.safetensors"


def assert_ends_as(whole, path):
    again = RunDirectory.open(path)
    assert difference(whole.arm_states(), again.arm_states()) == []
    for table in TABLES:
        assert again.table(table).equals(whole.table(table)), table
    return again


@pytest.mark.parametrize("damage", DAMAGES)
def test_resume_goes_back_a_round_and_ends_with_the_same_bits(whole, copy, damage, capsys):
    damage(checkpoint(copy, 3))
    assert main.main(["resume", str(copy)]) == 0
    err = capsys.readouterr().err
    assert "checkpoints/round-0003/collabedit.safetensors is" in err
    assert "the run goes back to where it was after round 2" in err
    again = assert_ends_as(whole, copy)
    told = [row for row in again.table("events").to_pylist() if row["kind"] == "went-back"]
    assert [row["round"] for row in told] == [3]
    assert told[0]["detail"] + "." in err
    assert again.manifest.untold == ()


def test_tables_tensorboard_and_manifest_go_back_together(copy):
    flip(checkpoint(copy, 3))
    with RunDirectory.open(copy) as directory:
        assert directory.repair() is not None
        assert (directory.committed_round, directory.status, directory.manifest.finished) == (2, "running", None)
        assert set(directory.arm_states()) == {"global", "collabedit"}
    for table in ROW_TYPES:
        rounds = pq.read_table(tables.table_path(copy, table))["round"].to_pylist()
        assert max(rounds, default=2) == 2, table
        assert rounds or table in ("answers", "schedule", "participation", "nodes"), table
    assert not list((copy / "tensorboard").glob("*/*.round-0003"))
    assert sorted(path.name for path in (copy / "checkpoints").glob("round-*")) == ["round-0002"]


def test_a_process_that_is_killed_while_going_back_has_gone_back_or_not(whole, copy, monkeypatch):
    """The manifest is the single step: what comes after it, the next writer does."""
    delete(checkpoint(copy, 3))
    monkeypatch.setattr(RunDirectory, "_drop_rows", lambda self: sys.exit("killed"))
    with RunDirectory.open(copy) as directory:
        directory.lock = lambda: directory._holding.take()
        with pytest.raises(SystemExit):
            directory.repair()
    monkeypatch.undo()
    with RunDirectory.open(copy) as directory:
        assert (directory.committed_round, directory.status) == (2, "interrupted")
        assert directory.table("rounds")["round"].to_pylist() == [1, 1, 2, 2]
        serial.run_serial(directory.scenario, directory, open_facts(directory.scenario), lambda progress: None)
    assert_ends_as(whole, copy)


def test_two_damaged_rounds_are_told_and_nothing_is_changed(copy, capsys):
    flip(checkpoint(copy, 3))
    delete(checkpoint(copy, 2, "global"))
    before = (copy / manifest.MANIFEST_FILE).read_bytes()
    assert main.main(["resume", str(copy)]) == 2
    err = capsys.readouterr().err
    assert "No checkpoint to go on from is left in" in err
    assert "round-0003/collabedit.safetensors is damaged" in err
    assert "round-0002/global.safetensors is missing" in err
    assert "Traceback" not in err
    assert (copy / manifest.MANIFEST_FILE).read_bytes() == before


def test_the_unedited_model_alone_goes_back_to_the_beginning(tmp_path):
    """Nothing but round 0 was committed, so nothing is lost with it."""
    scenario = small(stream={"rounds": 1})
    whole = run_serially(scenario, tmp_path / "whole")
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        commit = RunDirectory.commit
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunDirectory, "commit", _only_round_0(commit))
            with pytest.raises(KeyboardInterrupt):
                serial.run_serial(scenario, directory, open_facts(scenario), lambda progress: None)
    truncate(checkpoint(tmp_path / "run", 0))
    with RunDirectory.open(tmp_path / "run") as directory:
        assert "before its first commit" in directory.repair()
        assert directory.committed_round is None
        serial.run_serial(scenario, directory, open_facts(scenario), lambda progress: None)
    again = assert_ends_as(whole, tmp_path / "run")
    assert [row["round"] for row in again.table("events").to_pylist() if row["kind"] == "went-back"] == [0]


def _only_round_0(commit):
    def until(self, round, states, rows, reached):
        if round:
            raise KeyboardInterrupt
        commit(self, round, states, rows, reached)

    return until


def test_with_all_checkpoints_kept_the_newest_sound_round_is_found(tmp_path, scenario, states, rows):
    with RunDirectory.create(tmp_path / "run", scenario, keep_all=True) as run:
        for round in range(4):
            run.commit(round, states(round), rows(round))
        for round in (2, 3):
            flip(checkpoint(run.path, round, "global"))
    with RunDirectory.open(run.path) as directory:
        assert "after round 1" in directory.repair()
        found = directory.arm_states()["global"].weights[5]
        np.testing.assert_array_equal(found, states(1)[0].weights[5])


def test_what_is_sound_is_left_alone(copy):
    before = (copy / manifest.MANIFEST_FILE).read_bytes()
    with RunDirectory.open(copy) as directory:
        assert directory.damage() is None
        assert directory.repair() is None
        assert not directory.is_already_known, "looking needs no lock"
    assert (copy / manifest.MANIFEST_FILE).read_bytes() == before


def test_a_run_begun_before_a_table_came_is_read_and_goes_on_without_it(copy):
    """An older version's manifest names no tables, or fewer."""
    with RunDirectory.open(copy) as directory:
        kept = tuple(name for name in ROW_TYPES if name != "residuals")
        directory.lock()
        files = {path: digest for path, digest in directory.manifest.files.items() if "residuals" not in path}
        directory._write_manifest(tables=kept, files=files)
    tables.table_path(copy, "residuals").unlink()
    delete(checkpoint(copy, 3))
    with RunDirectory.open(copy) as directory:
        assert directory.table("residuals").num_rows == 0
        serial.run_serial(directory.scenario, directory, open_facts(directory.scenario), lambda progress: None)
    assert not tables.table_path(copy, "residuals").exists()
    tables.table_path(copy, "metrics").unlink()
    with pytest.raises(RunDirectoryError, match=r"metrics\.parquet is missing"):
        RunDirectory.open(copy).table("metrics")
