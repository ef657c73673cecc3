"""The run directory: round trips, refusals, atomicity at every stage, resuming, the lock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from consortium.common.errors import RunDirectoryError
from consortium.records import checkpoints, directory, manifest, scalars, tables
from consortium.records.directory import RunDirectory
from consortium.records.rows import ROW_TYPES, to_arrow
from consortium.records.runs import list_runs
from consortium.scenario.schema import Scenario
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.fixture
def run(tmp_path, scenario, states, rows):
    """A run with rounds 0 and 1 committed."""
    with RunDirectory.create(tmp_path / "deep" / "run", scenario, extras={"argv": ["x"]}) as made:
        made.commit(0, states(0), rows(0))
        made.commit(1, states(1), rows(1))
        yield made


def steps(path: Path, arm: str, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(path / "tensorboard" / arm))
    events.Reload()
    return [(each.step, each.value) for each in events.Scalars(tag)]


def assert_states_equal(found, expected):
    assert list(found) == [state.arm for state in expected]
    for state in expected:
        other = found[state.arm]
        assert other.round == state.round
        assert_arrays_equal(other.weights, state.weights)
        assert list(other.history) == list(state.history)
        for layer, history in state.history.items():
            assert (other.history[layer].arm, other.history[layer].base_round) == (history.arm, history.base_round)
            assert_arrays_equal({0: other.history[layer].base_KK}, {0: history.base_KK})
            assert_arrays_equal(other.history[layer].columns, history.columns)


def assert_arrays_equal(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def assert_is_at_round_1(path, states, rows):
    """Tables as read and as they lie, states and TensorBoard: all of round 1, nothing of round 2."""
    with RunDirectory.open(path) as found:
        assert found.committed_round == 1
        for table in ROW_TYPES:
            expected = to_arrow(table, [*rows(0).of(table), *rows(1).of(table)])
            assert found.table(table).equals(expected)
        assert_states_equal(found.arm_states(), states(1))
        found.lock()
        assert {pq.read_table(tables.table_path(path, each))["round"].to_pylist()[-1] for each in ROW_TYPES} == {1}
    assert steps(path, "global", "metrics/efficacy") == [(1, 91.0)]
    assert sorted(each.name for each in (path / "checkpoints").iterdir()) == ["round-0000", "round-0001"]
    assert not list(path.rglob(".writing-*"))


# Round trips


def test_scenario_comes_back_equal(run, scenario):
    assert RunDirectory.open(run.path).scenario == scenario
    assert "名" in run.scenario_text


def test_commits_come_back_equal(run, states, rows):
    assert_is_at_round_1(_closed(run), states, rows)


def test_manifest_says_what_ran_where(run):
    content = json.loads((run.path / "manifest.json").read_text())
    assert (content["name"], content["seed"], content["status"], content["format"]) == ("pico", 7, "running", 6)
    assert {"consortium", "python", "torch", "transformers", "ray", "numpy"} <= set(content["versions"])
    assert content["machine"]["num_cpus"] == os.cpu_count()
    assert content["machine"]["memory_bytes"] > 2**28
    assert content["layer_shapes"] == {"5": [2, 3], "11": [2, 3]}
    assert content["extras"] == {"argv": ["x"]}


def test_status_goes_from_running_to_done_or_failed_and_back(run):
    assert run.status == "running"
    run.mark_failed(ValueError("bad numbers"))
    assert (run.status, RunDirectory.open(run.path).manifest.error) == ("failed", "bad numbers")
    run.mark_running()
    assert (run.status, run.manifest.error, run.manifest.resumed) == ("running", None, ())
    run.mark_done()
    again = RunDirectory.open(_closed(run))
    assert again.status == "done"
    again.mark_running()
    assert len(again.manifest.resumed) == 1
    again.close()
    assert again.status == "interrupted"


def test_remembered_values_come_back_and_survive_reopening(run):
    run.remember("contexts", ["{}", "Well. {}"])
    run.remember("covariance", {"tokens": 9})
    again = RunDirectory.open(run.path)
    assert (again.recall("contexts"), again.recall("covariance"), again.recall("x", 3)) == (
        ["{}", "Well. {}"],
        {"tokens": 9},
        3,
    )


def test_tensorboard_has_the_scalars_of_each_arm(run):
    assert steps(run.path, "unedited", "metrics/efficacy") == [(0, 20.0)]
    assert steps(run.path, "ties-0.2", "merge/update_distance") == [(1, 0.25)]
    assert steps(run.path, "global", "traffic/bytes_sent") == [(1, 1000.0)]


def test_checkpoints_of_the_newest_two_rounds_are_kept(run, states, rows):
    for round in (2, 3):
        run.commit(round, states(round), rows(round))
    assert sorted(each.name for each in (run.path / "checkpoints").iterdir()) == ["round-0002", "round-0003"]
    assert_states_equal(run.arm_states(), states(3))


def test_all_checkpoints_are_kept_when_asked(tmp_path, scenario, states, rows):
    with RunDirectory.create(tmp_path, scenario, keep_all=True) as run:
        for round in range(4):
            run.commit(round, states(round), rows(round))
    assert len(list((tmp_path / "checkpoints").iterdir())) == 4


# Atomicity


class InterruptedCommitError(Exception):
    pass


def _raise(*_args, **_kwargs):
    raise InterruptedCommitError


@pytest.mark.parametrize("stop_at", range(1, 7 + len(ROW_TYPES)))
def test_a_commit_stopped_before_any_replacement_leaves_the_former_round(run, states, rows, monkeypatch, stop_at):
    """A commit replaces 2 checkpoints, the manifest, every table, 2 event files, the manifest. The n-th fails."""
    calls = 0

    def replace(source, target, **folders):
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise InterruptedCommitError
        real_replace(source, target, **folders)

    real_replace = os.replace
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(InterruptedCommitError):
        run.commit(2, states(2), rows(2))
    monkeypatch.undo()
    assert calls == stop_at
    assert_is_at_round_1(_closed(run), states, rows)


def test_these_replacements_are_all_there_are(run, states, rows, monkeypatch):
    targets = []
    real_replace = os.replace
    monkeypatch.setattr(os, "replace", lambda s, t, **at: (targets.append(Path(t).name), real_replace(s, t, **at)))
    monkeypatch.setattr(scalars.time, "time", lambda: 1_750_000_000.9)
    run.commit(2, states(2), rows(2))
    assert targets == [
        "global.safetensors",
        "ties-0.2.safetensors",
        "manifest.json",  # the digests that the tables will have
        *(f"{each}.parquet" for each in ROW_TYPES),
        *["events.out.tfevents.1750000000.round-0002"] * 2,
        "manifest.json",
    ]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (checkpoints, "save_file"),
        (tables.pq, "ParquetWriter"),
        (scalars, "write_scalars"),
        (manifest, "write_manifest"),
    ],
)
def test_a_commit_stopped_inside_any_stage_leaves_the_former_round(run, states, rows, monkeypatch, module, name):
    monkeypatch.setattr(module, name, _raise)
    with pytest.raises(InterruptedCommitError):
        run.commit(2, states(2), rows(2))
    monkeypatch.undo()
    assert_is_at_round_1(_closed(run), states, rows)


def test_a_stopped_commit_done_again_leaves_no_duplicates(run, states, rows, monkeypatch):
    """Once in the same process, once in the next one."""
    for attempt in range(2):
        monkeypatch.setattr(manifest, "write_manifest", _raise)
        with pytest.raises(InterruptedCommitError):
            run.commit(2, states(2), rows(2))
        monkeypatch.undo()
        if attempt:
            run = RunDirectory.open(_closed(run))
    run.commit(2, states(2), rows(2))
    _closed(run)
    assert run.table("rounds")["round"].to_pylist() == [1, 1, 2, 2]
    assert run.table("events")["round"].to_pylist() == [0, 1, 2]
    assert steps(run.path, "global", "metrics/efficacy") == [(1, 91.0), (2, 92.0)]
    assert_states_equal(run.arm_states(), states(2))


def test_a_process_killed_between_tables_and_manifest_loses_only_that_round(run, states, rows):
    """A real process, ended by os._exit with the lock held, after everything but the manifest was written."""
    path = _closed(run)
    code = f"""
import os, sys
from consortium.records import manifest
from consortium.records.directory import RunDirectory
run = RunDirectory.open({str(path)!r})
state = run.arm_states()
from consortium.merging.arm_state import ArmState
from consortium.records.rows import MetricRow, RoundRows
manifest.write_manifest = lambda *_: os._exit(9)
states = [ArmState(arm, 2, s.weights, s.history) for arm, s in state.items()]
run.commit(2, states, RoundRows(metrics=[MetricRow(2, "global", "efficacy", 2, 1.0, None, 1, 1)]))
"""
    assert subprocess.run([sys.executable, "-c", code], env=_environment(), check=False).returncode == 9
    assert (path / "checkpoints" / "round-0002").exists()
    assert RunDirectory.open(path).status == "interrupted"
    assert_is_at_round_1(path, states, rows)


# Refusals


def test_create_refuses_a_folder_that_is_not_empty(run, scenario):
    with pytest.raises(RunDirectoryError, match=r"not empty[\s\S]*consortium resume"):
        RunDirectory.create(_closed(run), scenario)


def test_create_refuses_a_file_in_its_place(tmp_path, scenario):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot be made"):
        RunDirectory.create(tmp_path / "run", scenario)


def test_open_refuses_what_is_no_run_directory(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunDirectoryError, match="not a run directory"):
            RunDirectory.open(path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("manifest.json", "{", r"manifest\.json is damaged"),
        ("manifest.json", "[]", r"manifest\.json is damaged: no JSON object"),
        ("manifest.json", '{"format": 6}', r"manifest\.json is damaged: its checksum"),
        ("scenario.yaml", "name: [", r"scenario\.yaml is missing or damaged"),
        ("scenario.yaml", "name: other\nseed: 7\n", r"scenario\.yaml is of the run 'other'"),
    ],
)
def test_open_refuses_damaged_files(run, file, content, message):
    (run.path / file).write_text(content)
    with pytest.raises(RunDirectoryError, match=message):
        RunDirectory.open(run.path)


def test_open_refuses_another_format(run):
    path = run.path / "manifest.json"
    path.write_text(path.read_text().replace('"format": 6', '"format": 99'))
    with pytest.raises(RunDirectoryError, match="format 99"):
        RunDirectory.open(run.path)


def test_a_damaged_checkpoint_is_named(run):
    path = run.path / "checkpoints" / "round-0001" / "global.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=r"round-0001/global\.safetensors is damaged"):
        run.arm_states()
    path.unlink()
    with pytest.raises(RunDirectoryError, match=r"global\.safetensors is missing"):
        run.arm_states()


def test_a_damaged_or_missing_table_is_named_and_never_replaced(run, states, rows):
    path = tables.table_path(run.path, "edits")
    path.write_bytes(path.read_bytes()[:-9])
    for attempt in range(2):
        with pytest.raises(RunDirectoryError, match=r"edits\.parquet is (damaged|missing)"):
            run.table("edits")
        with pytest.raises(RunDirectoryError, match=r"edits\.parquet is (damaged|missing)"):
            run.commit(2, states(2), rows(2))
        if attempt == 0:
            path.unlink()


def test_rounds_are_committed_one_after_another(run, states, rows):
    for round in (1, 3):
        with pytest.raises(AssertionError, match="committed after 1"):
            run.commit(round, states(round), rows(round))


# The lock


def test_a_second_writer_is_refused_and_told_who_writes(run):
    with pytest.raises(RunDirectoryError, match=f"being written by process {os.getpid()}"):
        RunDirectory.open(run.path).mark_done()
    run.close()
    RunDirectory.open(run.path).mark_done()


def test_a_writer_that_waited_sees_what_the_former_one_committed(run, states, rows):
    waiting = RunDirectory.open(run.path)
    run.commit(2, states(2), rows(2))
    _closed(run)
    waiting.lock()
    assert waiting.committed_round == 2


def test_work_is_counted_over_processes_without_the_pause(run, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(directory.time, "monotonic", lambda: clock[0])
    before = RunDirectory.open(_closed(run)).manifest.worked_s
    again = RunDirectory.open(run.path)
    clock[0] += 50  # a pause: nobody works
    again.mark_running()
    clock[0] += 7
    again.mark_done()
    assert again.manifest.worked_s == pytest.approx(before + 7, abs=0.01)


# Many runs


def test_list_runs_finds_good_and_damaged_ones(tmp_path, scenario, states, rows):
    with RunDirectory.create(tmp_path / "b", scenario) as run:
        run.commit(0, states(0), rows(0))
        run.commit(1, states(1), rows(1))
        assert [each.status for each in list_runs(tmp_path)] == ["running"]
        run.mark_done()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "manifest.json").write_text("{")
    (tmp_path / "not-a-run").mkdir()
    damaged, done = list_runs(tmp_path)
    assert (damaged.status, damaged.path.name) == ("damaged", "a")
    assert (done.status, done.name, done.rounds_done, done.rounds) == ("done", "pico", 1, 3)
    assert done.arms == ("global", "ties-0.2")
    assert [each.path for each in list_runs(tmp_path / "b")] == [tmp_path / "b"]


def test_list_runs_refuses_a_missing_folder(tmp_path):
    with pytest.raises(RunDirectoryError, match="no folder"):
        list_runs(tmp_path / "nowhere")


def _closed(run: RunDirectory) -> Path:
    run.close()
    return run.path


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_scenario_with_every_kind_of_value_comes_back_equal(tmp_path):
    text = json.dumps(
        {
            "name": "all",
            "model": {"name": "associative", "paraphrase_noise": 1e-05},
            "stream": {"rounds": 3, "conflict": 0.1, "phases": [{"rounds": [1, 2], "conflict": {"party": 0.2}}]},
            "editor": {"layers": [0, 1], "covariance_weight": 1e300},
            "merge": {"methods": ["collabedit", {"name": "ties", "label": "t", "density": 0.2, "lambda": 0.5}]},
            "faults": [{"round": 1, "during": "collect"}],
        }
    )
    scenario = Scenario.model_validate_json(text)
    RunDirectory.create(tmp_path, scenario).close()
    assert RunDirectory.open(tmp_path).scenario == scenario


def test_rows_of_another_round_are_not_committed(run, states, rows):
    with pytest.raises(AssertionError, match="not of round 2"):
        run.commit(2, states(2), rows(1))
    assert run.committed_round == 1
    run.commit(2, states(2), rows(2))
