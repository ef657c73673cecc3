"""The stress scenarios from end to end at a small size, as the command line runs them."""

import pytest
from consortium.cli.main import main
from consortium.loading.prepare import prepare
from consortium.records.directory import RunDirectory
from support.pico import pico_folder

pytestmark = pytest.mark.usefixtures("own_cache")

NARROW = {"model.key_width": 16, "model.value_width": 8, "model.num_objects": 8}


def run(name, path, changes):
    overrides = [f"--set={key}={value}" for key, value in changes.items()]
    assert main(["run", name, "--serial", "--out", str(path), *overrides]) == 0
    return RunDirectory.open(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "num_edits", "changes"),
    [
        ("stress/ten-thousand-parties", 3 * 60 * 10, {"parties.count": 60, "cluster.parties_per_batch": 3}),
        ("stress/many-edits", 20 * 40, {"parties.edits_per_round": 40}),
        ("stress/many-rounds", 7 * 12 * 2, {"stream.rounds": 7, "parties.count": 12, "evaluate.every": 3}),
        ("stress/many-workers", 2 * 12 * 25, {"parties.count": 12}),
    ],
)
def test_a_small_size_ends_well(name, num_edits, changes, tmp_path):
    directory = run(name, tmp_path / "run", NARROW | changes)
    assert directory.status == "done"
    edits = directory.table("edits")
    assert edits.num_rows == num_edits
    places = {(row["round"], row["party"], row["index"]) for row in edits.to_pylist()}
    assert len(places) == num_edits
    assert {row["metric"] for row in directory.table("metrics").to_pylist()} >= {"efficacy", "score"}


@pytest.mark.slow
def test_two_hundred_parties_on_a_language_model_at_eight(tmp_path):
    folder = pico_folder(tmp_path / "pico", "llama", num_layers=4)
    changes = {
        "model": f"{{name: {folder}, device: cpu}}",
        "editor": "{layers: [0, 2], covariance_weight: 0.01, target: {steps: 2}, contexts: {count: 2, tokens: 4}, "
        "covariance: {tokens: 200}}",
        "parties.count": 8,
        "cluster.parties_per_batch": 2,
        "cluster.target_cache": "false",
        "evaluate.sample": 4,
    }
    directory = run("stress/two-hundred-parties", tmp_path / "run", changes)
    assert (directory.status, directory.table("edits").num_rows) == ("done", 16)


def test_sizes_are_as_promised():
    scenario = prepare("stress/ten-thousand-parties", []).scenario
    assert (scenario.parties.count, scenario.parties.edits_per_round, scenario.stream.rounds) == (10_000, 10, 3)
    scenario = prepare("stress/two-hundred-parties", []).scenario
    assert (scenario.parties.count, scenario.parties.edits_per_round) == (200, 2)
