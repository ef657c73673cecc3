"""A run directory that was changed by others: what differs is refused and named, or it changes no number."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from consortium.cli import main
from consortium.common.errors import RunDirectoryError
from consortium.common.files import sha256
from consortium.engine import audit
from consortium.records import manifest
from consortium.records.directory import RunDirectory
from consortium.records.manifest import checksum_of
from safetensors.numpy import load_file, save_file
from support.scenarios import associative_scenario, difference, run_serially

TABLES = ("edits", "parties", "metrics", "residuals", "audit", "rounds")
LAST = "checkpoints/round-0002/collabedit.safetensors"


@pytest.fixture(scope="module")
def whole(finished_run):
    scenario = associative_scenario(merge={"methods": ["global", "collabedit"]})
    return finished_run(scenario)


@pytest.fixture(scope="module")
def stopped(whole, tmp_path_factory):
    """The same run after round 1, to be resumed."""
    path = shutil.copytree(whole.path, tmp_path_factory.mktemp("stopped") / "run")
    (path / LAST).unlink()
    with RunDirectory.open(path) as directory:
        directory.repair()
    return RunDirectory.open(path)


@pytest.fixture
def copy(stopped, tmp_path):
    return shutil.copytree(stopped.path, tmp_path / "run")


def edit_manifest(path, change):
    """Change the manifest, and put its checksum right."""
    content = json.loads((path / manifest.MANIFEST_FILE).read_text())
    change(content)
    (path / manifest.MANIFEST_FILE).write_text(json.dumps(content | {"checksum": checksum_of(content)}))


def flip_in_manifest(path):
    text = (path / manifest.MANIFEST_FILE).read_text()
    (path / manifest.MANIFEST_FILE).write_text(text.replace('"committed_round": 1', '"committed_round": 0'))


def other_covariance_weight(path):
    text = (path / "scenario.yaml").read_text()
    assert "covariance_weight: 10.0" in text
    (path / "scenario.yaml").write_text(text.replace("covariance_weight: 10.0", "covariance_weight: 1600000.0"))


def too_many_rounds(path):
    edit_manifest(path, lambda content: content.update(committed_round=99))


def a_round_without_rows(path):
    edit_manifest(
        path,
        lambda content: content.update(
            committed_round=2,
            checkpoints={key.replace("round-0001", "round-0002"): each for key, each in content["checkpoints"].items()},
        ),
    )


def a_arm_without_checkpoint(path):
    edit_manifest(path, lambda content: content["checkpoints"].pop("checkpoints/round-0001/collabedit.safetensors"))


def all_arms_without_checkpoint(path):
    edit_manifest(path, lambda content: content.update(checkpoints={}, layer_shapes={}))


def put(path, name, write):
    """Another checkpoint, with its digest put right."""
    place = path / "checkpoints/round-0001" / f"{name}.safetensors"
    write(place)
    relative = place.relative_to(path).as_posix()
    edit_manifest(path, lambda content: content["checkpoints"].update({relative: sha256(place)}))


def another_arms_checkpoint(path):
    put(path, "collabedit", lambda place: shutil.copy(place.with_name("global.safetensors"), place))


def an_earlier_rounds_checkpoint(path):
    metadata = {"arm": "collabedit", "round": "0"}
    put(path, "collabedit", lambda place: save_file(load_file(place), place, metadata=metadata))


def checkpoint_of(change, **metadata):
    said = {"arm": "collabedit", "round": "1"} | metadata

    def tamper(path):
        put(path, "collabedit", lambda place: save_file(change(load_file(place)), place, metadata=said))

    return tamper


def without_a_layer(tensors):
    return {name: each for name, each in tensors.items() if not name.startswith("layer.2.weight")}


def other_shape(tensors):
    return tensors | {"layer.2.weight": np.zeros((3, 3), np.float32)}


def not_finite(tensors):
    return tensors | {"layer.2.weight": np.full_like(tensors["layer.2.weight"], np.nan)}


def other_tensors(_):
    return {"lm_head.weight": np.zeros((2, 2), np.float32), "layer.x.weight": np.zeros((2, 2), np.float32)}


def other_type(tensors):
    return {name: each.astype(np.float16) for name, each in tensors.items()}


def put_table(path, name, change):
    place = path / f"tables/{name}.parquet"
    table = pq.read_table(place)
    pq.write_table(change(table), place)


def other_value(path):
    def change(table):
        rows = table.to_pylist()
        rows[0]["success"] += 1.0
        return pa.Table.from_pylist(rows, schema=table.schema)

    put_table(path, "metrics", change)


def swapped_tables(path):
    a, b = path / "tables/edits.parquet", path / "tables/audit.parquet"
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)


def column_less_with_right_digest(path):
    put_table(path, "metrics", lambda table: table.drop_columns(["metric"]))
    digest = sha256(path / "tables/metrics.parquet")
    edit_manifest(path, lambda content: content["files"].update({"tables/metrics.parquet": digest}))


def other_memory(path):
    (path / "checkpoints/memory.json").write_text('{"contexts": ["Well, {}"]}')


def memory_as_list(path):
    (path / "checkpoints/memory.json").write_text("[]")
    digest = sha256(path / "checkpoints/memory.json")
    edit_manifest(path, lambda content: content["files"].update({"checkpoints/memory.json": digest}))


TAMPERINGS = [
    (flip_in_manifest, "manifest.json is damaged: its checksum"),
    (other_covariance_weight, "editor.covariance_weight was 10.0, is 1600000.0"),
    (too_many_rounds, "manifest.json says that round 99 is committed, of a run of 2"),
    (a_round_without_rows, "round-0002/global.safetensors is missing"),
    (a_arm_without_checkpoint, "names no checkpoint of arm collabedit after round 1"),
    (all_arms_without_checkpoint, "names no checkpoint of arm global after round 1"),
    (another_arms_checkpoint, "is of another arm or round: it says arm global, round 1"),
    (an_earlier_rounds_checkpoint, "is of another arm or round: it says arm collabedit, round 0"),
    (checkpoint_of(lambda tensors: tensors, arm="global"), "is of another arm or round"),
    (checkpoint_of(without_a_layer), "holds weights 10×24 of layer 0"),
    (checkpoint_of(other_shape), "holds weights"),
    (checkpoint_of(not_finite), "holds numbers that are not finite"),
    (checkpoint_of(other_tensors), "holds other tensors than a checkpoint"),
    (checkpoint_of(other_type), "holds numbers of another type"),
    (other_value, "tables/metrics.parquet is damaged"),
    (swapped_tables, "tables/edits.parquet is "),
    (column_less_with_right_digest, "is not the table metrics: it has no column metric"),
    (other_memory, "checkpoints/memory.json is damaged"),
    (memory_as_list, "memory.json is damaged"),
]
NAMES = [f"{number}-{getattr(tamper, '__name__', '')}" for number, (tamper, _) in enumerate(TAMPERINGS)]


@pytest.mark.parametrize(("tamper", "message"), TAMPERINGS, ids=NAMES)
def test_what_was_changed_is_refused_and_named(copy, capsys, tamper, message):
    tamper(copy)
    assert main.main(["resume", str(copy)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("tamper", "message"), TAMPERINGS, ids=NAMES)
def test_the_audit_finds_it_too(copy, tamper, message):
    tamper(copy)
    try:
        found = " ".join(audit.verify(copy))
    except RunDirectoryError as error:
        found = str(error)
    assert message in found


def test_the_report_refuses_a_damaged_table(copy, capsys):
    other_value(copy)
    assert main.main(["report", str(copy)]) == 2
    assert "tables/metrics.parquet is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["tables/metrics.parquet", "checkpoints/round-0001/global.safetensors"])
def test_a_terabyte_of_nothing_is_not_read(copy, monkeypatch, file):
    """It takes no room on the disk; to read it would take an hour."""

    def bounded(opened):
        assert os.fstat(opened.fileno()).st_size < 2**30
        return sha256(opened)

    with (copy / file).open("r+b") as opened:
        opened.truncate(2**40)
    monkeypatch.setattr("consortium.records.digests.sha256", bounded)
    assert f"{file} is damaged" in " ".join(audit.verify(copy))
    assert main.main(["resume", str(copy)]) == 2


def test_files_of_tensorboard_are_made_again(whole, copy, capsys):
    files = sorted((copy / "tensorboard/collabedit").glob("*round-0001"))
    files[0].write_bytes(b"")
    shutil.rmtree(copy / "tensorboard/global")
    assert "tensorboard/collabedit" in " ".join(audit.verify(copy))
    assert main.main(["resume", str(copy)]) == 0
    assert "made again from the tables" in capsys.readouterr().err
    assert audit.verify(copy) == ()
    assert difference(whole.arm_states(), RunDirectory.open(copy).arm_states()) == []


def numbers_of(path):
    run = RunDirectory.open(path)
    tables = {name: run.table(name).to_pylist() for name in TABLES}
    return run.arm_states(), tables, run.committed_round


@pytest.mark.parametrize("seed", range(2))
def test_a_flipped_bit_is_noticed_or_changes_no_number(whole, stopped, tmp_path, seed):
    """In every file of a finished and of an interrupted run, at places drawn at random."""
    draw = np.random.Generator(np.random.PCG64(seed))
    for run in (whole, stopped):
        states, tables, committed = numbers_of(run.path)
        for file in sorted(each for each in run.path.rglob("*") if each.is_file() and each.name != "run.lock"):
            copy = shutil.copytree(run.path, tmp_path / "run")
            place = copy / file.relative_to(run.path)
            content = bytearray(place.read_bytes())
            content[draw.integers(len(content))] ^= 1 << int(draw.integers(8))
            place.write_bytes(content)
            try:
                detections = audit.verify(copy)
            except RunDirectoryError:
                detections = ("rejected",)
            if not detections:
                found = numbers_of(copy)
                assert (found[1], found[2]) == (tables, committed), place
                assert difference(found[0], states) == [], place
            shutil.rmtree(copy)


class TestInputs:
    """What a run depends on and its directory does not hold."""

    @pytest.fixture
    def begun(self, copy):
        with RunDirectory.open(copy) as directory:
            directory.hold_against({"facts": "1" * 64, "model weights": "2" * 64}, {"torch": "1.0"})
        return copy

    def test_another_input_is_refused_with_what_it_was_and_is(self, begun):
        with RunDirectory.open(begun) as directory:
            before = (begun / manifest.MANIFEST_FILE).read_bytes()
            with pytest.raises(RunDirectoryError, match=r"model weights was 2{12}, is 3{12}") as caught:
                directory.hold_against({"facts": "1" * 64, "model weights": "3" * 64}, {"torch": "2.0"})
            assert "torch was 1.0, is 2.0" in str(caught.value)
            assert "--accept-changes" in caught.value.remedy
            assert (begun / manifest.MANIFEST_FILE).read_bytes() == before

    def test_it_is_recorded_where_changes_are_accepted(self, begun):
        with RunDirectory.open(begun) as directory:
            directory.accept_changes(True)
            told = directory.hold_against({"facts": "4" * 64}, {})
            assert told == ["facts was 111111111111, is 444444444444"]
            assert directory.hold_against({"facts": "4" * 64}, {}) == []
            assert {"facts": "4" * 64, "model weights": "2" * 64}.items() <= directory.manifest.inputs.items()

    def test_surroundings_are_told_and_nothing_is_refused(self, begun, capsys):
        assert main.main(["resume", str(begun)]) == 0
        assert "torch was 1.0, is" in capsys.readouterr().err
        events = RunDirectory.open(begun).table("events").to_pylist()
        assert ["torch was 1.0, is" in row["detail"] for row in events if row["kind"] == "changed"] == [True]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"parties": {"partition": {"kind": "dirichlet"}}}], ids=["iid", "dirichlet"])
def test_a_prolonged_run_is_that_of_its_scenario_from_the_start(copy, finished_run, tmp_path, changes):
    """All rounds that it had stay; the scenario says how the others were dealt."""
    if changes:
        scenario = associative_scenario(merge={"methods": ["collabedit"]}, evaluate={"every": 3}, **changes)
        copy = tmp_path / "other"
        run_serially(scenario, copy)
    before = RunDirectory.open(copy).table("edits").to_pylist()
    assert main.main(["resume", str(copy), "--set", "stream.rounds=3", "--set", "cluster.timeout_s=99"]) == 0
    assert main.main(["resume", str(copy), "--set", "stream.rounds=4"]) == 0
    run = RunDirectory.open(copy)
    assert (run.status, run.committed_round, run.scenario.stream.prolonged) == ("done", 4, (2, 3))
    assert run.table("edits").to_pylist()[: len(before)] == before
    again = finished_run(run.scenario)
    assert difference(run.arm_states(), again.arm_states()) == []
    for name in TABLES[:-1]:
        assert run.table(name).equals(again.table(name)), name
    assert audit.verify(copy) == ()
    told = [row["detail"] for row in run.table("events").to_pylist() if row["kind"] == "scenario-changed"]
    assert "stream.rounds was 2, is 3" in told[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("editor.covariance_weight=3", "editor.covariance_weight cannot be changed in a run that was begun"),
        ("seed=4", "seed cannot be changed"),
        ("cluster.threads=2", "cluster.threads cannot be changed"),
        ("cluster.parties_per_batch=3", "cluster.parties_per_batch cannot be changed"),
        ("stream.prolonged=[1]", "stream.prolonged cannot be changed"),
        ("stream.rounds=1", "the run has 2 rounds"),
        ("stream.rounds=x", 'found "x"'),
    ],
)
def test_what_cannot_be_changed_is_refused_with_what_can(copy, capsys, change, message):
    before = (copy / manifest.MANIFEST_FILE).read_bytes(), (copy / "scenario.yaml").read_bytes()
    assert main.main(["resume", str(copy), "--set", change]) == 2
    assert message in capsys.readouterr().err
    assert ((copy / manifest.MANIFEST_FILE).read_bytes(), (copy / "scenario.yaml").read_bytes()) == before


def test_a_process_that_ends_while_the_scenario_is_replaced(copy, monkeypatch):
    """The manifest comes first; whoever opens the run next has the new scenario, and writes it down."""
    with RunDirectory.open(copy) as directory:
        scenario = directory.scenario.model_copy(update={"description": "new"})
        with monkeypatch.context() as patch:
            patch.setattr(RunDirectory, "_settle_scenario", lambda self: None)
            directory.change_scenario(scenario)
    assert "description: new" not in (copy / "scenario.yaml").read_text()
    with RunDirectory.open(copy) as directory:
        assert directory.scenario.description == "new"
        directory.lock()
    assert "description: new" in (copy / "scenario.yaml").read_text()
    assert RunDirectory.open(copy).manifest.replaced is None
