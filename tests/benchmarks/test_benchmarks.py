"""Every benchmark at pico size: fields are there, ours equals the naive way, and the command line keeps its word."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from consortium.common.errors import RunError
from consortium.editing.backend import Targets
from consortium.editing.targets import rows_of
from consortium.scenario.editor import TargetSpec
from support.pico import pico_folder

from benchmarks import startup, targets
from benchmarks.__main__ import main
from benchmarks.harness import fixtures
from benchmarks.harness.fixtures import Fixtures
from benchmarks.harness.options import Options
from benchmarks.harness.record import RESULTS, Record, read
from benchmarks.harness.table import DOCS, with_results
from benchmarks.registry import BENCHMARKS

#: What each benchmark is given, as small as it can be.
SIZES = {
    "targets": "2",
    "keys": "3",
    "key_covariance": "96",
    "merge": "24",
    "robust": "24",
    "evaluation": "2",
    "round": "4",
}
#: Gradient steps of a target.
STEPS = 4
MEASURED = [
    pytest.param(name, marks=[pytest.mark.slow] if name in ("targets", "keys", "key_covariance", "round") else [])
    for name in BENCHMARKS
    if name not in ("startup", "scale")
]


@pytest.fixture(scope="module")
def pico(tmp_path_factory):
    return pico_folder(tmp_path_factory.mktemp("models") / "pico", "llama", num_layers=4)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(fixtures, "TARGETS", TargetSpec(steps=STEPS))


@pytest.fixture
def bench(pico):
    return Fixtures(Options(model=str(pico), device="cpu", layer=1, contexts=2), lambda line: None)


def run(capsys, *arguments):
    """Exit code, and what stands on standard output and standard error."""
    code = main(arguments)
    return (code, *capsys.readouterr())


def measured(name, pico, folder, capfd, *more):
    arguments = [name, "--model", str(pico), "--device", "cpu", "--layer", "2", "--contexts", "2", "--repeats", "1"]
    sizes = ["--sizes", SIZES[name]] if name in SIZES else []
    code, out, err = run(capfd, *arguments, *sizes, "--results", str(folder), "--format", "json", *more)
    assert code == 0, err
    return json.loads(out)["records"]


@pytest.mark.parametrize("name", MEASURED)
def test_every_benchmark_measures_equal_results(name, pico, tmp_path, capfd):
    more = ["--parties", "12"] if name in ("merge", "robust") else []
    records = measured(name, pico, tmp_path, capfd, *more)
    assert records
    for record in records:
        assert set(record) == {field.name for field in fields(Record)}
        assert record["benchmark"] == name
        assert record["skipped"] is None
        assert record["bytes_meaning"]
        assert record["machine"]["cpu"]
        assert record["versions"]["torch"] == torch.__version__
        assert record["seconds_ours"]["least"] > 0
        for number in ("flops_ours", "rate_ours", "rate_product", "share_of_product"):
            assert record[number] > 0
        assert record["peak_ours_bytes"] >= 0
        if record["label"].endswith("sampled and summed") or name == "robust":  # of which there is no naive way
            assert record["seconds_naive"] is None
            continue
        assert record["difference"] < 1e-4
        assert record["items_naive"] >= 1
        assert record["seconds_naive"]["least"] > 0
        assert record["ratio"]["least"] > 0
        assert record["flops_naive"] > 0
    assert [record.label for record in read(tmp_path)] == [record["label"] for record in records]


@pytest.mark.slow
def test_startup_tells_the_stages_of_a_start(pico, tmp_path, capfd, monkeypatch):
    """Of the serial one; a cluster takes too long to start for what it would show here."""
    monkeypatch.setattr(startup, "_KINDS", {"serial": ["--serial"]})
    (record,) = measured("startup", pico, tmp_path, capfd)
    assert list(record["stages"]) == [
        "process",
        "imports",
        "scenario",
        "model",
        "key covariance and contexts",
        "in all",
    ]
    *parts, whole = record["stages"].values()
    assert min(parts) >= 0
    assert whole == pytest.approx(sum(parts))


def test_stages_add_up():
    marks = {"process": 11.0, "imports": 13.0, "ray": 16.0, "scenario": 17.0, "work": 30.0}
    stages = startup._stages(10.0, marks, ready_s=8.0)
    assert stages == {
        "process": 1.0,
        "imports": 2.0,
        "ray": 3.0,
        "scenario": 1.0,
        "model": 8.0,
        "key covariance and contexts": 5.0,
    }
    assert list(startup._stages(10.0, marks, ready_s=14.0).values())[-2:] == [13.0, 0.0]


@pytest.mark.slow
def test_a_start_that_fails_says_why(tmp_path, monkeypatch):
    with pytest.raises(RunError, match="no-such-scenario"):
        startup._start(["no-such-scenario", "--serial"])


def test_the_count_of_operations_is_above_the_floor(bench):
    case = targets.case(bench, 3)
    found = case.ours(3)
    assert case.floor(found) > 0
    assert set(found.num_steps) == {STEPS - 1}


def test_the_floor_by_hand(bench):
    """One edit, by the formula of docs/performance.md, with the tokens counted here.

    A pico llama's block has q 32², k and v 16·32 each, o 32², and three MLP matrices of 32·48; the head is 400·32.
    """
    block = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 48)
    head = 2 * 400 * 32
    prompts = targets.prompts_of(bench.model, bench.edits(1)[0], ("{}",))
    moving = sum(len(prompt.ids) - prompt.subject for prompt in prompts)
    scored = prompts[0].num_scored + 1
    prefix_cache = {prompt.ids[:end] for prompt in prompts for end in range(1, len(prompt.ids) + 1)}
    found = Targets(1, torch.zeros(1, 32), (3,), (0.0,), (0.0,))
    above = 1  # layers 0 to 3, edited at 1: block 2 lies between it and the last
    expected = len(prefix_cache) * 3 * block + 2 * 3 * moving * above * block + (2 * 3 + 1) * scored * (block + head)
    assert targets.floor(bench.model, [prompts], 1, 25, found) == expected


def test_an_edit_that_took_more_steps_was_more_work(bench):
    """The second edit takes four times the steps and runs its own tokens: the first is the rest of all."""
    groups = [targets.prompts_of(bench.model, edit, ("{}",)) for edit in bench.edits(2)]
    one, other = (len(group) * max(len(prompt.ids) for prompt in group) for group in groups)
    found = Targets(1, torch.zeros(2, 32), (1, 7), (0.0, 0.0), (0.0, 0.0))
    assert targets._share(groups, found, 1) == pytest.approx(2 * one / (2 * one + 8 * other))
    assert targets._share(groups, found, 2) == 1


def test_prompts_are_those_that_are_optimised(bench):
    edits, contexts = bench.edits(2), ("{}", "So. {}")
    rows = [(row.ids, row.subject, row.num_read) for row in rows_of(bench.model, edits, contexts)]
    prompts = [prompt for edit in edits for prompt in targets.prompts_of(bench.model, edit, contexts)]
    assert [(prompt.ids, prompt.subject, prompt.num_scored) for prompt in prompts] == rows


def test_without_a_name_there_is_a_list(capsys):
    code, out, _ = run(capsys)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(BENCHMARKS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fast"], "unknown benchmark 'fast'"),
        (["targets", "fast"], "unknown benchmark 'fast'"),
        (["targets", "--fast"], "unrecognized arguments: --fast"),
        (["targets", "--sizes", "0"], "--sizes"),
        (["targets", "--seconds", "-1"], "--seconds"),
        (["targets", "keys", "--sizes", "3"], "--sizes"),
        (["--write-docs", "targets"], "--write-docs with names"),
    ],
)
def test_mistakes_end_with_2_and_say_what_there_is(arguments, message, capsys):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert all(name in err for name in BENCHMARKS) or "--" in message


def test_mistakes_in_json_are_one_object(capfd):
    code, out, err = run(capfd, "fast", "--format", "json")
    assert code == 2
    assert json.loads(out)["error"]["found"] == "unknown benchmark 'fast'"
    assert "targets, keys, key_covariance, merge, robust, evaluation, round, startup, scale" in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--layer", "3"], "--layer 3 of pico, which has 4 layers"),
        (["--sizes", "100000"], "as many as there are built-in facts"),
        (["--random-shape", "llama-9000b"], "llama-8b"),
        (["--device", "cuda:99"], "CUDA devices"),
    ],
)
def test_what_the_model_cannot_do_is_refused(more, message, pico, tmp_path, capsys):
    folder = ["--results", str(tmp_path)]
    code, out, err = run(capsys, "targets", "--model", str(pico), "--device", "cpu", *folder, *more)
    assert (code, out) == (2, "")
    assert message in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_random_weights_of_a_shape(tmp_path, capfd):
    """The tokenizer is the bundled one, and the weights are drawn alike each time."""
    folder = ["--results", str(tmp_path), "--format", "json"]
    arguments = ["targets", "--random-shape", "llama-tiny", "--sizes", "1", "--repeats", "1", "--contexts", "2"]
    code, out, _ = run(capfd, *arguments, "--seconds", "1", "--device", "cpu", *folder)
    (record,) = json.loads(out)["records"]
    assert code == 0
    assert record["parameters"]["model"] == "llama-tiny (random weights)"
    assert record["difference"] < 1e-4
    options = Options(random_shape="llama-tiny", device="cpu")
    one, other = (Fixtures(options, lambda line: None).model.weights_hash() for _ in range(2))
    assert one == other


def test_the_page_shows_the_newest_results():
    """After new results: python -m benchmarks --write-docs."""
    page = DOCS.read_text(encoding="utf-8")
    assert page == with_results(page, read(RESULTS))


def test_results_name_no_place_of_a_machine():
    for path in Path(RESULTS).glob("*.jsonl"):
        assert '"/' not in path.read_text(encoding="utf-8")
