"""Attacks that cannot be are refused before anything starts."""

import json

import pytest
from consortium.common.errors import ScenarioError
from consortium.loading.check import check_scenario
from consortium.loading.load import load_scenario


@pytest.fixture
def check(tmp_path):
    def checked(*attacks, **sections):
        path = tmp_path / "s.yaml"
        path.write_text(json.dumps({"name": "a", "stream": {"rounds": 3}, "attacks": list(attacks)} | sections))
        check_scenario(load_scenario(str(path)))

    return checked


def test_what_can_run_is_accepted(check):
    check({"kind": "sign_flip", "share": 0.25}, {"kind": "scale", "parties": [0, 3], "rounds": [2, 3], "factor": 2.5})
    check({"kind": "non_psd", "parties": [1]}, merge={"methods": ["collabedit", "ties"]})
    check(screening={"max_norm": 20.0, "exclude_for": 2})
    check(screening={"exclude_for": "run"})


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ({"kind": "nan"}, "attacks.0 .*neither parties nor a share"),
        ({"kind": "nan", "parties": [1], "share": 0.5}, "both parties and a share"),
        ({"kind": "nan", "parties": [4]}, r"found 4(.|\n)*numbers from 0 to 3 \(parties.count\)"),
        ({"kind": "nan", "parties": [1, 1]}, "each party once"),
        ({"kind": "nan", "parties": [1], "rounds": [1, 4]}, r"attacks.0.rounds .*\[1, 4\](.|\n)*up to 3"),
        ({"kind": "nan", "parties": [1], "rounds": [3, 2]}, "the first round, then the last"),
        ({"kind": "sign_flip", "parties": [1], "factor": 2.0}, "attacks.0.factor.*unknown key"),
        ({"kind": "non_symmetric", "parties": [1]}, "merge method global"),
        ({"kind": "sign_flip", "parties": [0, 1, 2, 3]}, "all 4 parties attack"),
        ({"kind": "steal", "parties": [0]}, "one of nan, inf, shape"),
    ],
)
def test_what_cannot_is_refused(check, attack, message):
    with pytest.raises(ScenarioError, match=message):
        check(attack)


@pytest.mark.parametrize("screening", [{"exclude_for": 0}, {"exclude_for": "week"}, {"max_norm": 0.0}])
def test_an_exclusions_without_meaning_is_refused(check, screening):
    with pytest.raises(ScenarioError, match="screening"):
        check(screening=screening)
