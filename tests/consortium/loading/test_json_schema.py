"""The JSON Schema agrees with what loading accepts."""

import json

import jsonschema
import pytest
from consortium.loading.allowed import json_schema
from consortium.loading.builtin_scenarios import scenario_names, scenario_path
from consortium.loading.yaml_text import parse
from consortium.scenario.methods import METHODS


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", scenario_names())
def test_shipped_scenarios_are_valid(validator, name):
    data = parse(scenario_path(name).read_text(encoding="utf-8"), name).data
    assert list(validator.iter_errors(data)) == []


@pytest.mark.parametrize(
    "data",
    [
        {"name": "a", "merge": {"methods": ["nope"]}},
        {"name": "a", "merge": {"methods": [{"name": "ties", "nope": 1}]}},
        {"name": "a", "merge": {"methods": [{"name": "dare", "drop": 1}]}},
        {"name": "a", "merge": {"methods": [{"name": "ties", "history_weight": "nope"}]}},
        {"name": "a", "editor": {"method": "nope"}},
        {"name": "a", "editor": {"method": "emmet", "share": 0.5}},
        {"name": "a", "merge": {"methods": [{"label": "x"}]}},
        {"name": "a", "nope": 1},
        {},
    ],
)
def test_wrong_names_are_invalid(validator, data):
    assert list(validator.iter_errors(data))


def test_short_forms_and_parameters_are_valid(validator):
    data = {
        "name": "a",
        "cluster": {"workers": 2},
        "stream": {"conflict": {"party": 0.1}},
        "editor": {"layers": [3, 4]},
        "merge": {
            "methods": [
                *METHODS,
                {"name": "task_arithmetic", "alpha": 0.5, "label": "half", "history_weight": "covariance"},
            ]
        },
    }
    assert list(validator.iter_errors(data)) == []


def test_every_method_is_named():
    text = json.dumps(json_schema())
    assert all(f'"const": "{name}"' in text for name in METHODS)
