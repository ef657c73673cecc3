"""Making a run directory: whole or taken up again, and only what Consortium made is removed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from consortium.common.errors import RunDirectoryError
from consortium.records import manifest, tables
from consortium.records.creation import TakenError
from consortium.records.directory import RunDirectory
from consortium.records.runs import list_runs

CREATE = """
import os, sys
sys.path[:0] = {paths!r}
import conftest
from consortium.records import manifest, tables
from consortium.records.directory import RunDirectory
count = 0
replace = os.replace
def stop(*arguments, **folders):
    global count
    count += 1
    if count == {stop}:
        os._exit(9)
    replace(*arguments, **folders)
os.replace = stop
RunDirectory.create({path!r}, conftest.scenario.__wrapped__())
"""


def killed_while_it_is_made(path, stop):
    """A process that ends before its n-th file is in its place."""
    paths = [os.path.dirname(__file__), *sys.path]
    code = CREATE.format(paths=paths, path=str(path), stop=stop)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9


@pytest.mark.parametrize("stop", [1, 3, 11])
def test_what_a_killed_process_left_is_taken_as_empty(tmp_path, scenario, stop):
    path = tmp_path / "run"
    killed_while_it_is_made(path, stop)
    assert (path / "run.lock").exists()
    assert not (path / "manifest.json").exists()
    (found,) = list_runs(tmp_path)
    assert (found.status, "not made to its end" in found.error) == ("damaged", True)
    with pytest.raises(RunDirectoryError, match=r"not made to its end[\s\S]*--out"):
        RunDirectory.open(path)
    with RunDirectory.create(path, scenario) as run:
        assert run.status == "running"
    assert not list(path.rglob(".writing-*"))


@pytest.mark.parametrize("name", ["notes.txt", "tables/mine.parquet", "checkpoints", "manifest.json"])
def test_a_folder_with_anything_else_is_not(tmp_path, scenario, name):
    path = tmp_path / "run"
    killed_while_it_is_made(path, 3)
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_text("mine")
    with pytest.raises(TakenError, match="exists and is not empty"):
        RunDirectory.create(path, scenario)
    assert (path / name).read_text() == "mine"
    assert (path / "scenario.yaml").exists()


def test_a_scenario_of_the_users_own_is_no_leftover(tmp_path, scenario):
    (tmp_path / "scenario.yaml").write_text("name: mine")
    with pytest.raises(TakenError):
        RunDirectory.create(tmp_path, scenario)
    assert [each.name for each in tmp_path.iterdir()] == ["scenario.yaml"], "no lock is left either"


def full(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("at", [(tables, "create_table"), (manifest, "write_manifest"), (os, "fsync"), (os, "pwrite")])
@pytest.mark.parametrize("own", [False, True])
def test_a_disk_that_fills_meanwhile_leaves_nothing(tmp_path, scenario, monkeypatch, at, own):
    path = tmp_path / "deep" / "run"
    if own:
        path.mkdir(parents=True)
    monkeypatch.setattr(*at, full)
    with pytest.raises(RunDirectoryError, match="cannot be made: No space left on device"):
        RunDirectory.create(path, scenario)
    assert [str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*")] == (["deep", "deep/run"] if own else [])


@pytest.mark.parametrize("kind", ["new", "empty", "link to an empty one", "new, with something of the user's in it"])
def test_a_discarded_run_leaves_what_the_user_made(tmp_path, scenario, kind):
    path = tmp_path / "deep" / "run"
    if kind == "empty":
        path.mkdir(parents=True)
    elif kind.startswith("link"):
        path.parent.mkdir()
        (tmp_path / "real").mkdir()
        path.symlink_to(tmp_path / "real")
    with RunDirectory.create(path, scenario) as run:
        run.remember("contexts", ["x"])
        if kind.startswith("new, "):
            (path / "mine").write_text("precious")
        run.discard()
    left = sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*"))
    assert (
        left
        == {
            "new": [],
            "empty": ["deep", "deep/run"],
            "link to an empty one": ["deep", "deep/run", "real"],
            "new, with something of the user's in it": ["deep", "deep/run", "deep/run/mine"],
        }[kind]
    )
    assert path.is_symlink() == kind.startswith("link")


def test_only_a_new_run_of_ones_own_is_discarded(tmp_path, scenario, states, rows):
    with RunDirectory.create(tmp_path / "run", scenario) as run:
        handed = run.hand_over()
        run.discard()  # another writes it
        assert (tmp_path / "run" / "manifest.json").exists(), handed
        run.lock()
        run.commit(0, states(0), rows(0))
        run.discard()
    again = RunDirectory.open(tmp_path / "run")
    again.lock()
    again.discard()
    again.close()
    assert RunDirectory.open(tmp_path / "run").committed_round == 0


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("x" * 300, "cannot be made: File name too long"),
        ("new/" + "x" * 300, "cannot be made: File name too long"),
        ("~nosuchuser/x", "is not a path here"),
        ("a\0b", "null byte"),
        ("a\ud800", "is not a path here"),
        ("file/x", "cannot be made: Not a directory"),
        ("file", "cannot be made: File exists"),
        ("loop", "cannot be made"),
        ("dangling", "cannot be made: File exists"),
    ],
)
def test_what_cannot_be_a_folder_is_refused_in_words(tmp_path, scenario, monkeypatch, out, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(RunDirectoryError, match=message):
        RunDirectory.create(out, scenario)
    assert sorted(os.listdir()) == ["dangling", "file", "loop"], "nothing is left of it"
    with pytest.raises(RunDirectoryError):
        RunDirectory.open(out)


def test_a_home_folder_is_meant_by_its_sign(tmp_path, scenario, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    RunDirectory.create("~/run", scenario).close()
    assert RunDirectory.open("~/run").path == tmp_path / "run"


def test_bytes_that_are_no_text_may_be_a_folders_name(tmp_path, scenario):
    out = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    with RunDirectory.create(out, scenario, extras={"origin": out}) as run:
        assert run.status == "running"
    assert RunDirectory.open(out).path == run.path
