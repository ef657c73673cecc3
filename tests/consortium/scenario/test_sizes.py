"""Legal and absurd: numbers, names and texts that are refused before anything of their size is made."""

import os
import time

import pytest
from consortium.common.errors import ScenarioError
from consortium.loading import estimate
from consortium.loading.load import find_scenario, load_scenario
from consortium.loading.prepare import prepare
from consortium.loading.yaml_text import MAX_CHARACTERS, parse

ASSOCIATIVE = """\
name: tiny
model: {name: associative, num_layers: 2, key_width: 32, value_width: 8, num_objects: 8}
editor: {covariance_weight: 10}
"""
LONG = "a" * 300


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(ASSOCIATIVE)
    return str(path)


#: Overrides, and what the message must name: the key, and what was found or what is allowed.
ABSURD = [
    (["cluster.threads=100000"], "cluster.threads", "1,000"),
    (["parties.count=1000000000"], "parties.count", "10,000,000"),
    (["parties.edits_per_round=1000000000", "stream.rounds=1000"], "parties.count", "GiB"),
    (["parties.edits=1000000000", "stream.rounds=1", "parties.count=1000"], "parties.count", "GiB"),
    (["stream.rounds=1000000000"], "stream.rounds", "100,000"),
    (["stream.phases=[{rounds: [1, 1], edits_per_round: 900000000}]", "parties.count=100"], "parties.count", "GiB"),
    (["editor.contexts.count=1000000000"], "editor.contexts.count", "1,000"),
    (["editor.contexts.tokens=1000000000"], "editor.contexts.tokens", "10,000"),
    (["editor.target.steps=1000000000"], "editor.target.steps", "100,000"),
    (["editor.method=ft", "editor.steps=1000000000"], "editor.steps", "100,000"),
    (["evaluate.generation_tokens=1000000000"], "evaluate.generation_tokens", "100,000"),
    (["model.key_width=1000000000"], "model.key_width", "10,000,000"),
    (["model.key_width=1000000"], "model.key_width", "GiB"),
    (["model.value_width=10000000", "model.num_objects=10000000"], "model.num_objects", "GiB"),
    (["model.num_layers=10000000"], "model.num_layers", "10,000"),
    (["model.num_layers=10000", "model.key_width=10000", "model.value_width=10000"], "model.num_layers", "GiB"),
    (["model.num_relations=10000000", "model.key_width=10000"], "model.num_relations", "GiB"),
    (["facts.limit=1000000000000"], "facts.limit", "1,000,000,000"),
    (["cluster.workers=1000000000"], "cluster.workers", "100,000"),
    (["cluster.workers={cpus: 1.0e+300}"], "cluster.workers.cpus", "1,000,000"),
    (["cluster.timeout_s=1.0e+14"], "cluster.timeout_s", "32,000,000"),
    (["cluster.on_failure.max_losses=1000000000"], "cluster.on_failure.max_losses", "1,000"),
    (["cluster.on_failure.wait_s=1.0e+14"], "cluster.on_failure.wait_s", "32,000,000"),
    (["cluster.autoscale.max_nodes=1000000"], "cluster.autoscale.max_nodes", "1,000"),
    (["faults=[{action: delay, seconds: 1.0e+12}]"], "faults.0.seconds", "32,000,000"),
    (["seed=99999999999999999999999"], "seed", "18,446,744,073,709,551,615"),
    (["virtual_time.devices.speed=5e-324"], "virtual_time.devices.speed", "1e-15"),
    (
        ["virtual_time.devices.upload={lognormal: {median: 1, sigma: 1.0e+300}}"],
        "virtual_time.devices.upload.lognormal.sigma",
        "1e+15",
    ),
    (["editor.covariance_weight=1.0e+300"], "editor.covariance_weight", "1e+15"),
    (["merge.methods=[{name: task_arithmetic, alpha: 1.0e+300}]"], "merge.methods.0.alpha", "1e+15"),
    (["unlearn.parties=[{round: 1, parties: [1000000000000000000000]}]"], "unlearn.parties.0.parties.0", "at most"),
    ([f"name={LONG}"], "name", "100"),
    ([f"merge.methods=[{{name: collabedit, label: {LONG}}}]"], "merge.methods.0.label", "100"),
    ([f"facts.augmentations={LONG}"], "facts.augmentations", ""),
    (["facts.augmentations=~nosuchuser/x"], "facts.augmentations", ""),
    ([f"editor.covariance.source={LONG}"], "editor.covariance.source", "with the associative model"),
    ([f"virtual_time.devices.trace={LONG}"], "virtual_time.devices.trace", "no file"),
    ([f"evaluate.perplexity_text={LONG}"], "evaluate.perplexity_text", ""),
    ([f"evaluate.downstream={LONG}"], "evaluate.downstream", ""),
]


@pytest.mark.parametrize(("overrides", "key", "words"), ABSURD, ids=[pair[0][0][:40] for pair in ABSURD])
def test_absurd_values_are_refused_at_once(scenario, overrides, key, words, monkeypatch):
    monkeypatch.setattr(estimate, "machine_bytes", lambda: 16 << 30)
    begin = time.process_time()
    with pytest.raises(ScenarioError) as refused:
        prepare(scenario, overrides)
    assert time.process_time() - begin < 5
    assert key in str(refused.value)
    assert words in str(refused.value)


def test_what_fits_is_said(scenario, monkeypatch):
    """1,000 edits each; a request takes 32 bytes and a drawn fact 12, so 44 kB for a party: of 4.4 GB, 100,000 fit."""
    monkeypatch.setattr(estimate, "machine_bytes", lambda: 4_400_000_000)
    prepared = ["parties.edits_per_round=100", "stream.rounds=10"]
    with pytest.raises(ScenarioError, match=r"parties\.count up to 100,000"):
        prepare(scenario, [*prepared, "parties.count=100001"])


def test_a_machine_has_at_least_as_much_memory_as_is_free():
    assert 1 << 28 < estimate.machine_bytes() < 1 << 50


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
TEXTS = {
    "aliases that multiply": (BOMB, "values, aliases counted in"),
    "deep lists": ("a: " + "[" * 100_000, "nested more than 40 deep"),
    "deep mappings": ("{" * 50_000, "nested more than 40 deep"),
    "deep blocks": ("- " * 50_000, "nested more than 40 deep"),
    "long text": ("a: " + "x" * MAX_CHARACTERS, "characters"),
    "number of 5,000 digits": ("a: " + "9" * 5000, "a number of 5,000 digits"),
    "long key": (f"{'k' * 201}: 1", "a key of 201 characters"),
    "half a surrogate pair": ('name: "\\ud800"', "surrogate"),
    "half a surrogate pair as a key": ('"\\udfff": 1', "surrogate"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_multiply_are_refused(name):
    text, words = TEXTS[name]
    begin = time.process_time()
    with pytest.raises(ScenarioError, match=words):
        parse(text, "file.yaml")
    assert time.process_time() - begin < 5


def test_aliases_of_a_usual_size_are_read():
    assert parse("a: &a [1, 2]\nb: [*a, *a]", "file.yaml").data == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


@pytest.mark.parametrize("name", [LONG, "~nosuchuser/a.yaml", "a\udcff.yaml", "/dev/zero", "a\0b"])
def test_names_that_are_no_files_are_refused(name):
    with pytest.raises(ScenarioError):
        find_scenario(name)


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ScenarioError, match="no regular file"):
        load_scenario(str(tmp_path / "pipe.yaml"))


def test_of_a_large_file_only_a_bounded_part_is_read(tmp_path):
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: a terabyte of zeros
    with pytest.raises(ScenarioError, match="characters"):
        load_scenario(str(path))
