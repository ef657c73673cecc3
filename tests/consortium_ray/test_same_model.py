"""A worker whose machine has another model, or another text, under the name that the scenario gives."""

import pytest
from consortium.common.errors import ClusterError
from consortium.loading.inputs import model_inputs
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium_ray.workers import worker_actor
from consortium_ray.workers.worker_actor import WorkerActor
from safetensors.numpy import load_file, save_file
from support.pico import pico_folder
from support.pools import LocalPool, run_on
from support.scenarios import difference, pico_scenario, run_serially

pytestmark = pytest.mark.usefixtures("own_cache")


def changed_weights(folder):
    """One number of one weight that no edit replaces is another."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if "embed" in name)
    tensors[name][0, 0] += 1
    save_file(tensors, path, metadata={"format": "pt"})


def changed_tokenizer(folder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"normalizer": null', '"normalizer": {"type": "Lowercase"}'))


def opens_elsewhere(monkeypatch, scenario, folder):
    """The second worker that opens the model finds it in ``folder``."""
    there = scenario.model_copy(update={"model": scenario.model.model_copy(update={"name": str(folder)})})
    real, opened = worker_actor.open_backend, []

    def open_backend(scenario, facts):
        opened.append(scenario)
        return real(there if len(opened) == 2 else scenario, facts)

    monkeypatch.setattr(worker_actor, "open_backend", open_backend)


@pytest.mark.parametrize(
    ("change", "what"), [(changed_weights, "other model weights"), (changed_tokenizer, "other model tokenizer")]
)
def test_a_worker_with_another_model_computes_nothing(tmp_path, monkeypatch, change, what):
    folder, other = (pico_folder(tmp_path / name, "llama", num_layers=4) for name in ("model", "other"))
    change(other)
    scenario = pico_scenario(folder, stream={"rounds": 1}, merge={"methods": ["collabedit"]})
    whole = run_serially(scenario, tmp_path / "whole")
    opens_elsewhere(monkeypatch, scenario, other)
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        run_on(LocalPool(scenario, open_facts(scenario), 2), directory)
    found = RunDirectory.open(tmp_path / "run")
    assert difference(whole.arm_states(), found.arm_states()) == []
    lost = [row["detail"] for row in found.table("events").to_pylist() if row["kind"] == "worker-lost"]
    assert lost
    assert all("another model under the same name" in each and what in each for each in lost)


def test_another_text_of_the_key_covariance_is_found_too(tmp_path):
    folder, text = pico_folder(tmp_path / "model", "llama", num_layers=4), tmp_path / "text.txt"
    scenario = pico_scenario(folder, editor={"covariance": {"source": str(text)}})
    said = []
    for words in ("The tower is in Paris. ", "The tower is in Rome. "):
        text.write_text(words * 200)
        asked = WorkerActor(len(said), scenario, open_facts(scenario), where=lambda: "7")
        asked.open()
        said.append(model_inputs(asked.describe().covariance_fingerprint, {}, 0))
        asked.compare(said[-1])
    with pytest.raises(ClusterError, match=r"node 7 has another model .*: other text of the key covariance"):
        asked.compare(said[0])
