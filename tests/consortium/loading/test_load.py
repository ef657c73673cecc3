"""Loading: files, names, and every mistake that the types show, in the words of the file."""

import pytest
from consortium.common.errors import ScenarioError
from consortium.loading.builtin_scenarios import scenario_names
from consortium.loading.load import load_scenario
from consortium.scenario.methods import DareSpec, TaskArithmeticSpec, TiesSpec


@pytest.fixture
def rejection(tmp_path):
    """The message with which a file of this text is refused."""

    def refuse(text, *overrides):
        path = tmp_path / "s.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ScenarioError) as caught:
            load_scenario(str(path), overrides)
        return str(caught.value)

    return refuse


def test_a_file_is_loaded_with_its_place(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("name: mine\nstream: {rounds: 3}\n")
    loaded = load_scenario(str(path))
    assert (loaded.scenario.name, loaded.scenario.stream.rounds) == ("mine", 3)
    assert (loaded.origin, loaded.base_dir) == (str(path), tmp_path)


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: mine\n")
    assert load_scenario(str(path)).scenario.name == "mine"


def test_a_number_may_stand_for_workers_and_a_name_for_a_method(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("name: mine\ncluster: {workers: 3}\nmerge: {methods: [ties, {name: dare, drop: 0.5}]}\n")
    scenario = load_scenario(str(path)).scenario
    assert (scenario.cluster.workers.min, scenario.cluster.workers.max) == (3, 3)
    assert scenario.merge.methods == (TiesSpec(), DareSpec(drop=0.5))


def test_shipped_scenarios_are_found_by_name():
    assert load_scenario("quickstart").scenario.name == "quickstart"


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ScenarioError, match='quikstart": no such file') as caught:
        load_scenario("quikstart")
    assert all(name in str(caught.value) for name in scenario_names())
    assert "did you mean 'quickstart'?" in str(caught.value)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ScenarioError, match="a folder"):
        load_scenario(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["the file is empty", "a mapping with the keys name"]),
        ("# nothing but a comment\n", ["the file is empty"]),
        ("- a\n", ['found ["a"]', "a mapping"]),
        ("just text", ['found "just text"']),
        (b"name: \xff", ["not UTF-8 (byte number 7 is 0xff)"]),
        ("seed: 1", ["name: the key is missing"]),
        ("name: a\nsede: 1", ["sede (line 2): unknown key", "name, description, seed", "did you mean 'seed'?"]),
        ("name: a\nstream: {round: 1}", ["stream.round (line 2): unknown key", "did you mean 'rounds'?"]),
        ("name: a b", ['name (line 1): found "a b"', "letters, digits, . _ -"]),
        ("name: 3", ["found 3", 'needs quotes: "3"']),
        ("name: a\nseed: true", ["seed (line 2): found true", "a whole number of at least 0"]),
        ("name: a\nparties: {count: 4.0}", ["parties.count", "found 4.0", "without a decimal point: 4"]),
        ("name: a\nparties: {count: 0}", ["found 0", "a whole number from 1 to 10,000,000"]),
        ("name: a\nstream: {rounds: '4'}", ['found "4"', "write the number without quotes"]),
        ("name: a\nstream:\n", ["stream (line 2): found nothing (null)", "leave the key out"]),
        ("name: a\nstream: {overlap: 1.5}", ["found 1.5", "a number from 0 to 1"]),
        ("name: a\nstream: {overlap: .inf}", ["found Infinity", "a number from 0 to 1"]),
        ("name: a\neditor: {covariance_weight: 0}", ["found 0", "a number above 0"]),
        ("name: a\neditor: {method: alphaedit, share: 1.5}", ["found 1.5", "a number above 0 and at most 1"]),
        ("name: a\neditor: {layers: []}", ["editor.layers", "found []", "a list of at least 1 item"]),
        ("name: a\neditor: {layers: [-1, 3]}", ["editor.layers.0", "found -1"]),
        (
            "name: a\neditor: {residual_schedule: first_lats}",
            ["one of spread, first_last", "did you mean 'first_last'?"],
        ),
        ("name: a\nmerge: {methods: ties}", ['found "ties"', "put it in a list: [ties]"]),
        ("name: a\nmerge: {methods: [{label: x}]}", ["merge.methods.0.name", "the key is missing"]),
        (
            "name: a\nmerge: {methods: [ties, {name: dare, density: 0.5}]}",
            ["merge.methods.1.density (line 2): unknown key", "the keys name, label, exchange", "drop, alpha"],
        ),
        ("name: a\nmerge: {methods: [{name: ties, densty: 1}]}", ["methods.0.densty", "did you mean 'density'?"]),
        ("name: a\nmerge: {methods: [tie]}", ["methods.0.name", 'found "tie"', "one of global", "mean 'ties'?"]),
        ("name: a\nmerge: {methods: [{name: [ties]}]}", ["methods.0.name", 'found ["ties"]', "one of global"]),
        ("name: a\nmerge: {methods: [3]}", ["methods.0 (line 2): found 3", "such a name alone"]),
        ("name: a\neditor: {method: memitt}", ["editor.method", 'found "memitt"', "one of memit", "mean 'memit'?"]),
        ("name: a\neditor: {alpha: 1}", ["editor.alpha", "unknown key", "the keys method, layers"]),
        ("name: a\neditor: rome", ['editor (line 2): found "rome"', "a mapping with method: one of memit"]),
        ("name: a\nmerge: {methods: [{name: ties, label: a/b}]}", ["merge.methods.0.label", 'found "a/b"']),
        ("name: a\nmodel: gpt2", ['model (line 2): found "gpt2"', "model: {name: gpt2}"]),
        ("name: a\nmodel: {name: associative, dtype: float16}", ["model.dtype", 'found "float16"', "float32"]),
        ("name: a\nmodel: {name: associative, width: 3}", ["model.width", "unknown key", "key_width"]),
        ("name: a\nmodel: {device: gpu}", ["model.device", "auto, cpu, cuda or cuda:N"]),
        ("name: a\nstream: {phases: [{rounds: [1]}]}", ["stream.phases.0.rounds", "found [1]", "a list of 2 items"]),
        ("name: a\nstream: {phases: [{rounds: [1, 2, 3]}]}", ["stream.phases.0.rounds", "found [1, 2, 3]"]),
        ("name: a\nstream: {conflict: {party: 2}}", ["stream.conflict.party", "found 2", "a number from 0 to 1"]),
        ("name: a\nstream: {conflict: {partys: 0}}", ["stream.conflict.partys", "unknown key", "party, round"]),
        (
            "name: a\nmerge: {history_weight: x}",
            ["merge.history_weight (line 2)", "a number of at least 0 or covariance"],
        ),
        ("name: a\nmerge: {methods: [{name: ties, history_weight: -1}]}", ["methods.0.history_weight", "found -1"]),
        ("name: a\nstream: {conflict: x}", ["stream.conflict (line 2)", "or a mapping with the keys party, round"]),
        ("name: a\ncluster: {workers: 0}", ["cluster.workers.min", "found 0", "a whole number from 1 to 100,000"]),
        (
            "name: a\nfaults: [{round: 1, during: merging}]",
            ["faults.0.during", "one of covariance, announce, targets, collect, unlearn, merge, evaluate, commit"],
        ),
        (
            "name: a\nfaults: [{round: 1, action: kil}]",
            ["faults.0.action", 'found "kil"', "one of kill", "mean 'kill'?"],
        ),
        ("name: a\nfaults: [{action: delay}]", ["faults.0.seconds", "the key is missing", "a number above 0"]),
        ("name: a\nfaults: [{action: kill, seconds: 3}]", ["faults.0.seconds", "unknown key", "max, what"]),
        ("name: a\nattacks: [{share: 0.1}]", ["attacks.0.kind", "the key is missing", "one of nan, inf"]),
        ("name: a\nattacks: [{kind: sign_flop}]", ["attacks.0.kind", 'found "sign_flop"', "mean 'sign_flip'?"]),
        ("name: a\nevaluate: {metrics: [eficacy]}", ["evaluate.metrics.0", "did you mean 'efficacy'?"]),
    ],
)
def test_mistakes_name_key_place_value_and_what_is_allowed(rejection, text, parts):
    message = rejection(text)
    assert "s.yaml" in message
    for part in parts:
        assert part in message


def test_all_mistakes_are_reported_at_once(rejection):
    message = rejection("name: a\nseed: -1\nstream: {rounds: 0, foo: 1}\nparties: 3\n")
    assert "4 mistakes" in message
    for key in ("seed", "stream.rounds", "stream.foo", "parties"):
        assert f"  {key} (line" in message


@pytest.mark.parametrize(
    "text",
    [
        "name: a\nmodel: {name: associative, x: 1}\nstream: {conflict: {party: 2}}",
        "name: a\nstream: {phases: [{rounds: [1, 1], conflict: 3}]}",
        "name: a\ncluster: {workers: many}\nmerge: {methods: [3]}",
    ],
)
def test_no_words_of_the_library_leak_into_messages(rejection, text):
    message = rejection(text)
    for word in ("Spec", "constrained", "function-", "tagged-union", "pydantic", "Input should", "<"):
        assert word not in message


def test_overrides_change_what_the_file_says(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("name: a\nmerge:\n  methods: [global, task_arithmetic]\n")
    overrides = ["merge.methods.1.alpha=0.5", "stream.rounds=2", "stream.rounds=3", "cluster.workers=2"]
    scenario = load_scenario(str(path), overrides).scenario
    assert scenario.merge.methods[1] == TaskArithmeticSpec(alpha=0.5)
    assert (scenario.stream.rounds, scenario.cluster.workers.max) == (3, 2)


def test_a_mistake_on_the_command_line_is_placed_there(rejection):
    assert "stream.foo (--set stream.foo=1): unknown key" in rejection("name: a", "stream.foo=1")
    assert "stream.rounds (--set stream.rounds=0): found 0" in rejection(
        "name: a\nstream: {rounds: 1}", "stream.rounds=0"
    )
