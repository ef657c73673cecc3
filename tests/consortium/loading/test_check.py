"""What the types alone cannot see; nothing here opens a model."""

import json
from dataclasses import dataclass

import pytest
from consortium.common.errors import ScenarioError
from consortium.data.builtin import builtin_edits
from consortium.data.edit import Edit
from consortium.data.synthetic import SyntheticFacts
from consortium.data.table import FactTable
from consortium.loading import check as check_module
from consortium.loading import prepare as prepare_module
from consortium.loading.check import check_fit, check_scenario
from consortium.loading.load import load_scenario
from consortium.models.description import ModelDescription
from consortium.scenario.schema import AssociativeModelSpec

MODEL = ModelDescription("llama", num_layers=12, key_width=32, value_width=8, hidden_width=8)


@dataclass(frozen=True)
class Checked:
    """Checks a scenario given as key paths and values."""

    folder: object

    def __call__(self, known=None, sizes=None, **sections):
        path = self.folder / "s.yaml"
        path.write_text(json.dumps({"name": "a"} | sections))
        loaded = load_scenario(str(path))
        scenario = check_scenario(loaded)
        if known is not None or sizes is not None:
            facts = FactTable(builtin_edits()) if known is None else known
            check_fit(scenario, facts, sizes or MODEL, loaded.places)


@pytest.fixture
def check(tmp_path):
    return Checked(tmp_path)


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"stream": {"overlap": 0.3, "conflict": 0.3, "repeat": 0.4, "rounds": 2}},
        {"stream": {"rounds": 4, "phases": [{"rounds": [1, 2]}, {"rounds": [3, 3]}]}},
        {"parties": {"count": 1}, "stream": {"rounds": 2, "conflict": {"round": 0.5}, "repeat": 0.5}},
        {"editor": {"layers": [3]}},
        {"editor": {"layers": [4, 4]}},
        {"editor": {"layers": [1, 3, 8]}},
        {"merge": {"methods": ["ties", {"name": "ties", "label": "ties-2"}]}},
        {"model": {"name": "associative"}},
        {"model": {"name": "associative"}, "facts": {"source": "synthetic"}},
        {"stream": {"rounds": 5}, "evaluate": {"every": 3}, "faults": [{"round": 5, "during": "evaluate"}]},
        {"model": {"device": "cuda"}, "cluster": {"workers": {"gpus": 0.5}}},
        {"conflicts": {"policy": "priority", "priorities": [3, 0], "num_paraphrases": 2}},
        {"overlap": {"duplicates": "count_once"}, "faults": [{"round": 1, "during": "announce"}]},
        {
            "faults": [
                {"round": 0, "during": "covariance"},
                {"action": "kill", "what": "node"},
                {"action": "delay", "seconds": 2.0, "rate": 0.1, "max": 4},
            ]
        },
        {"faults": [{"round": 1, "during": "commit", "action": "disk_full"}, {"round": 1, "during": "merge"}]},
        {
            "faults": [
                {"during": "commit", "action": "kill", "what": "coordinator"},
                {"during": "collect", "action": "corrupt_answer"},
            ]
        },
        {
            "faults": [
                {"action": "partition", "seconds": 20.0},
                {"during": "collect", "action": "partition", "seconds": 0.5, "rate": 0.1, "max": 4},
            ]
        },
    ],
)
def test_what_can_run_is_accepted(check, sections):
    check(**sections)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"stream": {"overlap": 0.6, "conflict": 0.6}}, r"  stream .*: overlap 0.6 \+ conflict 0.6 \+ repeat 0 = 1.2"),
        (
            {"stream": {"rounds": 2, "overlap": 0.4, "conflict": {"party": 0.2, "round": 0.2}, "repeat": 0.4}},
            r"overlap 0.4 \+ conflict 0.4 \+ repeat 0.4 = 1.2\n.*add up to at most 1",
        ),
        (
            {"stream": {"rounds": 2, "overlap": 0.6, "phases": [{"rounds": [2, 2], "conflict": 0.5}]}},
            r"  stream.phases.0 .*overlap 0.6 \+ conflict 0.5.*\n.*those that the phase leaves out taken from stream",
        ),
        (
            {"stream": {"rounds": 3, "phases": [{"rounds": [2, 1]}]}},
            r"stream.phases.0.rounds.*\[2, 1\]\n.*\n.*\[1, 2\]",
        ),
        ({"stream": {"rounds": 3, "phases": [{"rounds": [2, 4]}]}}, r"found \[2, 4\]\n.*rounds from 1 to 3"),
        (
            {"stream": {"rounds": 3, "phases": [{"rounds": [1, 2]}, {"rounds": [2, 3]}]}},
            r"stream.phases.1.rounds.*round 2 is in phase 0 too",
        ),
        ({"parties": {"count": 1}, "stream": {"overlap": 0.1}}, r"stream.overlap.*one party: there is nobody to share"),
        ({"parties": {"count": 1}, "stream": {"conflict": 0.1}}, r"stream.conflict.*one party: .*nobody to contradict"),
        ({"stream": {"repeat": 0.1}}, r"stream.repeat.*found 0.1 in a single round\n.*stream.rounds of at least 2"),
        ({"stream": {"conflict": {"round": 0.1}}}, r"stream.conflict.round.*in a single round"),
        (
            {
                "editor": {"method": "ft", "layers": [9]},
                "merge": {"methods": [{"name": "ties", "skip_known": "residual"}]},
            },
            r"merge.methods.0.detect .*'residual' with the editor ft, which has no residuals",
        ),
        ({"conflicts": {"on_detect": "skip"}}, r"conflicts.on_detect .*'skip' with conflicts.detect: none"),
        (
            {"conflicts": {"detect": "model_answer"}, "merge": {"reference": "initial", "exchange": "round"}},
            r"conflicts.detect .*arm 'global' has reference: initial",
        ),
        (
            {
                "conflicts": {"detect": "model_answer"},
                "editor": {"method": "ft", "layers": [9]},
                "merge": {"methods": ["ties"]},
            },
            r"conflicts.detect .*editor ft, which has no residuals",
        ),
        (
            {"conflicts": {"scope": "run"}},
            r"conflicts.scope .*'run' with conflicts.policy: none(.|\n)*latest, priority",
        ),
        ({"editor": {"layers": [9, 5]}}, r"editor.layers.*found \[9, 5\]\n.*first critical layer, then the last"),
        ({"editor": {"layers": [5, 9, 7]}}, r"found \[5, 9, 7\]\n.*ascending order\n.*write \[5, 7, 9\]"),
        ({"editor": {"layers": [5, 7, 7]}}, r"each layer once.*\n.*write \[5, 7\]"),
        (
            {"merge": {"methods": [{"name": "ties", "label": "a"}, {"name": "ties", "label": "A"}]}},
            r"arm 'A' is there 2 times\n.*capitals aside",
        ),
        ({"merge": {"methods": ["ties", "ties"]}}, r"arm 'ties' is there 2 times\n.*\n.*label"),
        ({"merge": {"methods": [{"name": "ties", "label": "unedited"}]}}, r"arm 'unedited'\n.*unedited model's row"),
        ({"evaluate": {"metrics": ["efficacy", "efficacy"]}}, r"evaluate.metrics.*\n.*each metric once"),
        (
            {"evaluate": {"metrics": ["fluency"], "decoding": ["greedy", "greedy"]}},
            r"evaluate.decoding.*\n.*each decoding once",
        ),
        (
            {"evaluate": {"decoding": ["greedy"]}},
            r"evaluate.decoding.*no metric that is decoded\n.*one of edit_success",
        ),
        (
            {"model": {"name": "associative"}, "evaluate": {"metrics": ["fluency"]}},
            "evaluate.metrics.*'fluency' with the associative model",
        ),
        ({"cluster": {"workers": {"min": 3, "max": 2}}}, r"cluster.workers.*min 3 is above max 2"),
        ({"model": {"device": "cuda"}}, r"model.device.*device 'cuda' with cluster.workers.gpus: 0"),
        (
            {"cluster": {"workers": [{"max": 2}, {"max": 3}]}},
            r"cluster.workers.*min is 0 for every kind of workers\n.*a min above 0",
        ),
        ({"cluster": {"workers": [{"min": 1}, {"min": 3, "max": 2}]}}, r"cluster.workers.1.*min 3 is above max 2"),
        (
            {"cluster": {"workers": [{"min": 1, "device": "cuda"}]}},
            r"cluster.workers.0.device.*device 'cuda' with cluster.workers.0.gpus: 0\n.*\n.*set "
            r"cluster.workers.0.gpus: 1",
        ),
        ({"cluster": {"workers": {"gpus": 1.5}}}, r"cluster.workers.gpus.*found 1.5\n.*a whole number, or a share"),
        (
            {"cluster": {"prices": [{"of": "cpu", "per_hour": 1.0}, {"of": "cpu", "per_hour": 2.0}]}},
            r'cluster.prices.*\["cpu", "cpu"\]\n.*one price for each',
        ),
        ({"faults": [{"round": 2, "during": "collect"}]}, r"faults.0.round.*found 2\n.*a round from 1 to 1"),
        (
            {"stream": {"rounds": 5}, "evaluate": {"every": 3}, "faults": [{"round": 4, "during": "evaluate"}]},
            r"faults.0.round.*found 4\n.*a multiple of evaluate.every \(3\)",
        ),
        (
            {"faults": [{"round": 1, "during": "announce"}]},
            r"faults.0.during.*'announce', where nothing is resolved\n.*overlap.duplicates: count_once or a policy",
        ),
        (
            {"faults": [{"round": 1, "during": "covariance"}]},
            r"faults.0.round.*found 1\n.*0: the key covariance comes before",
        ),
        (
            {"faults": [{"round": 0, "during": "collect"}]},
            r"faults.0.round.*found 0\n.*a round from 1, or during: key covariance",
        ),
        ({"faults": [{"during": "unlearn"}]}, r"faults.0.during.*'unlearn', where no edits are removed"),
        (
            {"faults": [{"action": "disk_full", "during": "collect"}]},
            r"faults.0.during.*'collect' with action: disk_full\n.*one of commit: ",
        ),
        (
            {"faults": [{"action": "partition", "seconds": 20.0, "during": "commit"}]},
            r"faults.0.during.*'commit' with action: partition\n.*one of covariance, announce",
        ),
        (
            {"faults": [{"action": "delay", "seconds": 1.5, "during": "merge"}]},
            r"faults.0.during.*'merge' with action: delay\n.*one of covariance, announce",
        ),
        (
            {"conflicts": {"priorities": [1]}},
            r"conflicts.priorities.*\[1\] with conflicts.policy: none\n.*policy: priority",
        ),
        (
            {"conflicts": {"policy": "priority", "priorities": [4]}},
            r"conflicts.priorities.*no party 4\n.*from 0 to 3 \(parties.count\)",
        ),
        ({"conflicts": {"policy": "priority", "priorities": [1, 1]}}, r"conflicts.priorities.*\n.*each party once"),
        (
            {"overlap": {"duplicates": "count_once"}, "editor": {"method": "rome"}, "merge": {"methods": ["ties"]}},
            r"editor.method.*resolved with the editor rome.*\n.*memit, alphaedit, emmet",
        ),
        (
            {"conflicts": {"num_paraphrases": 2}},
            r"conflicts.num_paraphrases.*found 2 with conflicts.policy: none.*\n.*latest, priority",
        ),
        ({"facts": {"augmentations": "no.json"}}, r"facts.augmentations.*no file 'no.json'"),
        (
            {"model": {"name": "associative"}, "facts": {"augmentations": "no.json"}},
            r"facts.augmentations.*'no.json' with the associative model\n.*bring their own",
        ),
        ({"facts": {"source": "synthetic"}}, r"facts.source.*'synthetic' with a language model"),
        ({"facts": {"source": "no/such.jsonl"}}, r"facts.source.*no file 'no/such.jsonl'"),
        (
            {"editor": {"covariance": {"source": "no.txt"}}},
            r"editor.covariance.source.*no file 'no.txt'.*\n.*model, the path",
        ),
        (
            {"model": {"name": "associative"}, "facts": {"source": "builtin"}},
            r"facts.source.*'builtin' with the associative model",
        ),
        (
            {"model": {"name": "associative"}, "editor": {"covariance": {"source": "hub:x"}}},
            r"editor.covariance.source.*'hub:x' with the associative model",
        ),
    ],
)
def test_what_cannot_run_is_refused(check, sections, message):
    with pytest.raises(ScenarioError, match=message):
        check(**sections)


def test_all_mistakes_are_reported_at_once(check):
    with pytest.raises(ScenarioError, match="3 mistakes"):
        check(editor={"layers": [9, 5]}, facts={"source": "synthetic"}, cluster={"workers": {"min": 2, "max": 1}})


def test_alphaedit_needs_a_free_direction(check):
    with pytest.raises(
        ScenarioError, match=r"editor.share.*found 0.03, by which none of 32 directions is free\n.*0.031"
    ):
        check(None, MODEL, editor={"method": "alphaedit", "share": 0.03})
    check(None, MODEL, editor={"method": "alphaedit", "share": 0.04})


def test_layers_must_be_layers_of_the_model(check):
    with pytest.raises(ScenarioError, match=r"layer 11 is the model's last\n.*layers from 0 to 10"):
        check(None, MODEL, editor={"layers": [5, 11]})
    with pytest.raises(ScenarioError, match=r"layer 12 is out of range\n.*layers from 0 to 11: .* has 12"):
        check(sizes=MODEL, editor={"layers": [5, 12]})


def test_a_covariance_needs_twice_as_many_tokens_as_a_key_is_wide(check):
    """Keys of width 32 need 64 tokens."""
    check(sizes=MODEL, editor={"covariance": {"tokens": 64}})
    with pytest.raises(ScenarioError, match=r"editor.covariance.tokens.*found 63\n.*at least 64"):
        check(sizes=MODEL, editor={"covariance": {"tokens": 63}})


def test_more_edits_than_facts_are_refused_with_the_numbers_to_lower(check):
    """3 parties × 2 edits × 4 rounds = 24 facts."""
    facts = SyntheticFacts(AssociativeModelSpec(name="associative"), 23, 0)
    message = r"24 facts are asked for \(parties.count 3 × parties.edits_per_round 2 × stream.rounds 4"
    with pytest.raises(ScenarioError, match=message + r"[^\n]*\n.*at most 23"):
        check(facts, parties={"count": 3, "edits_per_round": 2}, stream={"rounds": 4})
    check(facts, parties={"count": 3, "edits_per_round": 2}, stream={"rounds": 3})


def test_asking_again_needs_other_words(check):
    facts = FactTable((Edit("1", "r", "France", "{} is", "x"),) * 16)
    wish = {"conflicts": {"policy": "latest", "num_paraphrases": 2}}
    with pytest.raises(
        ScenarioError, match=r"conflicts.num_paraphrases.*no fact of builtin has.*\n.*\n.*facts.augmentations"
    ):
        check(facts, **wish)
    check(FactTable(builtin_edits()), **wish)


def test_a_file_of_facts_is_looked_for_beside_the_scenario(check, tmp_path):
    (tmp_path / "facts.jsonl").write_text("")
    check(editor={"covariance": {"source": "facts.jsonl"}})


def test_metrics_for_which_no_fact_has_questions_are_refused(check):
    """The built-in facts have neighbours, which serve for locality, and nothing to carry an edit over to."""
    facts = FactTable(builtin_edits())
    check(
        facts, evaluate={"metrics": ["edit_success", "locality", "fluency"], "decoding": ["teacher_forcing", "greedy"]}
    )
    with pytest.raises(
        ScenarioError, match=r"evaluate.metrics .*: portability: no fact of builtin has questions for it"
    ):
        check(facts, evaluate={"metrics": ["portability"]})


def test_each_rule_is_asked_once(tmp_path, monkeypatch):
    """Keys before facts are read, then what facts and model say; nothing of it twice."""
    asked = []

    def counted(name, rule):
        return lambda *arguments: (asked.append(name), rule(*arguments))[1]

    def watch(module, name):
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))

    for name in ("resolve", "size_errors", "_fit_of_model", "_fit_of_facts", "errors_of_probes"):
        watch(check_module, name)
    watch(prepare_module, "open_facts")
    monkeypatch.setattr(check_module, "_RULES", tuple(counted("rule", each) for each in check_module._RULES))
    path = tmp_path / "s.yaml"
    path.write_text("name: a\nmodel: {name: associative}\n")
    prepare_module.prepare(str(path))
    rules = ["rule"] * len(check_module._RULES)
    after = ["open_facts", "_fit_of_model", "_fit_of_facts", "errors_of_probes"]
    assert asked == ["resolve", "size_errors", *rules, *after]
