"""Features: only those that a scenario asks for are imported, and what each is asked to do is called."""

import json
import subprocess
import sys

import pytest
import yaml
from consortium.features import registry
from consortium.features.hooks import PartyHook, RoundHook
from support.scenarios import associative_scenario, unlearning_scenario

#: Asked for by every scenario: whose messages count, and what the audit says of them.
ALWAYS = {"audit", "screening"}
ASKED = {
    "nothing": ({}, set()),
    "attacks": ({"attacks": [{"kind": "nan", "parties": [1]}]}, {"attacks"}),
    "a policy": ({"conflicts": {"policy": "latest"}}, {"conflicts"}),
    "weights": ({"overlap": {"duplicates": "count_once"}}, {"conflicts"}),
    "copies": ({"conflicts": {"num_paraphrases": 1}}, {"conflicts"}),
    "answers": ({"conflicts": {"detect": "model_answer"}}, {"conflicts"}),
    "residuals": ({"overlap": {"skip_known": "residual"}}, {"known_facts"}),
    "one arm's residuals": (
        {"merge": {"methods": ["global", {"name": "collabedit", "skip_known": "residual"}]}},
        {"known_facts"},
    ),
    "a schedule": ({"virtual_time": {"schedule": {"select": 0.5}}}, {"virtual_time"}),
    "devices": ({"virtual_time": {"devices": {"speed": 1.0}}}, {"virtual_time"}),
}


@pytest.mark.parametrize("case", ASKED)
def test_a_scenario_has_the_features_that_it_asks_for(case):
    changes, expected = ASKED[case]
    scenario = associative_scenario(**changes)
    assert {name for name, asks in registry.FEATURES.items() if asks(scenario)} == ALWAYS | expected


def test_a_party_that_leaves_asks_for_unlearning():
    scenario = unlearning_scenario()
    assert {name for name, asks in registry.FEATURES.items() if asks(scenario)} == ALWAYS | {"unlearning"}


@pytest.mark.slow
def test_a_run_imports_no_module_of_a_feature_that_it_does_not_ask_for(tmp_path):
    """The command line included, from the file to the last commit."""
    data = associative_scenario(
        stream={"rounds": 2},
        merge={"methods": ["global", "collabedit"]},
        evaluate={"metrics": ["efficacy", "retention"]},
    ).model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    command = ["run", str(tmp_path / "plain.yaml"), "--serial", "--out", str(tmp_path / "run")]
    script = (
        "import json, sys\n"
        "from consortium.cli.main import main\n"
        f"code = main({command!r})\n"
        "names = sorted(name for name in sys.modules if name.startswith('consortium.features.'))\n"
        "print('\\n' + json.dumps([code or 0, names]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    code, names = json.loads(done.stdout.splitlines()[-1])
    assert code == 0
    assert {name.split(".")[2] for name in names} - {"hooks", "registry"} == ALWAYS


def test_hooks_come_in_the_order_in_which_they_act():
    """What attackers made of messages is screened."""
    names = list(registry.FEATURES)
    assert names.index("attacks") < names.index("screening")


def test_every_feature_has_a_hook_of_its_name():
    for name in registry.FEATURES:
        module = registry._module(name, "hook")
        kinds = [getattr(module, place) for place in ("AT_PARTIES", "AT_COORDINATOR") if hasattr(module, place)]
        assert kinds, name
        assert {kind.name for kind in kinds} == {name}
        assert all(issubclass(kind, PartyHook | RoundHook) for kind in kinds)
