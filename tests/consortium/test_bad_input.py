"""What people type and files hold by mistake is refused in words that can be read, whatever characters it has."""

from __future__ import annotations

import json
import logging
import re

import pytest
import yaml
from consortium.cli import main as cli
from consortium.cli.main import main
from consortium.common.terminal import LONGEST_LINE, make_tolerant
from consortium.loading.load import load_scenario

SCENARIO = "name: tiny\nmodel: {name: associative, key_width: 8, value_width: 4}\nparties: {count: 2}\n"
ESCAPES = "a\x1b[31m\u202ex"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(SCENARIO)
    (tmp_path / "escapes.yaml").write_text(SCENARIO + '"a\\e[31m\\u202ex": 1\n')
    (tmp_path / "facts.json").write_text(json.dumps([{"subject": ESCAPES, "prompt": "{} is", "target_new": 5}]))


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", ESCAPES],
        ["validate", "escapes.yaml"],
        ["validate", "s.yaml", "--set", f"{ESCAPES}=1"],
        ["validate", "s.yaml", "--set", f"facts.source={ESCAPES}"],
        ["run", ESCAPES, "--serial"],
        ["run", "s.yaml", "--serial", "--out", f"s.yaml/{ESCAPES}"],
        ["resume", ESCAPES],
        ["report", ESCAPES],
        ["export", ESCAPES, "folder", "--arm", ESCAPES],
        ["new", f"nowhere/{ESCAPES}"],
        ["ls", ESCAPES],
        [ESCAPES],
    ],
    ids=lambda arguments: " ".join(arguments).encode("unicode_escape").decode("ascii"),
)
def test_a_terminal_obeys_nothing_of_what_a_message_quotes(arguments, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert "[31m" in err
    assert not CONTROLS.search(out + err)


def test_warnings_are_printable_too(capsys):
    make_tolerant()
    record = logging.LogRecord("name", logging.WARNING, "file", 1, "left out (%s)", (ESCAPES + "x" * 5000,), None)
    shown = logging.lastResort.format(record)
    assert shown.startswith("left out (a\\x1b[31m\\u202ex")
    assert len(shown) < LONGEST_LINE + 10


@pytest.mark.parametrize("key", ["model", "merge.methods.0.name", "evaluate.perplexity_text", "stream.phases", "x"])
def test_a_long_value_does_not_hide_what_is_allowed(key, capsys):
    assert main(["validate", "s.yaml", "--set", f"{key}={'y' * 20_000}"]) == 2
    err = capsys.readouterr().err
    assert "allowed: " in err
    assert max(map(len, err.splitlines())) < LONGEST_LINE + 10


@pytest.mark.parametrize("path", ["a." * 3000 + "a", f"merge.methods.{'9' * 5000}", f"{'9' * 5000}"])
def test_a_path_that_no_scenario_has(path, capsys):
    assert main(["validate", "s.yaml", "--set", f"{path}=1"]) == 2
    assert "What to do" in capsys.readouterr().err


def test_of_very_many_mistakes_the_first_are_shown(tmp_path, capsys):
    (tmp_path / "s.yaml").write_text(SCENARIO + "".join(f"unknown{number}: 1\n" for number in range(500)))
    assert main(["validate", "s.yaml"]) == 2
    err = capsys.readouterr().err
    assert "500 mistakes" in err
    assert err.count("unknown key") == 30
    assert "  and 470 more" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "s.yaml", "--set=--"],
        ["run", "s.yaml", "--serial", "--set=--"],
        ["run", "s.yaml", "--serial", "--format=--"],
        ["run", "s.yaml", "--serial", "--out=--"],
        ["run", "s.yaml", "--address=--"],
        ["report", "run", "--pictures=--"],
        ["export", "run", "folder", "--arm=--"],
        ["export", "run", "folder", "--arm", "a", "--round=--"],
    ],
    ids=" ".join,
)
def test_two_dashes_are_no_value(arguments, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    assert main(arguments) == 2
    assert "expected a value, found --" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", ""],
        ["run", "", "--serial"],
        ["run", "s.yaml", "--serial", "--out", ""],
        ["resume", ""],
        ["report", ""],
        ["report", "run", "--pictures", ""],
        ["export", "run", "", "--arm", "a"],
        ["new", " "],
        ["ls", ""],
    ],
    ids=" ".join,
)
def test_an_empty_name_is_not_the_present_folder(arguments, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    assert main(arguments) == 2
    assert "found an empty name" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_is_not_there_is_said_once(capsys):
    assert main(["ls", "nowhere"]) == 2
    assert capsys.readouterr().err.count("There is no folder") == 1
    assert main(["ls", "s.yaml"]) == 2


def test_an_unknown_users_home_is_no_name(capsys):
    for arguments in (["new", "~nosuchuser/x.yaml"], ["export", "run", "~nosuchuser/x", "--arm", "a"]):
        assert main(arguments) == 2
    assert "~nosuchuser/x.yaml' is not a path here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["a\nb: 1.yaml", f"{ESCAPES}.yaml", "東京.yaml", "\udcff.yaml", "x" * 200 + ".yaml", "-.yaml"]
)
def test_a_new_scenario_is_one_whatever_its_name(name, tmp_path, capsys):
    assert main(["new", "--", name]) == 0
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert set(yaml.safe_load(text)) == set(yaml.safe_load(cli_template()))
    load_scenario(str(tmp_path / name))


def cli_template() -> str:
    from consortium.loading.template import template

    return template("plain.yaml")


def test_what_is_printed_goes_through_say():
    """`print` would let control characters out of file names, keys and fields to the terminal."""
    text = (cli.Path(cli.__file__)).read_text(encoding="utf-8")
    assert [each for each in re.findall(r"\bprint\((.*)", text) if not each.startswith("json.dumps(")] == []


@pytest.mark.parametrize(
    "change",
    ["virtual_time.devices.availability=0", "overlap={skip_known: residual, threshold: 1000}"],
)
def test_a_run_without_any_edit_says_so(change, tmp_path, capsys):
    arguments = ["run", "s.yaml", "--serial", "--out", "run", "--set", "merge.methods=[collabedit]", "--set", change]
    assert main(arguments) == 0
    assert "No edit was merged in collabedit." in capsys.readouterr().out
    assert "No edit was merged in collabedit." in (tmp_path / "run/report.html").read_text(encoding="utf-8")


def test_a_run_with_edits_says_nothing_of_it(capsys):
    assert main(["run", "s.yaml", "--serial", "--out", "run"]) == 0
    assert "No edit was merged" not in capsys.readouterr().out
