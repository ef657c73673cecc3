"""KnowEdit's data and metrics in whole runs: the serial bits whatever is lost, and rows that say what they should."""

import json

import pytest
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium_ray import runtime
from support.pools import LocalPool, run_on
from support.scenarios import pico_scenario
from support.tiers import one_quick

CITIES = ("Paris", "Rome", "Lyon", "Tokyo", "Lima", "London")
TABLES = ("metrics", "edits", "parties")


def record(number):
    subject, city, old = f"Tower {number}", CITIES[number % 6], CITIES[(number + 1) % 6]
    return {
        "subject": subject,
        "prompt": f"The city of {subject} is",
        "target_new": f"{city} and {old}",
        "ground_truth": old,
        "portability": {
            "Subject_Aliasing": [{"prompt": f"The city of T. {number} is", "ground_truth": [[city, "the city"]]}],
            "Reasoning": [{"prompt": f"The river of {subject} is", "ground_truth": [["the oldest one"]]}],
        },
        "locality": {
            "Relation_Specificity": [{"prompt": f"The age of {subject} is", "ground_truth": [["the oldest"]]}],
            "Forgetfulness": [{"prompt": f"{subject} is not in", "ground_truth": [[old]]}],
        },
    }


@pytest.fixture(scope="module")
def scenario(pico, tmp_path_factory):
    path = tmp_path_factory.mktemp("facts") / "wiki.json"
    path.write_text(json.dumps([record(number) for number in range(24)]), encoding="utf-8")
    return pico_scenario(
        pico["llama"],
        facts={"source": str(path), "limit": None},
        stream={"rounds": 2, "conflict": 0.5},
        evaluate={
            "sample": None,
            "metrics": ["efficacy", "retention", "edit_success", "portability", "locality", "fluency"],
            "decoding": ["teacher_forcing", "greedy"],
            "generation_tokens": 12,
        },
    )


@pytest.fixture(scope="module")
def serial_run(scenario, finished_run):
    return finished_run(scenario)


@pytest.mark.parametrize(("size", "seed"), one_quick([(3, 1), (1, 0), (3, 2)]))
def test_lost_workers_and_any_order_of_answers_change_no_number(serial_run, size, seed, tmp_path):
    with RunDirectory.create(tmp_path / "run", serial_run.scenario) as directory:
        losses = {"evaluate": 0.2, "collect": 0.1} if size > 1 else {}
        run_on(LocalPool(serial_run.scenario, open_facts(serial_run.scenario), size, seed, losses), directory)
    found = RunDirectory.open(tmp_path / "run")
    for table in TABLES:
        assert found.table(table).equals(serial_run.table(table)), table


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_workers_on_ray_give_the_serial_numbers(serial_run, tmp_path):
    workers = {"workers": {"min": 2, "max": 2, "cpus": 0.1}}
    cluster = serial_run.scenario.cluster.model_validate({**serial_run.scenario.cluster.model_dump(), **workers})
    scenario = serial_run.scenario.model_copy(update={"cluster": cluster})
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        runtime.run_on_ray(scenario, directory, open_facts(scenario), lambda progress: None)
    assert RunDirectory.open(tmp_path / "run").table("metrics").equals(serial_run.table("metrics"))


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(serial_run, tmp_path):
    """Its second process never computed the first round, whose answers the first kept."""
    scenario, path = serial_run.scenario, tmp_path / "run"
    RunDirectory.create(path, scenario).close()
    for stop in (True, False):
        with RunDirectory.open(path) as directory:
            pool = LocalPool(scenario, open_facts(scenario), 2, seed=4)
            if stop:
                _run_until_round_is_committed(pool, directory, 1)
            else:
                run_on(pool, directory)
    assert RunDirectory.open(path).table("metrics").equals(serial_run.table("metrics"))


def _run_until_round_is_committed(pool, directory, number):
    from consortium_ray.coordinator.coordinator import Coordinator

    coordinator = Coordinator(pool.scenario, directory, pool.facts, pool)
    while (directory.committed_round or 0) < number:
        coordinator.step(0.0)


def test_every_metric_has_its_rows(serial_run):
    rows = serial_run.table("metrics").to_pylist()
    base = ["edit_success", "portability", "portability_alias", "portability_reasoning", "locality", "fluency"]
    wanted = {*base, *(f"{name}_greedy" for name in base)}
    for arm in ("unedited", "global", "collabedit"):
        assert {row["metric"] for row in rows if row["arm"] == arm} >= wanted
    for row in rows:
        if row["metric"] in wanted:
            assert (row["strict"] is None) == row["metric"].startswith("fluency")
            assert row["num_edits"] == 6 or row["metric"].startswith("portability")
            assert 0 <= row["success"] <= (400 if row["metric"].startswith("fluency") else 100)


@pytest.mark.slow
def test_edits_of_all_rounds_are_asked_and_summed(scenario, serial_run, finished_run):
    """Six edits a round, of which none of round 2 contradicts one of round 1."""
    every = scenario.model_copy(update={"evaluate": scenario.evaluate.model_copy(update={"edits": "all"})})
    rows = finished_run(every).table("metrics").to_pylist()
    after = {(row["metric"], row["of_round"]): row for row in rows if (row["round"], row["arm"]) == (2, "collabedit")}
    alone = [row for row in serial_run.table("metrics").to_pylist() if (row["round"], row["arm"]) == (2, "collabedit")]
    for metric in ("edit_success", "portability", "locality", "fluency", "fluency_greedy"):
        first, second, both = (after[metric, of_round] for of_round in (1, 2, None))
        assert 0 < first["num_edits"] <= 6
        assert both["num_edits"] == first["num_edits"] + second["num_edits"]
        weighed = sum(row["success"] * row["num_edits"] for row in (first, second)) / both["num_edits"]
        assert both["success"] == pytest.approx(weighed)
        assert second["success"] == next(row["success"] for row in alone if row["metric"] == metric)


def test_the_unedited_model_keeps_its_own_answers_and_edited_ones_do_not_all(serial_run):
    rows = [row for row in serial_run.table("metrics").to_pylist() if row["metric"].startswith("locality")]
    assert {row["success"] for row in rows if row["arm"] == "unedited"} == {100.0}
    assert min(row["success"] for row in rows if row["arm"] != "unedited") < 100


def test_contradicting_requests_are_asked_for_no_conclusions_of_the_contradicted_ones(serial_run):
    """Of a variant's questions the aliases stay: no edit less for them, fewer for portability by reasoning."""
    rows = [row for row in serial_run.table("metrics").to_pylist() if row["arm"] == "global"]
    asked = {row["metric"]: row["num_edits"] for row in rows if row["round"] == 1}
    assert asked["portability"] == asked["portability_alias"] == 6
    assert asked["portability_reasoning"] == 5
