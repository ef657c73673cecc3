"""The command line: exit codes, what goes to which stream, and what an interruption leaves behind."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import consortium
import pytest
from consortium.cli import main
from consortium.errors import RunError
from consortium.progress import Progress
from consortium.records.directory import RunDirectory
from consortium.records.rows import MetricRow, Rows

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
            directory.commit(0, [], Rows(metrics=rows))
        if fake.failure is not None:
            raise fake.failure
        directory.mark_done()

    fake.run = run
    monkeypatch.setitem(sys.modules, "consortium.serial", fake)
    monkeypatch.setattr(consortium, "serial", fake, raising=False)
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
    assert "round 1/1 | targets | 1/2 edits | 50 % of the run | 10 s so far | about 10 s left" in err


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
    engine.failure = RunError("host 3 did not answer", "an answer within 5 s", "look at the host")
    assert serial() == 1
    err = capfd.readouterr().err
    assert "host 3 did not answer" in err
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


def test_an_ascii_terminal_is_enough(tmp_path):
    """A name that ASCII lacks, a table and a message: nothing fails on a character."""
    (tmp_path / "bad.yaml").write_text('name: a\nfacts: {source: "Füße.jsonl"}\n', encoding="utf-8")
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"}
    command = [sys.executable, "-m", "consortium.cli", "validate", "bad.yaml"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"F??e.jsonl" in done.stderr
