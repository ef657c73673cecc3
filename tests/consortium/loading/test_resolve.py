"""Defaults that depend on other keys."""

from consortium.loading.resolve import resolve
from consortium.scenario.editor import CovarianceSpec, MemitSpec
from consortium.scenario.schema import AssociativeModelSpec, EvaluateSpec, FactsSpec, PartiesSpec, Scenario, StreamSpec


def test_facts_follow_from_the_kind_of_model():
    assert resolve(Scenario(name="a")).facts.source == "builtin"
    assert resolve(Scenario(name="a", model=AssociativeModelSpec(name="associative"))).facts.source == "synthetic"


def test_an_associative_model_is_edited_in_all_its_layers_unless_some_are_named():
    model = AssociativeModelSpec(name="associative", num_layers=3)
    assert resolve(Scenario(name="a", model=model)).editor.edited_layers == (0, 1, 2)
    assert resolve(Scenario(name="a", model=model, editor=MemitSpec(layers=(1,)))).editor.edited_layers == (1,)


def test_files_and_folders_beside_the_scenario_become_absolute(tmp_path):
    (tmp_path / "f.jsonl").write_text("")
    (tmp_path / "t.txt").write_text("")
    (tmp_path / "more.json").write_text("{}")
    (tmp_path / "model").mkdir()
    scenario = Scenario.model_validate(
        {
            "name": "a",
            "model": {"name": "model"},
            "facts": FactsSpec(source="f.jsonl", augmentations="more.json"),
            "editor": MemitSpec(covariance=CovarianceSpec(source="t.txt")),
        }
    )
    resolved = resolve(scenario, tmp_path)
    places = (resolved.model.name, resolved.facts.source, resolved.editor.covariance.source)
    assert places == tuple(str(tmp_path / name) for name in ("model", "f.jsonl", "t.txt"))
    assert resolved.facts.augmentations == str(tmp_path / "more.json")


def test_texts_and_questions_beside_the_scenario_become_absolute(tmp_path):
    for name in ("prose.txt", "q.jsonl", "builtin", "piqa"):
        (tmp_path / name).write_text("")
    for text, general, expected in (
        ("prose.txt", "q.jsonl", (str(tmp_path / "prose.txt"), str(tmp_path / "q.jsonl"))),
        ("builtin", "piqa", ("builtin", "piqa")),
        (None, None, (None, None)),
    ):
        scenario = Scenario(name="a", evaluate=EvaluateSpec(perplexity_text=text, downstream=general))
        evaluate = resolve(scenario, tmp_path).evaluate
        assert (evaluate.perplexity_text, evaluate.downstream) == expected


def test_edits_in_all_are_dealt_to_the_rounds_once():
    """12 in 3 rounds are 4 in each; a resolved scenario says both, and stays as it is."""
    scenario = Scenario(name="a", parties=PartiesSpec(edits=12), stream=StreamSpec(rounds=3))
    resolved = resolve(scenario)
    assert (resolved.parties.edits, resolved.parties.edits_per_round) == (12, 4)
    assert resolve(resolved) == resolved
    assert resolve(Scenario.model_validate_json(resolved.model_dump_json())) == resolved


def test_names_that_are_no_files_stay(tmp_path):
    (tmp_path / "smollm2-135m").mkdir()
    resolved = resolve(Scenario(name="a", facts=FactsSpec(source="hub:x")), tmp_path)
    places = (resolved.model.name, resolved.facts.source, resolved.editor.covariance.source)
    assert places == ("smollm2-135m", "hub:x", "model")


def test_resolving_twice_changes_nothing(tmp_path):
    once = resolve(Scenario(name="a", model=AssociativeModelSpec(name="associative")), tmp_path)
    assert resolve(once, tmp_path) == once
