"""One is one: messages count in the singular."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from consortium.cli.main import main
from consortium.common.counting import count

SCENARIO = """\
name: single
model: {name: associative, key_width: 8, value_width: 4}
parties: {count: 1, edits_per_round: 1}
stream: {rounds: 1}
merge: {methods: [{name: global}, {name: collabedit}]}
"""
MANY = re.compile(r"(?<![\d.,])1 (?!is\b|was\b|has\b|s\b|wants\b)[a-z]+s\b")


@pytest.mark.parametrize(
    ("number", "noun", "shown"),
    [(1, "party", "1 party"), (2, "party", "2 parties"), (1000, "edit", "1,000 edits"), (0, "day", "0 days")],
)
def test_a_number_has_its_noun(number: int, noun: str, shown: str) -> None:
    assert count(number, noun) == shown


def test_a_run_of_one_of_each_never_says_one_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("single.yaml").write_text(SCENARIO)
    assert main(["validate", "single.yaml"]) == 0
    assert main(["run", "single.yaml", "--serial", "--out", "out"]) == 0
    for wrong in (["--set", "parties.edits=5"], ["--set", "unlearn.parties=[{round: 1, parties: [0]}]"]):
        assert main(["validate", "single.yaml", *wrong]) == 2
    shown = "".join(capfd.readouterr())
    shown = re.sub(r"^round \d+/\d+ .*$", "", shown, flags=re.MULTILINE)  # a fraction: 0/1 edits
    page = unescape(re.sub(r"<(style|svg|pre).*?</\1>|<[^>]+>", " ", Path("out/report.html").read_text(), flags=re.S))
    assert not MANY.findall(shown)
    assert not MANY.findall(page.replace("rounds 1 ", "").replace("edits 1 ", "").replace("parties 1 ", ""))
