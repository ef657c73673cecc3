"""The experiment on the key covariance, at pico size: every setting meets every draw, and the table is of means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.pico import KEY_WIDTH, SENTENCES, pico_folder

from benchmarks.experiments.key_covariance import ASKED, Outcome, main, table

SMALL = ("--set", "editor.layers=[0, 1]", "--set", "editor.target.steps=2", "--set", "editor.contexts.count=2")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSORTIUM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    model = pico_folder(tmp_path / "pico", "llama", num_layers=3)
    (tmp_path / "corpus.txt").write_text("\n".join(SENTENCES * 20), encoding="utf-8")
    plain = ["--model", str(model), "--edits", "4", "--threads", "1", "--seeds", "3,4", "--tokens", "2,5"]
    return [*plain, "--text", str(tmp_path / "corpus.txt"), "--out", str(tmp_path / "runs.jsonl"), *SMALL]


@pytest.mark.slow
def test_every_setting_meets_every_draw(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    runs = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text(encoding="utf-8").splitlines()]
    settings = [(text, tokens) for text in ("model", "corpus.txt") for tokens in (2 * KEY_WIDTH, 5 * KEY_WIDTH)]
    assert [(run["text"], run["tokens"], run["seed"]) for run in runs] == [
        (*setting, seed) for setting in settings for seed in (3, 4)
    ]
    for run in runs:
        assert run["edits"] == 4
        assert set(ASKED) <= run["edited"].keys()
        assert run["edited"].keys() == run["unedited"].keys()
        assert run["covariance_s"] > 0
    by_seed = {run["seed"]: run["unedited"] for run in runs}
    assert all(run["unedited"] == by_seed[run["seed"]] for run in runs), (
        "a seed is one draw, whatever the key covariance"
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["none: unedited", *(text for text, _ in settings)]
    assert str(tmp_path) not in (tmp_path / "runs.jsonl").read_text(encoding="utf-8")


def test_the_table_has_means_and_their_errors() -> None:
    """Efficacies 40, 50, 60: mean 50, standard deviation 10, standard error 10 / √3 = 5.8."""
    before = {"efficacy": 10.0, "paraphrase": 20.0, "neighborhood": 30.0, "score": 16.4}
    found = [
        Outcome("model", 96, seed, 24, {**before, "efficacy": efficacy}, before, 1.25, 9.0)
        for seed, efficacy in enumerate((40.0, 50.0, 60.0))
    ]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(found, KEY_WIDTH).splitlines()]
    assert rows[2][:4] == ["none: unedited", "", "", "10.0 ± 0.0"]
    assert rows[3][:5] == ["model", "96", "2", "50.0 ± 5.8", "20.0 ± 0.0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--edits", "6"], "--edits 6"),
        (["--text", "missing.txt", "--only-text"], "missing.txt"),
        (["--only-text"], "no text"),
        (["--tokens", "5,1"], "editor.covariance.tokens=48"),
    ],
)
def test_what_cannot_run_is_refused(
    tmp_path: Path, change: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = pico_folder(tmp_path / "pico", "llama", num_layers=3)
    assert main(["--model", str(model), "--threads", "1", "--edits", "4", *SMALL, *change]) == 2
    assert message in capsys.readouterr().err
