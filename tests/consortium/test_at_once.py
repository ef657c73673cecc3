"""Two commands at once on one run directory, in every pair: each ends in words, and the run comes to its end."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import consortium.cli.table  # noqa: F401 (imported before processes are forked, which then begin at once)
import pytest
from consortium.cli import main
from consortium.engine import serial
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from support.scenarios import associative_scenario, difference

RUN = ["run", "small.yaml", "--serial", "--out", "run"]
RESUME, REPORT, LS = ["resume", "run"], ["report", "run"], ["ls", "."]
STAGGERS_S = (0.0, 0.15, 0.6)


@pytest.fixture(scope="module")
def whole(finished_run):
    scenario = associative_scenario(stream={"rounds": 2}, merge={"methods": ["collabedit"]})
    return finished_run(scenario)


@pytest.fixture(scope="module")
def half(whole, tmp_path_factory):
    """The same run, interrupted after round 1; it was begun without Ray."""
    path = tmp_path_factory.mktemp("half") / "run"
    commit = RunDirectory.commit

    def stop(self, round, states, rows, reached):
        if round == 2:
            raise KeyboardInterrupt
        commit(self, round, states, rows, reached)

    facts = open_facts(whole.scenario)
    with (
        RunDirectory.create(path, whole.scenario, extras={"serial": True}) as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(RunDirectory, "commit", stop)
        with pytest.raises(KeyboardInterrupt):
            serial.run_serial(whole.scenario, directory, facts, lambda progress: None)
    return path


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch, whole):
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(json.dumps(whole.scenario.model_dump(mode="json")))


def started(arguments: list[str], log: str) -> int:
    """A process of its own, forked so that it begins at once; its words are in the file ``log``."""
    process = os.fork()
    if process:
        return process
    code = 97
    try:
        place = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        os.dup2(place, 1)
        os.dup2(place, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115 (ends here)
        code = main.main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def both(first: list[str], second: list[str], stagger_s: float) -> tuple[int, int, str]:
    """Exit codes, and what was said."""
    one = started(first, "one.log")
    time.sleep(stagger_s)
    other = started(second, "other.log")
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in (one, other)]
    said = Path("one.log").read_text() + "\n---\n" + Path("other.log").read_text()
    assert "Traceback" not in said
    assert "Something went wrong" not in said
    return codes[0], codes[1], said


def assert_is_whole(whole):
    found = RunDirectory.open("run")
    assert (found.status, found.manifest.error) == ("done", None)
    assert difference(whole.arm_states(), found.arm_states()) == []
    assert found.table("metrics").equals(whole.table("metrics"))
    assert not Path("run/error.txt").exists()
    assert not list(Path("run").rglob(".writing-*"))
    assert "round 2" in Path("run/report.html").read_text().lower()


@pytest.mark.slow
@pytest.mark.parametrize("stagger_s", STAGGERS_S)
@pytest.mark.parametrize(
    ("first", "second"), [(RESUME, RESUME), (RESUME, REPORT), (RESUME, LS), (REPORT, RESUME), (RESUME, RUN)]
)
def test_a_run_that_is_resumed(whole, half, first, second, stagger_s):
    shutil.copytree(half, "run")
    code, other, said = both(first, second, stagger_s)
    assert 0 in (code, other), said
    if code or other:
        assert 2 in (code, other), said
        assert second in (RESUME, RUN) or first == RESUME, said
        assert "is being written by process" in said or "exists and is not empty" in said
    else:
        assert (code, other) == (0, 0), said
    assert_is_whole(whole)


@pytest.mark.slow
@pytest.mark.parametrize("stagger_s", STAGGERS_S)
@pytest.mark.parametrize("second", [RUN, LS, RESUME, REPORT])
def test_a_run_that_is_begun(whole, second, stagger_s):
    """The second command may come before there is anything to look at, or while it is made; it says so."""
    code, other, said = both(RUN, second, stagger_s)
    assert 0 in (code, other), said
    assert {code, other} <= {0, 2}, said
    assert_is_whole(whole)


@pytest.mark.parametrize("second", [REPORT, LS, RESUME])
def test_a_run_that_is_done(whole, second):
    shutil.copytree(whole.path, "run")
    assert both(REPORT, second, 0.0)[:2] == (0, 0)
    assert_is_whole(whole)


@pytest.mark.slow
def test_runs_that_begin_at_once_without_a_folder_take_two(whole):
    arguments = ["run", "small.yaml", "--serial"]
    assert both(arguments, arguments, 0.0)[:2] == (0, 0)
    name = whole.scenario.name
    assert sorted(each.name for each in Path("runs").iterdir()) == [name, f"{name}-2"]
