"""Failure policies: pure decisions, and the disk that is full while a round is written."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
from consortium.common.errors import RunError
from consortium.engine import serial
from consortium.engine.arms import unedited
from consortium.engine.commit import Commit
from consortium.features.faults.retry import is_full, replaces_worker, restarts_coordinator, retry_after_s
from consortium.loading.prepare import open_facts
from consortium.records import checkpoints, directory, tables
from consortium.records.directory import STAGES, RunDirectory
from consortium.records.rows import EventRow, RoundRows
from consortium.scenario.faults import OnFailureSpec
from safetensors import SafetensorError
from support.scenarios import associative_scenario, difference, run_serially
from support.tiers import one_quick

SMALL = {"merge": {"methods": ["collabedit"]}}


def no_space(*_arguments, **_settings):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_losses_are_borne_up_to_the_limit_and_not_at_all_where_the_policy_is_to_stop():
    policy = OnFailureSpec(max_losses=2)
    assert [replaces_worker(policy, losses) for losses in (1, 2, 3)] == [True, True, False]
    assert [restarts_coordinator(policy, losses) for losses in (1, 2, 3)] == [True, True, False]
    stop = OnFailureSpec(worker="stop", coordinator="stop", disk="stop")
    assert not replaces_worker(stop, 1)
    assert not restarts_coordinator(stop, 1)
    assert retry_after_s(stop, 1) is None


def test_a_full_disk_is_given_longer_and_longer():
    policy = OnFailureSpec(wait_s=1.5, max_losses=3)
    assert [retry_after_s(policy, failures) for failures in (1, 2, 3, 4)] == [1.5, 3.0, 6.0, None]


def test_a_full_disk_is_known_by_number_or_by_words():
    assert is_full(OSError(errno.ENOSPC, "x"))
    assert is_full(OSError(errno.EDQUOT, "x"))
    assert is_full(SafetensorError("I/O error: No space left on device (os error 28)"))
    assert not is_full(OSError(errno.EIO, "x"))


class TestCommits:
    @pytest.fixture
    def run(self, tmp_path, scenario_rows):
        scenario, states, rows = scenario_rows
        with RunDirectory.create(tmp_path / "run", scenario) as run:
            run.commit(0, states(0), rows(0))
            yield run

    @pytest.fixture
    def scenario_rows(self):
        base = {0: np.eye(2, dtype=np.float32)}

        def rows(round):
            return RoundRows(events=[EventRow(1.0, "commit", round, None, None, None, None, None, None, None)])

        return associative_scenario(), lambda round: [unedited(base).state(round)], rows

    def commit(self, run, scenario_rows, policy, reached=lambda stage: None):
        _, states, rows = scenario_rows
        return Commit(run, 1, states(1), rows(1), policy, reached)

    @pytest.mark.parametrize("stage", STAGES)
    def test_a_disk_that_has_room_again_gets_the_round(self, run, scenario_rows, stage):
        full = [stage]

        def reached(at):
            if at in full:
                full.remove(at)
                no_space()

        commit = self.commit(run, scenario_rows, OnFailureSpec(wait_s=7.0), reached)
        assert commit.attempt() == 7.0
        assert (run.committed_round, RunDirectory.open(run.path).table("events").num_rows) == (0, 1)
        assert commit.attempt() is None
        assert run.committed_round == 1
        assert run.table("events")["round"].to_pylist() == [0, 1]
        assert not list(run.path.rglob(".writing-*"))

    @pytest.mark.parametrize(
        ("module", "name"),
        [(checkpoints, "save_file"), (tables.pq, "ParquetWriter"), (directory.manifest, "write_manifest")],
    )
    def test_whoever_writes_may_meet_it(self, run, scenario_rows, monkeypatch, module, name):
        monkeypatch.setattr(module, name, no_space)
        commit = self.commit(run, scenario_rows, OnFailureSpec(max_losses=1))
        assert commit.attempt() == 5.0
        with pytest.raises(RunError, match=r"no space is left .*: round 1 is not written, tried 2 times") as caught:
            commit.attempt()
        assert "consortium resume" in caught.value.remedy
        assert not list(run.path.rglob(".writing-*"))

    def test_another_injected_fault_with_files_comes_out_as_itself(self, run, scenario_rows, monkeypatch):
        def broken(*_arguments, **_settings):
            raise OSError(errno.EIO, "the disk is broken")

        monkeypatch.setattr(checkpoints, "save_file", broken)
        with pytest.raises(OSError, match="the disk is broken"):
            self.commit(run, scenario_rows, OnFailureSpec()).attempt()


@pytest.mark.parametrize("disk", one_quick(["retry", "stop"]))
def test_a_serial_run_on_a_full_disk_stops_or_waits_and_ends_with_the_same_bits(tmp_path, monkeypatch, disk):
    scenario = associative_scenario(cluster={"on_failure": {"disk": disk, "wait_s": 0.01}}, **SMALL)
    whole = run_serially(scenario, tmp_path / "whole")
    append, full = tables.append, ["events"]

    def sometimes_full(folder, table, new, round, target):
        if round == 2 and table in full:
            full.remove(table)
            no_space()
        append(folder, table, new, round, target)

    monkeypatch.setattr(tables, "append", sometimes_full)
    with RunDirectory.create(tmp_path / "run", scenario) as run:
        if disk == "stop":
            with pytest.raises(RunError, match=r"round 2 is not written\n"):
                serial.run_serial(scenario, run, open_facts(scenario), lambda progress: None)
            assert run.committed_round == 1
        serial.run_serial(scenario, run, open_facts(scenario), lambda progress: None)
    again = RunDirectory.open(tmp_path / "run")
    assert full == []
    assert difference(whole.arm_states(), again.arm_states()) == []
    for name in ("edits", "parties", "metrics", "audit"):
        assert again.table(name).equals(whole.table(name)), name


def test_a_serial_run_says_that_it_waits_for_space(tmp_path, monkeypatch):
    scenario = associative_scenario(**SMALL, cluster={"on_failure": {"wait_s": 0.01}})
    save, full, told = checkpoints.save, [no_space, no_space], []
    monkeypatch.setattr(checkpoints, "save", lambda *given: full.pop()() if full else save(*given))
    with RunDirectory.create(tmp_path / "run", scenario) as run:
        serial.run_serial(scenario, run, open_facts(scenario), lambda progress: told.append(progress.waiting_for))
    assert told.count("space on the disk") == 2
    assert RunDirectory.open(tmp_path / "run").status == "done"
