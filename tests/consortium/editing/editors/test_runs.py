"""Whole serial runs of every editor: exact where it is promised, and as one party alone where there is but one."""

import numpy as np
import pytest
import torch
from consortium.editing.open import open_backend
from consortium.engine.key_covariance import add_chunk
from consortium.loading.prepare import open_facts
from consortium.party.worker import Worker
from consortium.records.directory import RunDirectory
from consortium.scenario.editor import EDITORS
from consortium.scenario.methods import METHODS
from support.pico import pico_folder
from support.scenarios import associative_scenario, difference, pico_scenario, run_serially
from support.tiers import one_quick

SETTINGS = {
    "alphaedit": {"share": 0.7, "l2": 0.3},
    "emmet": {"alpha": 0.05},
    "ft": {"steps": 6, "learning_rate": 0.01, "max_change": 0.03},
}


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def pico(tmp_path_factory):
    return pico_folder(tmp_path_factory.mktemp("llama"), "llama", num_layers=4)


def make_scenario(model, pico, name, methods, exchange="round", **changes):
    changes |= {"editor": {"method": name, **SETTINGS.get(name, {})}}
    changes |= {"merge": {"methods": methods, "exchange": exchange}}
    return associative_scenario(**changes) if model == "associative" else pico_scenario(pico, **changes)


def run(scenario, path):
    """The arms' weights at the end, the unedited ones, and the run's directory."""
    directory = run_serially(scenario, path)
    with RunDirectory.open(path) as reader:
        base = open_backend(scenario, open_facts(scenario)).base_weights()
        return {arm: state.weights for arm, state in reader.arm_states().items()}, base, directory


def relative(left, right, base=None):
    wide = {layer: weight.astype(np.float64) for layer, weight in right.items()}
    apart = sum(np.sum((left[layer].astype(np.float64) - wide[layer]) ** 2) for layer in wide)
    return (apart / sum(np.sum((wide[layer] - (0 if base is None else base[layer])) ** 2) for layer in wide)) ** 0.5


@pytest.mark.parametrize("exchange", one_quick(["layer", "round"]))
@pytest.mark.parametrize("model", ["associative", "llama"])
@pytest.mark.parametrize("name", ["memit", "alphaedit", "emmet"])
def test_the_merge_of_sums_is_exact(name, model, exchange, pico, tmp_path):
    """Two rounds, the second against the first one's history; targets of a language model drift apart after one."""
    rounds = 2 if model == "associative" else 1
    scenario = make_scenario(model, pico, name, ["global", "collabedit"], exchange, stream={"rounds": rounds})
    weights, base, _ = run(scenario, tmp_path / "run")
    assert relative(weights["global"], base) > 1e-3
    assert relative(weights["collabedit"], weights["global"], base) <= 1e-6


@pytest.mark.parametrize("model", ["associative", "llama"])
@pytest.mark.parametrize("name", EDITORS)
def test_one_party_alone_has_nothing_to_merge(name, model, pico, tmp_path):
    """Adding up, averaging and owning a single party's edits are one thing."""
    suits = EDITORS[name].merges or METHODS
    methods = [method for method in ("global", "collabedit", "task_arithmetic", "simple_average") if method in suits]
    scenario = make_scenario(
        model, pico, name, methods, parties={"count": 1}, stream={"rounds": 1, "overlap": 0, "conflict": 0, "repeat": 0}
    )
    weights, base, _ = run(scenario, tmp_path / "run")
    first, *others = weights.values()
    assert relative(first, base) > 1e-3
    for other in others:
        assert relative(other, first, base) <= 1e-6


def test_emmet_is_memit_with_a_lighter_covariance_and_history(tmp_path):
    """λ = 10 and α = 1/16, against λ = 10/16 and h = 1/16: the same bits over three rounds."""
    methods = ["global", "collabedit", "ties"]
    emmet = associative_scenario(
        stream={"rounds": 3}, merge={"methods": methods}, editor={"method": "emmet", "alpha": 0.0625}
    )
    memit = associative_scenario(
        stream={"rounds": 3}, merge={"methods": methods, "history_weight": 0.0625}, editor={"covariance_weight": 0.625}
    )
    found, expected = (run(each, tmp_path / each.editor.method)[2].arm_states() for each in (emmet, memit))
    assert difference(expected, found) == []


def test_editors_give_different_models(tmp_path):
    """So that the equalities above say something."""
    found = []
    for name in EDITORS:
        weights, base, _ = run(make_scenario("associative", None, name, ["task_arithmetic"]), tmp_path / name)
        found.append({layer: weight - base[layer] for layer, weight in weights["task_arithmetic"].items()})
    last = [updates[2] for updates in found]
    assert not any(np.allclose(one, other, rtol=0.01) for n, one in enumerate(last) for other in last[:n])


@pytest.mark.parametrize("model", ["associative", "llama"])
def test_fine_tuned_updates_are_averaged(model, pico, tmp_path):
    """W + Σ Δ_i / P, each Δ_i made by the party from the unedited weights."""
    scenario = make_scenario(model, pico, "ft", ["simple_average"], stream={"rounds": 1})
    weights, base, directory = run(scenario, tmp_path / "run")
    facts = open_facts(scenario)
    worker = Worker(scenario, facts, open_backend(scenario, facts))
    requests = [worker.stream.requests(1, party) for party in range(scenario.parties.count)]
    alone = [worker.backend.fine_tune([worker.party_data.edit(request) for request in group]) for group in requests]
    for layer, weight_VK in weights["simple_average"].items():
        mean_VK = torch.stack([each.deltas[layer].double() for each in alone]).mean(0).numpy()
        np.testing.assert_array_equal(weight_VK, (base[layer].astype(np.float64) + mean_VK).astype(np.float32))
    kinds = {row["kind"] for row in directory.table("events").to_pylist()}
    assert "covariance" not in kinds
    assert "targets" in kinds


def test_fine_tuning_measures_no_covariance(monkeypatch, tmp_path):
    scenario = make_scenario("associative", None, "ft", ["ties"])
    measured = []
    monkeypatch.setattr(Worker, "covariance_sum", lambda _, chunk: measured.append(chunk))
    _, _, directory = run(scenario, tmp_path / "run")
    assert directory.status == "done"
    assert measured == []


def test_statistics_of_alphaedit_are_of_projected_keys(tmp_path):
    """What leaves a party lies in the free directions: there is nothing of the others in its Gram sums."""
    scenario = make_scenario("associative", None, "alphaedit", ["collabedit"])
    _, _, directory = run(scenario, tmp_path / "run")
    backend, covariance = open_backend(scenario, open_facts(scenario)), None
    for chunk in range(backend.covariance_chunks()):
        covariance = add_chunk(covariance, backend.covariance_sum(chunk))
    for layer, history in directory.arm_states()["collabedit"].history.items():
        _, vectors_KK = np.linalg.eigh(covariance.sums[layer])
        gram_KK = history.multiplied_out().numpy()
        preserved_KM = vectors_KK[:, 16:]  # 0.7 of 24 directions are free
        assert np.abs(gram_KK @ preserved_KM).max() < 1e-12 * np.abs(gram_KK).max()
        assert np.linalg.matrix_rank(gram_KK) == 16
