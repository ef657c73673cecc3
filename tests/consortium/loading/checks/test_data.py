"""Keys of ``facts`` that go together, and files that are of no use."""

import json
import os

import pytest
from consortium.common.errors import FactsError, InputError, ScenarioError
from consortium.loading.check import check_scenario
from consortium.loading.load import load_scenario
from consortium.loading.prepare import prepare
from consortium.loading.resolve import resolve


def write(folder, **sections):
    path = folder / "s.yaml"
    path.write_text(json.dumps({"name": "a", **sections}))
    return str(path)


RESOLVED = {"num_paraphrases": 2, "policy": "latest"}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"facts": {"config": "a"}}, r"facts\.config.*\"a\" with facts\.source: builtin, which is no dataset"),
        ({"facts": {"source": "f.json", "files": "x"}}, r"facts\.files.*with facts\.source: .*f\.json"),
        ({"facts": {"source": "f.json", "split": "test"}}, r"facts\.split.*\"test\" with facts\.source: .*f\.json"),
        ({"facts": {"source": "hub:a/b", "files": ["x"], "split": "test"}}, r"facts\.split.*files are read whole"),
        ({"facts": {"source": "hub:a/b", "files": ["x"], "config": "c"}}, r"facts\.config.*files are read whole"),
        ({"facts": {"source": "pipe"}}, r"facts\.source.*'pipe': it is a pipe \(FIFO\)"),
        ({"facts": {"source": "~nosuchuser/f.json"}}, r"facts\.source.*no file '~nosuchuser/f\.json'"),
        ({"facts": {"source": "x" * 300}}, r"facts\.source.*File name too long"),
        ({"facts": {"augmentations": "f.json"}}, r"facts\.augmentations.*f\.json' with conflicts\.num_paraphrases: 0"),
        ({"facts": {"augmentations": "."}, "conflicts": RESOLVED}, r"facts\.augmentations.*'\.': it is a folder"),
        ({"evaluate": {"perplexity_text": "pipe"}}, r"evaluate\.perplexity_text.*is a pipe"),
        ({"evaluate": {"downstream": "~nosuchuser/q"}}, r"evaluate\.downstream.*no file"),
        ({"editor": {"covariance": {"source": "pipe"}}}, r"editor\.covariance\.source.*is a pipe"),
    ],
)
def test_keys_that_do_not_go_together_and_files_that_are_none_are_refused(sections, message, tmp_path):
    (tmp_path / "f.json").write_text("{}")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ScenarioError, match=message):
        check_scenario(load_scenario(write(tmp_path, **sections)))


def test_parts_of_a_dataset_are_right(tmp_path):
    for facts in ({"config": "a", "split": "test"}, {"files": "x.jsonl"}, {"files": ["x.jsonl", "y.csv"]}):
        loaded = load_scenario(write(tmp_path, facts={"source": "hub:a/b", **facts}))
        check_scenario(loaded)
        assert isinstance(loaded.scenario.facts.files, tuple)


def test_a_dataset_in_a_folder_means_the_same_everywhere(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    loaded = load_scenario(write(tmp_path, facts={"source": "hub:set"}))
    assert resolve(loaded.scenario, loaded.base_dir).facts.source == f"hub:{tmp_path / 'set'}"
    elsewhere = load_scenario(write(tmp_path, facts={"source": "hub:somebody/set"}))
    assert resolve(elsewhere.scenario, elsewhere.base_dir).facts.source == "hub:somebody/set"


@pytest.mark.parametrize("content", [b"", b" \n ", b"\0" * 999, b"caf\xe9"])
def test_a_text_that_is_none_is_refused_before_a_run(content, tmp_path):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(InputError, match=r"editor\.covariance\.source"):
        prepare(write(tmp_path, editor={"covariance": {"source": "text"}}))
    with pytest.raises(FactsError, match="for the perplexity"):
        prepare(write(tmp_path, evaluate={"perplexity_text": "text"}))
