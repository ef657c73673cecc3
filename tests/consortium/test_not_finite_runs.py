"""Whole runs on a model whose numbers are not finite on some prompts, those with a Q in them."""

import json

import numpy as np
import pytest
import yaml
from consortium.cli.main import main
from consortium.common.errors import RunError
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from support.not_finite import bad_token_folder
from support.pools import LocalPool, run_on
from support.scenarios import difference, pico_scenario, run_serially

SUBJECTS = ("Tower A", "River B", "Bridge C", "Palace D", "Museum E", "Garden F")
METRICS = ["efficacy", "paraphrase", "neighborhood", "edit_success", "portability", "locality", "fluency"]


def facts_in(folder, spoilt_subject=None, is_spoilt=True):
    """Six facts; a paraphrase, a neighbour and questions of the first have a Q, or the subject of one of them."""
    bad = "Q " if is_spoilt else ""
    records = []
    for place, name in enumerate(SUBJECTS):
        subject = f"Q {name}" if name == spoilt_subject else name
        mark = bad if place == 0 else ""
        records.append(
            {
                "subject": subject,
                "prompt": "{} is in",
                "target_new": "Rome",
                "target_old": "Paris",
                "paraphrases": [f"{mark}Where is {name}? In", f"One finds {name} in"],
                "neighbors": [{"prompt": f"{mark}The tower is in", "target": "Paris"}],
                "portability": [{"kind": "reasoning", "prompt": f"{mark}{name} is a part of", "answers": ["Italy"]}],
                "locality": [{"kind": "other", "prompt": f"{mark}Lyon is in", "target": "France"}],
            }
        )
    path = folder / "facts.jsonl"
    path.write_text("\n".join(map(json.dumps, records)) + "\n", encoding="utf-8")
    return str(path)


def scenario_of(model, facts, **changes):
    text = "The tower is in the city of Paris. The river runs through the city of Lyon. " * 60
    probe = facts.replace("facts.jsonl", "probe.txt")
    with open(probe, "w", encoding="utf-8") as file:
        file.write(f"{text} Q {text}")
    covariance = facts.replace("facts.jsonl", "covariance.txt")
    with open(covariance, "w", encoding="utf-8") as file:
        file.write(text)
    settings = {
        "editor": {"covariance": {"source": covariance}} | changes.pop("editor", {}),
        "facts": {"source": facts, "limit": None},
        "evaluate": {
            "sample": None,
            "metrics": METRICS,
            "perplexity_text": probe,
            "decoding": ["teacher_forcing", "greedy"],
        },
        "merge": {"methods": ["global", "collabedit", "ties"]},
        "stream": {"overlap": 0, "repeat": 0, "conflict": 0},
    }
    settings["evaluate"] |= {"generation_tokens": 5} | changes.pop("evaluate", {})
    return pico_scenario(model, **(settings | changes))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return bad_token_folder(tmp_path_factory.mktemp("model") / "pico", "llama", num_layers=4)


@pytest.fixture(scope="module")
def runs(model, tmp_path_factory):
    """The run with the bad questions, and the one without."""
    found = []
    for name, is_spoilt in (("spoilt", True), ("sound", False)):
        folder = tmp_path_factory.mktemp(name)
        scenario = scenario_of(model, facts_in(folder, is_spoilt=is_spoilt), evaluate={"max_not_finite": 0.5})
        found.append(run_serially(scenario, folder / "run"))
    return found


def metrics_of(run):
    return {(row["arm"], row["metric"]): row for row in run.table("metrics").to_pylist()}


@pytest.mark.slow
def test_the_weights_are_those_of_the_run_without_the_bad_questions(runs):
    assert difference(*(run.arm_states() for run in runs)) == []


@pytest.mark.slow
def test_each_metric_counts_what_it_left_out_and_keeps_the_rest(runs):
    spoilt, sound = map(metrics_of, runs)
    expected = {"paraphrase": 1, "neighborhood": 1, "portability": 1, "locality": 1}
    for arm in ("unedited", "global", "collabedit", "ties"):
        for metric in ("efficacy", "paraphrase", "neighborhood", "edit_success", "fluency"):
            row, alone = spoilt[arm, metric], sound[arm, metric]
            missing = expected.get(metric, 0)
            assert row["num_not_finite"] == missing
            assert row["num_probes"] == alone["num_probes"] - missing
            if not missing:
                assert (row["success"], row["strict"]) == pytest.approx((alone["success"], alone["strict"]))
        for metric in ("portability", "locality", "portability_greedy", "locality_greedy"):
            assert spoilt[arm, metric]["num_not_finite"] == 1
        assert spoilt[arm, "perplexity"]["num_not_finite"] > 0
        assert spoilt[arm, "perplexity"]["success"] == pytest.approx(sound[arm, "perplexity"]["success"], rel=0.2)


@pytest.mark.slow
def test_an_event_tells_it(runs):
    spoilt, _ = runs
    told = [row for row in spoilt.table("events").to_pylist() if row["kind"] == "not-finite"]
    assert {row["arm"] for row in told} == {"unedited", "global", "collabedit", "ties"}
    assert "paraphrase of round 1: 1 of 12" in told[0]["detail"]


def test_with_more_than_its_share_a_run_stops_and_says_what_and_where(model, tmp_path):
    scenario = scenario_of(model, facts_in(tmp_path), evaluate={"max_not_finite": 0.1, "metrics": ["neighborhood"]})
    with pytest.raises(RunError, match=r"1 of 6 questions \(neighborhood\).* in arm unedited, round 1") as caught:
        run_serially(scenario, tmp_path / "run")
    assert caught.value.exit_code == 1


@pytest.mark.slow
def test_such_a_run_goes_on_with_a_higher_share_and_says_so(model, finished_run, tmp_path, capsys):
    """Resumed as it is, it would meet the same numbers again, so that is not offered."""
    metrics = {"metrics": ["efficacy", "neighborhood"], "decoding": ["teacher_forcing"], "perplexity_text": None}
    scenario = scenario_of(model, facts_in(tmp_path), evaluate={"max_not_finite": 0.1, **metrics})
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(scenario.model_dump(mode="json")))
    run = str(tmp_path / "run")
    assert main(["run", str(tmp_path / "scenario.yaml"), "--serial", "--out", run]) == 1
    said = capsys.readouterr().err
    assert "consortium resume DIR --set evaluate.max_not_finite=1" in said
    assert "To go on" not in said
    assert main(["resume", run]) == 1
    assert main(["resume", run, "--set", "evaluate.max_not_finite=1"]) == 0
    whole = finished_run(scenario_of(model, facts_in(tmp_path), evaluate=metrics))
    assert difference(RunDirectory.open(run).arm_states(), whole.arm_states()) == []


@pytest.mark.slow
@pytest.mark.parametrize("editor", [{}, {"method": "ft"}, {"method": "rome", "layers": [1]}])
def test_an_edit_that_is_not_finite_is_left_out_and_the_others_are_made_without_it(
    model, finished_run, tmp_path, editor
):
    """Of two parties that are computed together, and of one party's own."""
    changes = {"editor": editor, "evaluate": {"metrics": ["efficacy"], "max_not_finite": 0.5, "perplexity_text": None}}
    if editor:
        changes["merge"] = {"methods": ["simple_average"], "exchange": "round"}
    path = tmp_path / "spoilt"
    path.mkdir()
    run = finished_run(scenario_of(model, facts_in(path, "Palace D"), **changes))
    arms = {row["arm"] for row in run.table("parties").to_pylist()}
    rows = [row for row in run.table("parties").to_pylist() if row["num_not_finite"]]
    assert [row["num_not_finite"] for row in rows] == [1] * len(arms)
    for row in run.table("metrics").to_pylist():
        assert (row["num_edits"], row["num_not_finite"]) == (5, 1)
    summed = sum(row["num_summed"] for row in run.table("audit").to_pylist() if row["layer"] == 0 or editor)
    layers = {row["layer"] for row in run.table("audit").to_pylist()}
    assert summed == 5 * len(arms) * (len(layers) if editor else 1)
    told = [row for row in run.table("events").to_pylist() if row["kind"] == "not-finite"]
    assert any("edits left out: 1" in row["detail"] for row in told)


def test_with_too_many_such_edits_a_run_stops_before_their_merge(model, tmp_path):
    scenario = scenario_of(
        model, facts_in(tmp_path, "Palace D"), evaluate={"max_not_finite": 0.1, "perplexity_text": None}
    )
    with pytest.raises(RunError, match=r"1 of 6 edits have .* not finite in arm global, round 1"):
        run_serially(scenario, tmp_path / "run")


@pytest.mark.slow
def test_workers_leave_out_the_same(model, finished_run, tmp_path):
    settings = {"metrics": ["efficacy", "paraphrase"], "max_not_finite": 0.5}
    scenario = scenario_of(model, facts_in(tmp_path, "Palace D"), evaluate=settings)
    serial = finished_run(scenario)
    with RunDirectory.create(tmp_path / "ray", scenario) as directory:
        run_on(LocalPool(scenario, open_facts(scenario), 2), directory)
    hosted = RunDirectory.open(tmp_path / "ray")
    assert difference(serial.arm_states(), hosted.arm_states()) == []
    for table in ("metrics", "residuals", "parties"):
        assert hosted.table(table).equals(serial.table(table))


def test_texts_of_the_covariance_that_are_not_finite_are_left_out_and_told(model, finished_run, tmp_path):
    """The model itself writes a Q in one of four texts."""
    scenario = scenario_of(
        model, facts_in(tmp_path), editor={"covariance": {"source": "model"}}, evaluate={"perplexity_text": None}
    )
    with pytest.raises(RunError, match=r"the keys of 64 of 256 tokens of the key covariance's text are not finite"):
        run_serially(_with_share(scenario, 0.2), tmp_path / "stopped")
    run = finished_run(_with_share(scenario, 0.3))
    told = [row["detail"] for row in run.table("events").to_pylist() if row["kind"] == "not-finite"]
    assert told[0] == "tokens of the key covariance's text left out: 64 of 256"
    assert all(np.isfinite(weight).all() for state in run.arm_states().values() for weight in state.weights.values())


def _with_share(scenario, share):
    return scenario.model_copy(
        update={"evaluate": scenario.evaluate.model_copy(update={"max_not_finite": share, "metrics": ("efficacy",)})}
    )
