"""The command line: exit codes, what goes to which stream, and what an interruption leaves behind."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import consortium.engine
import numpy as np
import pytest
from consortium.cli.main import main
from consortium.common.errors import InputError, RunError, StatisticsError
from consortium.common.progress import Progress
from consortium.merging.arm_state import ArmState
from consortium.records.directory import RunDirectory
from consortium.records.rows import MetricRow, RoundRows

SCENARIO = "name: tiny\nmodel: {name: associative, key_width: 8, value_width: 4}\nparties: {count: 2}\n"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SCENARIO)


@pytest.fixture
def engine(monkeypatch):
    """An engine that commits one measure and is done; ``engine.failure`` is raised in between when it is set."""
    fake = SimpleNamespace(failure=None, calls=[])

    def run(scenario, directory, facts, report_progress):
        fake.calls.append(scenario)
        directory.mark_running()
        report_progress(Progress("targets", 1, 1, 1, 2, "edits", 0.5, 10.0))
        sys.stdout.write("a library talks\n")
        os.write(1, b"a library written in C talks\n")
        if directory.committed_round is None:
            rows = [MetricRow(0, "unedited", "efficacy", None, 12.5, None, 8, 8)]
            weights = {0: np.zeros((4, 8), np.float32)}
            states = [ArmState(method.arm, 0, weights, {}) for method in scenario.merge.methods]
            directory.commit(0, states, RoundRows(metrics=rows))
        if fake.failure is not None:
            raise fake.failure
        directory.mark_done()

    fake.run_serial = run
    monkeypatch.setitem(sys.modules, "consortium.engine.serial", fake)
    monkeypatch.setattr(consortium.engine, "serial", fake, raising=False)
    return fake


def serial(*arguments):
    return main(["run", "tiny.yaml", "--serial", *arguments])


def test_a_run_shows_its_results_and_its_report(engine, capfd, tmp_path):
    assert serial() == 0
    out, err = capfd.readouterr()
    assert "unedited" in out
    assert "12.5" in out
    assert "efficacy: Share of edits that took" in out
    assert out.rstrip().endswith("Report: runs/tiny/report.html")
    assert (tmp_path / "runs/tiny/report.html").is_file()
    assert "round 1/1 | targets | 1/2 edits | 50 % of the run | 10 s so far" in err


def test_runs_never_overwrite_each_other(engine, tmp_path):
    for _ in range(3):
        assert serial() == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["tiny", "tiny-2", "tiny-3"]


def test_a_folder_that_is_taken_is_refused(engine, capfd, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("")
    assert serial("--out", "precious") == 2
    assert "precious exists and is not empty" in capfd.readouterr().err
    assert engine.calls == []


def test_overrides_reach_the_engine(engine):
    assert serial("--set", "seed=5", "--set", "parties.count=3") == 0
    assert (engine.calls[0].seed, engine.calls[0].parties.count) == (5, 3)


def test_json_prints_one_object_and_nothing_else(engine, capfd):
    assert serial("--format", "json") == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["status"] == "done"
    assert "a library talks" in err
    assert "a library written in C talks" in err


def test_after_json_standard_output_is_as_before(engine, capfd):
    serial("--format=json")
    capfd.readouterr()
    sys.stdout.write("back again\n")
    assert capfd.readouterr().out == "back again\n"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["run", "no.yaml"], "ScenarioError"),
        (["run", "tiny.yaml", "--set", "seed=x"], "ScenarioError"),
        (["run", "tiny.yaml", "--no-such-option"], "UsageError"),
        (["resume", "no"], "RunDirectoryError"),
    ],
)
def test_wrong_input_ends_with_exit_code_2(capfd, arguments, kind):
    assert main([*arguments, "--format", "json"]) == 2
    out, err = capfd.readouterr()
    error = json.loads(out)["error"]
    assert (error["type"], error["exit_code"]) == (kind, 2)
    assert error["found"] in err
    assert "Traceback" not in err


def test_an_unknown_command_is_answered_with_the_known_ones(capfd):
    assert main(["rnu"]) == 2
    assert "choose from" in capfd.readouterr().err


def test_no_command_is_a_mistake(capfd):
    assert main([]) == 2
    assert "COMMAND" in capfd.readouterr().err


def test_a_run_that_fails_says_how_to_go_on(engine, capfd):
    engine.failure = RunError("worker 3 did not answer", "an answer within 5 s", "look at the worker")
    assert serial() == 1
    err = capfd.readouterr().err
    assert "worker 3 did not answer" in err
    assert "consortium resume runs/tiny" in err
    assert "Traceback" not in err
    assert RunDirectory.open("runs/tiny").status == "failed"


def test_a_failed_run_is_resumed_the_way_it_was_started(engine, capfd):
    engine.failure = RunError("lost")
    serial()
    engine.failure = None
    assert main(["resume", "runs/tiny"]) == 0
    assert RunDirectory.open("runs/tiny").status == "done"
    assert "Report: runs/tiny/report.html" in capfd.readouterr().out


def test_a_run_that_is_done_is_not_run_again(engine, capfd):
    serial()
    assert main(["resume", "runs/tiny"]) == 0
    assert len(engine.calls) == 1
    assert "done already" in capfd.readouterr().err


def test_an_interruption_says_how_to_go_on(engine, capfd):
    engine.failure = KeyboardInterrupt()
    assert serial("--format", "json") == 130
    out, err = capfd.readouterr()
    assert "to go on: consortium resume runs/tiny" in err
    assert json.loads(out)["error"]["directory"] == "runs/tiny"
    assert RunDirectory.open("runs/tiny").status == "interrupted"


def test_bad_numbers_come_again_so_no_resume_is_offered(engine, capfd):
    engine.failure = StatisticsError("statistics that are not finite")
    assert serial() == 1
    err = capfd.readouterr().err
    assert "not finite" in err
    assert "consortium resume" not in err


def test_a_full_disk_is_no_fault_of_the_program(engine, capfd, tmp_path):
    engine.failure = OSError(28, "No space left on device", "runs/tiny/tables/edits.parquet")
    assert serial() == 1
    err = capfd.readouterr().err
    assert "runs/tiny/tables/edits.parquet cannot be used: No space left on device" in err
    assert "consortium resume runs/tiny" in err
    assert "fault" not in err
    assert not (tmp_path / "runs/tiny/error.txt").exists()
    assert "No space left" in RunDirectory.open("runs/tiny").manifest.error


def test_a_report_that_cannot_be_written_leaves_a_run_that_is_done_and_its_results(engine, capfd, monkeypatch):
    def full(folder, name, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("consortium.report.page.entries", SimpleNamespace(write_entry=full))
    assert serial() == 1
    out, err = capfd.readouterr()
    assert "12.5" in out, "the results are shown"
    assert "report.html cannot be written: No space left on device" in err
    assert "consortium report runs/tiny" in err
    assert "consortium resume" not in err
    assert RunDirectory.open("runs/tiny").status == "done"


def test_a_fault_where_nothing_can_be_written_is_told_all_the_same(engine, capfd, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    def fail(scenario, directory, facts, report_progress):
        directory.mark_running()
        monkeypatch.setattr("consortium.records.entries.replacing_entry", refuse)
        monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
        raise ZeroDivisionError("oh")

    engine.run_serial = fail
    assert serial() == 1
    err = capfd.readouterr().err
    assert "ZeroDivisionError: oh" in err
    assert "test_main.py, line" in err
    assert "Traceback" not in err


def test_wrong_input_found_late_leaves_the_users_own_empty_folder(engine, capfd, tmp_path):
    def refuse(scenario, directory, facts, report_progress):
        directory.mark_running()
        raise InputError("a model that is not there")

    engine.run_serial = refuse
    (tmp_path / "mine").mkdir(mode=0o750)
    (tmp_path / "link").symlink_to("mine")
    for out in ("mine", "link", "new", "deep/new"):
        assert serial("--out", out) == 2
        assert "a model that is not there" in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["link", "mine", "tiny.yaml"]
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o750


def test_a_second_resume_changes_nothing(engine, capfd):
    engine.failure = RunError("lost")
    serial()
    with RunDirectory.open("runs/tiny") as first:
        first.lock()
        before = {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()}
        capfd.readouterr()
        assert main(["resume", "runs/tiny"]) == 2
        assert "is being written by process" in capfd.readouterr().err
        assert {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()} == before


def test_ls_says_of_each_what_is_wrong_with_it(engine, capfd, tmp_path):
    serial()
    engine.failure = RunError("worker 3 did not answer")
    serial("--out", "runs/failed")
    capfd.readouterr()
    for name in ("bomb", "fifo", "huge", "torn", "link"):
        shutil.copytree(tmp_path / "runs/tiny", tmp_path / "runs" / name)
    (tmp_path / "runs/bomb/scenario.yaml").write_text("a: &a [x]\nb: [*a, *a]")
    (tmp_path / "runs/fifo/manifest.json").unlink()
    os.mkfifo(tmp_path / "runs/fifo/manifest.json")
    os.truncate(tmp_path / "runs/huge/manifest.json", 2**40)
    (tmp_path / "runs/torn/manifest.json").write_text("{")
    (tmp_path / "runs/link/manifest.json").unlink()
    (tmp_path / "runs/link/manifest.json").symlink_to("../tiny/manifest.json")
    assert main(["ls"]) == 0
    out = capfd.readouterr().out
    assert "runs/failed failed: worker 3 did not answer" in out
    for name in ("fifo", "huge", "torn", "link"):
        assert f"runs/{name} is damaged: runs/{name}/manifest.json" in out
    assert out.count("done") == 2, "of the bomb, the manifest says all that is shown"


def test_a_fault_of_the_program_is_written_to_a_file(engine, capfd, tmp_path):
    engine.failure = ZeroDivisionError("oh")
    assert serial() == 1
    err = capfd.readouterr().err
    assert "ZeroDivisionError: oh" in err
    assert "Traceback" not in err
    assert "Traceback" in (tmp_path / "runs/tiny/error.txt").read_text()


def test_validate_checks_every_file(capfd, tmp_path):
    (tmp_path / "bad.yaml").write_text("name: bad\nstream: {rounds: 0}\n")
    assert main(["validate", "tiny.yaml", "bad.yaml", "thousand-parties"]) == 2
    out, err = capfd.readouterr()
    assert "tiny.yaml: OK, 2 parties" in out
    assert "thousand-parties: OK" in out
    assert "bad.yaml: 1 mistake\n  stream.rounds (line 2): found 0" in err


def test_validate_counts_one_of_a_thing_as_one(capfd):
    changes = ["--set", "parties.count=1", "--set", "stream.rounds=1", "--set", "merge.methods=[collabedit]"]
    assert main(["validate", "tiny.yaml", *changes]) == 0
    assert "tiny.yaml: OK, 1 party, 1 round, arm collabedit\n" in capfd.readouterr().out


def test_what_new_writes_is_valid(capfd):
    assert main(["new", "mine.yaml"]) == 0
    assert main(["validate", "mine.yaml"]) == 0
    assert main(["new", "mine.yaml"]) == 2
    assert "mine.yaml exists" in capfd.readouterr().err


def test_ls_lists_runs(engine, capfd):
    assert main(["ls"]) == 0
    assert "No runs in runs" in capfd.readouterr().out
    serial()
    capfd.readouterr()
    assert main(["ls"]) == 0
    out = capfd.readouterr().out
    assert "runs/tiny" in out
    assert "done" in out
    assert main(["ls", "nowhere"]) == 2


def test_report_is_written_again(engine, capfd, tmp_path):
    serial()
    (tmp_path / "runs/tiny/report.html").unlink()
    assert main(["report", "runs/tiny"]) == 0
    assert (tmp_path / "runs/tiny/report.html").is_file()


def test_schema_is_json(capfd):
    assert main(["schema"]) == 0
    assert "collabedit" in json.dumps(json.loads(capfd.readouterr().out))


@pytest.mark.parametrize("command", ["run", "resume", "report", "export", "validate", "new", "ls", "schema"])
def test_every_command_explains_itself(capfd, command):
    with pytest.raises(SystemExit) as exit_info:
        main([command, "--help"])
    assert exit_info.value.code == 0
    assert f"usage: consortium {command}" in capfd.readouterr().out


@pytest.mark.slow
def test_an_ascii_terminal_is_enough(tmp_path):
    """A name that ASCII lacks, a table and a message: nothing fails on a character."""
    (tmp_path / "bad.yaml").write_text('name: a\nfacts: {source: "Füße.jsonl"}\n', encoding="utf-8")
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"}
    command = [sys.executable, "-m", "consortium.cli", "validate", "bad.yaml"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"F??e.jsonl" in done.stderr
