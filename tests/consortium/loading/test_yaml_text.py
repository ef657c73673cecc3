"""YAML text: scalars, lines, and what is refused."""

import math

import pytest
from consortium.common.errors import ScenarioError
from consortium.loading.yaml_text import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1e6", 1e6),
        ("1.5E+2", 150.0),
        (".5", 0.5),
        ("-3", -3),
        ("1_000", 1000),
        ("010", 10),
        ("on", "on"),
        ("no", "no"),
        ("true", True),
        ("2024-01-01", "2024-01-01"),
        ("12:30", "12:30"),
        ("~", None),
        ('"7"', "7"),
        ("a·b", "a·b"),
    ],
)
def test_scalars_follow_the_core_schema(text, value):
    parsed = parse(f"key: {text}", "f.yaml").data["key"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_infinity_is_a_number():
    assert math.isinf(parse("a: .inf", "f.yaml").data["a"])


def test_every_key_and_item_has_its_line():
    lines = parse("a: 1\nb:\n  - c: 2\n  - 3\n", "f.yaml").lines
    assert lines == {("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 0, "c"): 3, ("b", 1): 4}


def test_anchors_and_merge_keys_work():
    text = "base: &base {rounds: 2, repeat: 0}\nstream:\n  <<: *base\n  rounds: 3\n"
    assert parse(text, "f.yaml").data["stream"] == {"rounds": 3, "repeat": 0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"f\.yaml, line 3, column 1: the key 'a' is given twice, first in line 1"),
        ("a: {b: 1, b: 2}", r"line 1, column 11: the key 'b' is given twice"),
        ("a: [1", r"line 1, column 6: .*expected ',' or '\]'"),
        ("a: &x {b: *x}", "a value contains itself"),
        ("? [a]\n: 1", "a key must be a plain word"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: !!int x", "does not fit its !!tag"),
        ("a: 1\n---\nb: 2", r"line 2, column 1: expected a single document"),
        ("a\x01", r"character number 2 \(code 0x1\)"),
        ("[" * 3000, "nested more than 40 deep"),
        ("a:\n\t- b", r"line 2, column 1: .*cannot start any token"),
    ],
)
def test_what_is_no_plain_document_is_refused(text, message):
    with pytest.raises(ScenarioError, match=message):
        parse(text, "f.yaml")
