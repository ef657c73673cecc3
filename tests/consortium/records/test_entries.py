"""A run directory that others may have touched: links, FIFOs and paths that lead out are refused, and nothing waits."""

from __future__ import annotations

import json
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from consortium.common import files
from consortium.common.errors import RunDirectoryError
from consortium.common.files import sha256
from consortium.records import entries, manifest, memory, tables
from consortium.records.directory import RunDirectory
from consortium.records.runs import list_runs
from consortium.report.page import build_report
from safetensors.numpy import load_file, save_file

FILES = (
    "run.lock",
    "manifest.json",
    "scenario.yaml",
    "tables/metrics.parquet",
    "checkpoints/round-0001/global.safetensors",
    "checkpoints/memory.json",
)
FOLDERS = ("tables", "checkpoints", "checkpoints/round-0001")


@pytest.fixture
def run(tmp_path, scenario, states, rows):
    """A closed run with rounds 0 and 1 committed, and something remembered."""
    with RunDirectory.create(tmp_path / "run", scenario) as made:
        made.remember("contexts", ["{}"])
        made.commit(0, states(0), rows(0))
        made.commit(1, states(1), rows(1))
    return made.path


def put(run: Path, content: dict) -> None:
    """Another manifest, with the right checksum."""
    content["checksum"] = manifest.checksum_of(content)
    (run / "manifest.json").write_text(json.dumps(content))


def use_all(path: Path) -> None:
    """Look at the whole run, and write to it."""
    with RunDirectory.open(path) as directory:
        directory.lock()
        directory.recall("contexts")
        directory.arm_states()
        for table in directory.manifest.tables:
            directory.table(table)
        build_report(directory)
        directory.mark_running()


def link(path: Path, outside: Path) -> None:
    path.rename(outside)
    path.symlink_to(outside)


def fifo(path: Path, outside: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path, outside: Path) -> None:
    path.unlink()
    path.mkdir()


def bound_socket(path: Path, outside: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(path.parent)  # a socket's path has no room for long folders
        made.bind(path.name)


def device(path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [link, fifo, folder, bound_socket, device])
def test_what_is_no_regular_file_is_refused_by_name(run, tmp_path, name, change, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outside = tmp_path / "outside"
    before = (run / name).read_bytes()
    change(run / name, outside)
    with pytest.raises(RunDirectoryError, match=Path(name).name.replace(".", r"\.")):
        use_all(run)
    if change is link:
        assert outside.read_bytes() == before
    assert len(list_runs(tmp_path)) == 1


@pytest.mark.parametrize("name", FOLDERS)
def test_no_folder_is_reached_through_a_link(run, tmp_path, name):
    outside = tmp_path / "outside"
    link(run / name, outside)
    before = sorted(each.name for each in outside.rglob("*"))
    with pytest.raises(RunDirectoryError):
        use_all(run)
    assert sorted(each.name for each in outside.rglob("*")) == before


@pytest.mark.parametrize("name", ["report.html", "error.txt", "tensorboard", "report.lock"])
def test_what_is_written_anew_is_never_written_through_a_link(run, tmp_path, states, rows, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    target = outside if name == "tensorboard" else outside / "precious"
    entries.remove_entry(run, name)
    (run / name).symlink_to(target)
    with RunDirectory.open(run) as directory, suppress(RunDirectoryError):  # refused, or the link is replaced
        directory.write_error("oh")
        directory.commit(2, states(2), rows(2))
    with suppress(RunDirectoryError):
        build_report(RunDirectory.open(run))
    assert [(each.name, each.read_text()) for each in outside.iterdir()] == [("precious", "mine")]


def test_a_hard_link_as_the_lock_leaves_the_other_name_as_it_is(run, tmp_path):
    (run / "run.lock").unlink()
    (tmp_path / "precious").write_text("mine")
    os.link(tmp_path / "precious", run / "run.lock")
    with RunDirectory.open(run) as directory:
        directory.lock()
        assert (run / "run.lock").read_text().startswith(f"process {os.getpid()} ")
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("path", ["../../secret", "/etc/passwd", "checkpoints/../../x", "checkpoints/round-0001/../x"])
def test_paths_in_the_manifest_do_not_lead_out(run, path):
    content = json.loads((run / "manifest.json").read_text())
    content["checkpoints"][path] = "0" * 64
    put(run, content)
    with pytest.raises(RunDirectoryError, match=r"manifest\.json is damaged: checkpoints"):
        RunDirectory.open(run)
    with pytest.raises(RunDirectoryError):
        entries.read_entry(run, path, 100)


def test_tables_in_the_manifest_are_tables(run):
    content = json.loads((run / "manifest.json").read_text())
    put(run, content | {"tables": ["../../x"]})
    with pytest.raises(RunDirectoryError, match=r"manifest\.json is damaged: tables"):
        RunDirectory.open(run)


def test_a_checkpoint_folder_that_is_a_link_is_removed_as_a_link(run, tmp_path, states, rows):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("")
    (run / "checkpoints" / "round-0009").symlink_to(tmp_path / "outside")
    with RunDirectory.open(run) as directory:
        directory.lock()
    assert not os.path.lexists(run / "checkpoints" / "round-0009")
    assert (tmp_path / "outside" / "file").exists()


# Content that is not what Consortium wrote, whatever the digests say


def swap(run):
    a, b = tables.table_path(run, "metrics"), tables.table_path(run, "events")
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)


def less(run):
    path = tables.table_path(run, "metrics")
    pq.write_table(pq.read_table(path).drop_columns(["success"]), path)


def other_type(run):
    path = tables.table_path(run, "metrics")
    table = pq.read_table(path)
    place = table.schema.get_field_index("num_edits")
    pq.write_table(table.set_column(place, "num_edits", table["num_edits"].cast("string")), path)


@pytest.mark.parametrize("change", [swap, less, other_type])
def test_a_table_of_other_columns_is_refused(run, change):
    change(run)
    with pytest.raises(RunDirectoryError, match=r"(metrics|events)\.parquet is damaged: its? "):
        build_report(RunDirectory.open(run))


@pytest.mark.parametrize(
    "content", ["[]", "3", "{", "null", '{"contexts": 3}', '{"contexts": [3]}', '{"faults": [["a"]]}', "[" * 100_000]
)
def test_a_memory_of_another_shape_is_refused(run, content):
    (run / memory.MEMORY_FILE).write_text(content)
    with pytest.raises(RunDirectoryError, match=r"memory\.json is damaged"):
        RunDirectory.open(run).recall("contexts")


def test_a_manifest_without_versions_is_read(run):
    content = json.loads((run / "manifest.json").read_text())
    del content["versions"]
    put(run, content)
    assert "Written by Consortium <bdi>unknown</bdi>" in build_report(RunDirectory.open(run)).path.read_text()


CHECKPOINT = "checkpoints/round-0001/global.safetensors"


def rewritten(run, change, metadata):
    """Another content under the right digest."""
    tensors = load_file(run / CHECKPOINT)
    change(tensors)
    save_file(tensors, run / CHECKPOINT, metadata=metadata)
    content = json.loads((run / "manifest.json").read_text())
    with (run / CHECKPOINT).open("rb") as file:
        content["checkpoints"][CHECKPOINT] = sha256(file)
    put(run, content)


OWN = {"arm": "global", "round": "1"}


@pytest.mark.parametrize(
    ("change", "metadata", "message"),
    [
        (lambda tensors: None, None, "is of another arm or round"),
        (lambda tensors: None, OWN | {"arm": "ties-0.2"}, "it says arm ties-0.2, round 1"),
        (lambda tensors: None, OWN | {"round": "0"}, "it says arm global, round 0"),
        (lambda tensors: None, OWN | {"round": "x"}, "it says arm global, round x"),
        (lambda tensors: None, OWN | {"rejected": "{}x"}, "holds other tensors"),
        (lambda tensors: tensors.pop("layer.11.weight"), OWN, "holds weights 2×3 of layer 5, where the run has"),
        (
            lambda tensors: tensors.update({"layer.5.weight": tensors["layer.5.weight"].T.copy()}),
            OWN,
            "holds weights 3×2",
        ),
        (
            lambda tensors: tensors.update({"layer.5.weight": tensors["layer.5.weight"].astype("float64")}),
            OWN,
            "numbers of another type",
        ),
        (
            lambda tensors: tensors.update({"layer.5.history.base.8": tensors["layer.5.history.base.8"][:2].copy()}),
            OWN,
            "holds a history of shape",
        ),
        (lambda tensors: tensors.update({"strange": tensors["layer.5.weight"]}), OWN, "holds"),
    ],
)
def test_a_checkpoint_of_other_content_is_refused_by_name(run, change, metadata, message):
    rewritten(run, change, metadata)
    with pytest.raises(RunDirectoryError, match=rf"round-0001/global\.safetensors .*{message}"):
        RunDirectory.open(run).arm_states()


def test_a_scenario_of_many_aliases_is_refused_at_once(run):
    lines = ["a: &a [x, x]", *(f"{b}: &{b} [*{a}, *{a}]" for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True))]
    (run / "scenario.yaml").write_text("\n".join(lines))
    with pytest.raises(RunDirectoryError, match=r"scenario\.yaml is missing or damaged: it has an alias"):
        RunDirectory.open(run)
    assert [each.status for each in list_runs(run.parent)] == ["interrupted"], "the list does without it"


def test_a_huge_manifest_is_not_read_to_its_end(run):
    os.truncate(run / "manifest.json", 2**40)
    with pytest.raises(RunDirectoryError, match=r"manifest\.json is damaged: it has more than"):
        RunDirectory.open(run)
    assert [each.status for each in list_runs(run.parent)] == ["damaged"]


# Whose it is


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o377])
def test_everything_is_the_users_own_whatever_the_umask(tmp_path, scenario, states, rows, umask):
    """A run with two folders above it, its report, and an error's details."""
    before = os.umask(umask)
    try:
        with RunDirectory.create(tmp_path / "a" / "b" / "run", scenario) as run:
            run.remember("contexts", ["x"])
            for number in (0, 1):
                run.commit(number, states(number), rows(number))
            run.write_error("oh")
            build_report(run)
    finally:
        os.umask(before)
    found = {path.relative_to(tmp_path): path.lstat().st_mode for path in (tmp_path / "a").rglob("*")}
    assert {"report.html", "error.txt", "memory.json", "run.lock", "writer.lock", "report.lock"} <= {
        path.name for path in found
    }
    assert any("tfevents" in path.name for path in found)
    for path, mode in found.items():
        assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), path


@pytest.mark.parametrize(
    "replacing", [lambda folder: entries.replacing_entry(folder, "a"), lambda folder: files.replacing(folder / "a")]
)
def test_a_new_file_can_be_opened_again_whatever_the_umask(tmp_path, replacing):
    """Libraries open it by its name."""
    before = os.umask(0o777)
    try:
        with replacing(tmp_path) as temporary:
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    finally:
        os.umask(before)
