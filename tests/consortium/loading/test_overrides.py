"""Overrides: paths into mappings and lists, and paths that lead nowhere."""

import pytest
from consortium.common.errors import ScenarioError
from consortium.loading.overrides import apply_overrides, parse_override


def changed(data, *texts):
    return apply_overrides(data, [parse_override(text) for text in texts])


@pytest.mark.parametrize(
    ("data", "text", "expected"),
    [
        ({}, "seed=3", {"seed": 3}),
        ({}, "stream.rounds=3", {"stream": {"rounds": 3}}),
        ({"stream": None}, "stream.rounds=3", {"stream": {"rounds": 3}}),
        ({"a": [1, 2]}, "a.1=5", {"a": [1, 5]}),
        ({"a": [1, 2]}, "a.2=5", {"a": [1, 2, 5]}),
        ({}, "editor.layers.0=3", {"editor": {"layers": [3, 9]}}),
        ({}, "editor.layers=[3, 4]", {"editor": {"layers": [3, 4]}}),
        ({}, "stream.phases.0.rounds=[1, 2]", {"stream": {"phases": [{"rounds": [1, 2]}]}}),
        ({"cluster": {"workers": 2}}, "cluster.workers.max=4", {"cluster": {"workers": {"min": 2, "max": 4}}}),
        ({}, "model.device=cuda:1", {"model": {"device": "cuda:1"}}),
        ({}, "description=a=b", {"description": "a=b"}),
        ({}, "editor.covariance_weight=1e3", {"editor": {"covariance_weight": 1000.0}}),
        ({}, "facts.limit=", {"facts": {"limit": None}}),
    ],
)
def test_a_value_is_written_at_its_path(data, text, expected):
    assert changed(data, text) == expected


def test_the_given_data_is_left_alone():
    data = {"a": [1]}
    changed(data, "a.0=2")
    assert data == {"a": [1]}


def test_a_method_given_by_name_takes_parameters():
    data = {"merge": {"methods": ["global", "ties"]}}
    assert changed(data, "merge.methods.1.density=0.2")["merge"]["methods"] == [
        "global",
        {"name": "ties", "density": 0.2},
    ]


def test_the_last_of_a_key_wins():
    assert changed({}, "seed=1", "seed=2") == {"seed": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "not of the form key.path=value"),
        ("=3", "not of the form key.path=value"),
        ("a..b=3", "not of the form key.path=value"),
        ("a=[1", r"--set a=\[1, line 1, column"),
        ("seed.x=3", r"--set seed\.x=3: cannot set 'x' in seed\n.*but seed is 7"),
        ("list.5=3", r"cannot set 5 in list\n.*a number from 0 to 2, since list is a list of 2 items"),
        ("list.x=3", r"cannot set 'x' in list\n.*a number from 0 to 2"),
    ],
)
def test_paths_that_lead_nowhere_are_refused(text, message):
    with pytest.raises(ScenarioError, match=message):
        changed({"seed": 7, "list": [1, 2]}, text)
