"""The report is drawn in one way, whatever a user has set up for pictures of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from consortium.records.directory import RunDirectory


def report_again(run: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "consortium.cli", "report", str(run)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=run.parent, env={**os.environ, **environment}
    )


def pictures(run: Path) -> list[str]:
    return re.findall(r"<svg .*?</svg>", (run / "report.html").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
def test_settings_of_matplotlib_change_no_picture(finished: RunDirectory, tmp_path: Path) -> None:
    run = shutil.copytree(finished.path, tmp_path / "run")
    before = pictures(run)
    assert len(before) > 3
    (tmp_path / "bad").write_bytes(b"\xff\x00: ?\n")
    (tmp_path / "matplotlibrc").write_text("font.size: 40\ntext.usetex: True\naxes.facecolor: red\n")
    done = report_again(run, MPLBACKEND="nonsense", MATPLOTLIBRC=str(tmp_path / "bad"))
    assert done.returncode == 0, done.stderr
    assert pictures(run) == before


@pytest.mark.slow
def test_settings_that_cannot_be_read_are_named(finished: RunDirectory, tmp_path: Path) -> None:
    run = shutil.copytree(finished.path, tmp_path / "run")
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\x00: ?\n")
    done = report_again(run)
    assert done.returncode == 2
    assert "matplotlib, which draws the report, cannot be set up" in done.stderr
    assert "Something went wrong" not in done.stderr
