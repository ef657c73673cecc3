"""What a run depends on beside its directory: another model, covariance or fact is refused; the same ones are not."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from consortium.cli import main
from consortium.common.files import read_arrays
from consortium.editing.key_covariance import CovarianceCache
from consortium.engine import audit
from consortium.loading.inputs import digest_of_all
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from safetensors.numpy import load_file, save_file
from support.pico import pico_folder
from support.scenarios import difference, pico_scenario

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, own_cache):
    """A model, a file of facts and a text, which tests change and put back."""
    folder = tmp_path_factory.mktemp("inputs")
    pico_folder(folder / "pico", num_layers=4)
    common = {"relation": "r", "prompt": "{} is in the city of", "target_new": "Rome", "target_old": "Paris"}
    rows = [{"fact_id": f"f{number}", "subject": f"Place {number}", **common} for number in range(20)]
    (folder / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "text.txt").write_text("The tower is in the city and the river runs through it. " * 20)
    return folder


@pytest.fixture(scope="module")
def whole(folder, finished_run):
    scenario = pico_scenario(
        folder / "pico",
        facts={"source": str(folder / "facts.jsonl"), "limit": None},
        stream={"rounds": 2},
        merge={"methods": ["collabedit"]},
        evaluate={"perplexity_text": str(folder / "text.txt"), "metrics": ["efficacy"]},
    )
    return finished_run(scenario)


@pytest.fixture
def stopped(whole, tmp_path):
    """The run after round 1, to be resumed."""
    path = shutil.copytree(whole.path, tmp_path / "run")
    (path / "checkpoints/round-0002/collabedit.safetensors").unlink()
    with RunDirectory.open(path) as directory:
        directory.repair()
    return path


@pytest.fixture
def kept(folder):
    """Puts back what a test changed."""
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield
    for path, content in files.items():
        path.write_bytes(content)


def covariances(cache_folder):
    return sorted((cache_folder / "covariance").rglob("*.safetensors"))


@pytest.fixture
def cache(own_cache, tmp_path_factory):
    from consortium.common.places import cache_folder

    return cache_folder()


def test_the_manifest_names_all_of_them(whole):
    names = {
        *("facts", "text of the perplexity", "model weights", "model configuration", "model tokenizer"),
        *(f"key covariance of layer {layer}" for layer in whole.scenario.editor.edited_layers),
    }
    assert names == {*whole.manifest.inputs}
    assert {len(digest) for digest in whole.manifest.inputs.values()} == {64}
    assert {"torch", "source files", "processor", "number type in which text is sampled"} <= {
        *whole.manifest.surroundings
    }


@pytest.mark.slow
def test_a_lost_covariance_is_measured_again_without_a_word(whole, stopped, cache, capsys):
    shutil.rmtree(cache / "covariance")
    assert main.main(["resume", str(stopped)]) == 0
    assert "damaged" not in capsys.readouterr().err
    assert difference(whole.arm_states(), RunDirectory.open(stopped).arm_states()) == []
    assert covariances(cache)


@pytest.mark.slow
def test_a_damaged_covariance_is_told_and_measured_again(whole, stopped, cache):
    for path in covariances(cache):
        content = bytearray(path.read_bytes())
        content[-5] ^= 4
        path.write_bytes(content)
    assert main.main(["resume", str(stopped)]) == 0
    again = RunDirectory.open(stopped)
    assert difference(whole.arm_states(), again.arm_states()) == []
    told = [row["detail"] for row in again.table("events").to_pylist() if row["kind"] == "cache-damaged"]
    assert len(told) == len(covariances(cache))
    assert all("is damaged, and measured again" in words for words in told)


def test_another_covariance_is_refused(stopped, cache, capsys):
    """As on a processor whose sums are others: the file is sound, and holds other numbers."""
    path = covariances(cache)[0]
    before = path.read_bytes()
    arrays, layer = read_arrays(path), int(path.stem.removeprefix("layer-"))
    other = CovarianceCache({})
    other.folder = path.parent
    other.store(layer, arrays["gram"] + np.eye(len(arrays["gram"])) * 1e-9, int(arrays["num_tokens"][0]))
    try:
        assert main.main(["resume", str(stopped)]) == 2
        assert f"key covariance of layer {layer} was " in capsys.readouterr().err
        assert main.main(["resume", str(stopped), "--accept-changes"]) == 0
    finally:
        path.write_bytes(before)
    events = RunDirectory.open(stopped).table("events").to_pylist()
    assert any(
        f"key covariance of layer {layer} was" in str(row["detail"]) for row in events if row["kind"] == "changed"
    )


def other_facts(folder):
    path = folder / "facts.jsonl"
    path.write_text(path.read_text().replace("Rome", "Bonn", 1))


def other_text(folder):
    (folder / "text.txt").write_text("Another text altogether. " * 30)


def other_weights(folder):
    path = folder / "pico/model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    save_file(tensors | {name: tensors[name] + np.float32(0.001)}, path, metadata={"format": "pt"})


def other_config(folder):
    path = folder / "pico/config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"rms_norm_eps": 1e-3}))


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (other_facts, "facts"),
        (other_text, "text of the perplexity"),
        (other_weights, "model weights"),
        (other_config, "model configuration"),
    ],
)
def test_other_inputs_are_refused_and_named(folder, stopped, capsys, change, name):
    change(folder)
    assert main.main(["resume", str(stopped)]) == 2
    err = capsys.readouterr().err
    assert f"{name} was " in err
    assert "--accept-changes" in err
    assert RunDirectory.open(stopped).committed_round == 1


def too_long_facts(folder):
    path = folder / "facts.jsonl"
    path.write_text(path.read_text().replace("Place 7", "Place " * 400, 1))


def too_few_facts(folder):
    path = folder / "facts.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))


def shorter_model(folder):
    path = folder / "pico/config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"max_position_embeddings": 8}))


def smaller_model(folder):
    path = folder / "pico/config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"num_hidden_layers": 1}))


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (too_long_facts, r"record 8: prompt of [\d,]+ tokens"),
        (too_few_facts, "edits"),
        (shorter_model, "the model reads 8"),
        (smaller_model, "layers"),
    ],
)
def test_what_is_accepted_as_changed_is_checked_as_it_would_be_at_the_start(folder, stopped, capsys, change, words):
    before = (stopped / "manifest.json").read_bytes()
    change(folder)
    assert main.main(["resume", str(stopped), "--accept-changes"]) == 2
    assert re.search(words, capsys.readouterr().err)
    assert (stopped / "manifest.json").read_bytes() == before, "so it can still be resumed with what it began with"


@pytest.mark.usefixtures("kept")
def test_a_run_without_a_committed_round_is_checked_as_well(folder, whole, tmp_path, capsys):
    """It may have been killed before it wrote down what its model is."""
    with RunDirectory.create(tmp_path / "run", whole.scenario, extras={"serial": True}):
        pass
    shorter_model(folder)
    assert main.main(["resume", str(tmp_path / "run")]) == 2
    assert "the model reads 8" in capsys.readouterr().err


@pytest.mark.usefixtures("kept")
def test_a_run_that_is_refused_is_not_changed_before(folder, stopped, capsys):
    other_facts(folder)
    before = (stopped / "manifest.json").read_bytes(), (stopped / "scenario.yaml").read_bytes()
    assert main.main(["resume", str(stopped), "--set", "cluster.timeout_s=99"]) == 2
    err = capsys.readouterr().err
    assert "facts was " in err
    assert "Changed: " not in err
    assert ((stopped / "manifest.json").read_bytes(), (stopped / "scenario.yaml").read_bytes()) == before


@pytest.mark.usefixtures("kept")
def test_the_audit_tells_of_other_facts(folder, stopped):
    assert audit.verify(stopped) == ()
    other_facts(folder)
    assert "facts: not what the run began with" in audit.verify(stopped)


def test_a_digest_of_facts_knows_order_and_every_field(whole):
    edits = open_facts(whole.scenario).edits
    assert digest_of_all(edits) == digest_of_all(list(edits))
    assert digest_of_all(edits) != digest_of_all(edits[::-1])
    assert digest_of_all(edits) != digest_of_all(edits[1:])
