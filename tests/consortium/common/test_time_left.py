"""Estimates of the time left, on a clock of the test's own: shown late rather than wrong."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace

import pytest
from consortium.common.progress import Meter, Progress

KINDS = ("targets", "collect", "evaluate")
EDITS = 12


def simulated(
    monkeypatch: pytest.MonkeyPatch, speeds: tuple[float, ...], *, rounds: int, arms: int, first: int, merge_s: float
) -> list[tuple[float, float]]:
    """(What was shown, what was left indeed) of a run whose kinds of work take so many seconds for each unit."""
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("consortium.common.progress.time", clock)
    shown: list[tuple[float, Progress]] = []
    chance, seconds = random.Random(1), dict(zip(KINDS, speeds, strict=True))
    num = EDITS * (rounds - first + 1)
    expected = {"targets": num, "collect": arms * num, "evaluate": (arms + 1) * num}
    meter = Meter(rounds, expected, lambda progress: shown.append((now[0], progress)))

    def work(kind: str) -> None:
        for _ in range(EDITS):
            now[0] += seconds[kind] * chance.uniform(0.7, 1.3)
            meter.advance(1, kind)

    now[0] += 30.0
    meter.enter("covariance", 0, 10, "chunks")
    for _ in range(10):
        now[0] += 10.0
        meter.advance(1)
    for number in range(first, rounds + 1):
        for arm in range(arms):
            meter.enter("targets", number, EDITS, "edits")
            if arm == 0:
                work("targets")
            work("collect")
            now[0] += merge_s
            meter.enter("evaluate", number, EDITS, "edits")
            work("evaluate")
        work("evaluate")
        now[0] += 3.0
    return [(each.left_s, now[0] - at_s) for at_s, each in shown if each.left_s is not None]


@pytest.mark.parametrize("merge_s", [0.0, 20.0, 200.0])
@pytest.mark.parametrize(
    ("rounds", "arms", "first"),
    [(1, 1, 1), (1, 4, 1), (3, 2, 1), pytest.param(10, 3, 1, marks=pytest.mark.slow), (10, 3, 7)],
)
def test_an_estimate_that_is_shown_is_never_more_than_a_factor_of_two_off(
    monkeypatch, rounds: int, arms: int, first: int, merge_s: float
) -> None:
    num_shown = 0
    for speeds in itertools.product([0.01, 1.0, 30.0], repeat=3):
        shown = simulated(monkeypatch, speeds, rounds=rounds, arms=arms, first=first, merge_s=merge_s)
        num_shown += len(shown)
        for said_s, left_s in shown:
            # the last commit, and what a line rounds away, are not estimated in the only round
            assert said_s <= 2 * left_s + 1, speeds
            assert left_s <= 2 * said_s + 6, speeds
    assert num_shown > 100 or rounds == 1


def test_long_runs_show_an_estimate_from_their_second_round_on(monkeypatch) -> None:
    shown = simulated(monkeypatch, (5.0, 0.1, 2.0), rounds=10, arms=2, first=1, merge_s=5.0)
    assert len(shown) > 0.7 * 9 * EDITS * 6


def test_slow_evaluation_behind_quick_targets_is_not_overlooked(monkeypatch) -> None:
    """After the targets, nine tenths of the work of old measures was done, and a thousandth of the time."""
    shown = simulated(monkeypatch, (0.01, 0.01, 30.0), rounds=1, arms=1, first=1, merge_s=0.0)
    assert shown
    assert min(left_s for _, left_s in shown) < 100.0
    assert all(left_s < 24 * 30 * 1.3 for _, left_s in shown), "nothing is shown before an evaluation was measured"


def test_work_found_done_is_expected_no_longer(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr("consortium.common.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    seen: list[Progress] = []
    meter = Meter(1, {"targets": 8}, seen.append)
    meter.enter("targets", 1, 8, "edits")
    meter.skip(4, "targets")
    for _ in range(3):
        now[0] += 10.0
        meter.advance(1)
    assert seen[-1].left_s == pytest.approx(10.0)
