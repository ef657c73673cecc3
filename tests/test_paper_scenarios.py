"""The shipped scenarios that take long, from end to end at a small size: other models, the same arms and measures."""

import json

import pytest
from consortium.cli.main import main
from consortium.loading.prepare import prepare
from consortium.records.directory import RunDirectory
from consortium.report.words import measured
from support.pico import pico_folder

METHODS = [
    *("global", "collabedit", "simple_average", "task_arithmetic", "ties"),
    *("dare", "dare_ties", "regmean", "fisher"),
]
ASSOCIATIVE = {
    "model": "{name: associative, key_width: 32, value_width: 12, num_objects: 12}",
    "editor": "{covariance_weight: 10}",
}


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def pico(tmp_path_factory):
    """A language model and an editor that fits it, in the place of those that a scenario names."""
    editor = (
        "{layers: [0, 2], residual_schedule: spread, covariance_weight: 0.01, target: {steps: 2}, "
        "contexts: {count: 2, tokens: 4}, "
    )
    folder = pico_folder(tmp_path_factory.mktemp("pico") / "pico", "llama", num_layers=4)
    return {"model": f"{{name: {folder}, device: cpu}}", "editor": editor + "covariance: {tokens: 200}}"}


def run(name, path, changes):
    """Run a shipped scenario with overrides as the command line does, in this process."""
    overrides = [f"--set={key}={value}" for key, value in (changes | {"cluster.target_cache": "false"}).items()]
    assert main(["run", name, "--serial", "--out", str(path), *overrides]) == 0
    return RunDirectory.open(path)


def table_of(text):
    """Arm → cells of the table that a run prints at its end."""
    rows = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in text.splitlines() if "|" in line]
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows}


@pytest.mark.parametrize(("name", "edits", "rounds"), [("paper/single-round", 10, 1), ("paper/multi-round", 10, 5)])
@pytest.mark.parametrize("scale", [1, 3])
def test_one_number_scales_the_papers_protocols(name, edits, rounds, scale):
    scenario = prepare(name, [f"parties.edits={scale * edits}"]).scenario
    assert (scenario.parties.count, scenario.stream.rounds) == (10, rounds)
    assert scenario.parties.edits_per_round == scale * edits // rounds
    assert [method.arm for method in scenario.merge.methods] == METHODS
    assert scenario.merge.exchange == "layer"
    assert prepare(name, ["merge.exchange=round"]).scenario.merge.exchange == "round"


@pytest.mark.slow
def test_a_single_round_ends_with_the_papers_table(pico, tmp_path, capsys):
    """Methods as rows, score first, and every number that of the table of metrics."""
    directory = run("paper/single-round", tmp_path / "run", pico | {"parties.edits": 1, "evaluate.sample": 4})
    shown = table_of(capsys.readouterr().out)
    assert list(shown) == ["method", *METHODS, "unedited", "questions", "+/- at most"]
    assert list(shown["method"])[:5] == ["method", "score", "efficacy", "paraphrase", "neighborhood"]
    names = {"score": "score", "efficacy": "efficacy", "paraphrase": "paraphrase"}
    for row in directory.table("metrics").to_pylist():
        if row["metric"] in names:
            assert shown[row["arm"]][names[row["metric"]]] == measured(row["success"], row["unit"])


@pytest.mark.slow
def test_many_rounds_are_evaluated_on_the_edits_of_all(tmp_path, capsys):
    """10 parties x 1 edit x 5 rounds; the printed numbers are those over all rounds' edits."""
    small = ASSOCIATIVE | {"parties.edits": 5, "evaluate.sample": "null"}
    directory = run("paper/multi-round", tmp_path / "run", small)
    shown = table_of(capsys.readouterr().out)
    rows = [row for row in directory.table("metrics").to_pylist() if row["metric"] == "efficacy"]
    assert {row["of_round"] for row in rows} == {None, 1, 2, 3, 4, 5}
    for row in rows:
        if row["of_round"] is None:
            assert row["num_edits"] == 50
            assert shown[row["arm"]]["efficacy"] == f"{row['success']:.1f}"


@pytest.mark.slow
def test_forgetting_shows_what_history_weights_do(pico, tmp_path, capsys):
    small = pico | {"stream.rounds": 3, "evaluate.every": 1, "evaluate.perplexity_tokens": 200}
    directory = run("forgetting", tmp_path / "run", small)
    shown = table_of(capsys.readouterr().out)
    assert {"collabedit", "static", "paper-weight"} <= set(shown)
    states = directory.arm_states()
    grams = {arm: states[arm].history[0].multiplied_out().trace() for arm in ("collabedit", "paper-weight")}
    assert states["static"].history == {}
    # The first round is the same in both, so the weights differ by λ = 0.01 there, and by about that later.
    assert 0.005 < grams["paper-weight"] / grams["collabedit"] < 0.02
    rows = [row for row in directory.table("metrics").to_pylist() if row["metric"] == "perplexity"]
    assert [row["round"] for row in rows if row["arm"] == "unedited"] == [1]
    assert [row["round"] for row in rows if row["arm"] == "static"] == [1, 2, 3]
    assert {row["unit"] for row in rows} == {"1"}
    assert shown["unedited"]["perplexity"] == measured(rows[0]["success"], "1")
    text = directory.report_path.read_text(encoding="utf-8")
    assert "What holds of each round" in text
    assert "Perplexity of a fixed text" in text


@pytest.mark.slow
def test_json_says_the_unit(pico, tmp_path, capfd):
    small = pico | {
        "parties.edits": 1,
        "evaluate.sample": 2,
        "evaluate.perplexity_text": "builtin",
        "merge.methods": "[fisher]",
    }
    overrides = [f"--set={key}={value}" for key, value in (small | {"cluster.target_cache": "false"}).items()]
    assert (
        main(["run", "paper/single-round", "--serial", "--out", str(tmp_path / "run"), *overrides, "--format=json"])
        == 0
    )
    found = json.loads(capfd.readouterr().out)["arms"]["fisher"]["metrics"]
    assert (found["perplexity"]["unit"], found["efficacy"]["unit"]) == ("1", None)
