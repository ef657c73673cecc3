"""Legal scenarios of virtual time that lasts next to nothing, or longer than the world: their report is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from consortium.cli.main import main
from support.tiers import one_quick

BASE = """\
name: extreme
model: {name: associative, key_width: 16, value_width: 4}
parties: {count: 1, edits_per_round: 1}
stream: {rounds: 2}
merge: {methods: [{name: collabedit}]}
"""


@pytest.mark.parametrize(
    "settings",
    one_quick(
        [
            ["devices.speed=1e-15"],
            ["devices.speed=1e15"],
            ["devices.speed={lognormal: {median: 1, sigma: 1e15}}", "devices.jitter=1e15"],
            ["devices.speed=1e-15", "devices.upload=1e-15", "devices.download=1e-15"],
            ["devices.speed=1", "schedule.deadline_s=1e-15", "schedule.late=carry"],
        ]
    ),
)
def test_a_run_of_any_virtual_length_has_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], settings: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("extreme.yaml").write_text(BASE)
    changes = [part for each in settings for part in ("--set", f"virtual_time.{each}")]
    assert main(["run", "extreme.yaml", "--serial", "--out", "out", "--format", "json", *changes]) == 0
    shown: dict[str, Any] = json.loads(capfd.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert shown["status"] == "done"
    assert Path("out/report.html").is_file()
    assert main(["report", "out", "--pictures", "pictures"]) == 0
