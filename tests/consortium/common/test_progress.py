"""The meter counts what is done, and its estimate of the whole rises from 0 to 1."""

from __future__ import annotations

import pytest
from consortium.common.progress import Meter, Progress


def test_a_phase_is_counted_from_nothing_to_its_total() -> None:
    seen: list[Progress] = []
    meter = Meter(3, {"targets": 20}, seen.append)
    meter.enter("targets", 2, 10, "edits")
    meter.advance(4)
    meter.advance(6)
    assert [(each.phase, each.round, each.num_rounds, each.done, each.total, each.unit) for each in seen] == [
        ("targets", 2, 3, 0, 10, "edits"),
        ("targets", 2, 3, 4, 10, "edits"),
        ("targets", 2, 3, 10, 10, "edits"),
    ]
    assert [each.share_done for each in seen] == pytest.approx([0.0, 0.2, 0.5])
    meter.enter("evaluate", 2, 5, "party_batches")
    assert (seen[-1].done, seen[-1].total, seen[-1].unit) == (0, 5, "party_batches")
    assert seen[-1].share_done == pytest.approx(0.5)


def test_the_estimate_reaches_one_when_all_expected_work_is_done() -> None:
    """By hand, with the costs 1, 0.03 and 0.15 of a unit: 10 + 0.6 + 0.9 = 11.5."""
    seen: list[Progress] = []
    meter = Meter(1, {"targets": 10, "collect": 20, "evaluate": 6}, seen.append)
    shares = []
    for phase, units in (("targets", 10), ("collect", 20), ("evaluate", 6)):
        meter.enter(phase, 1, units, "units")
        meter.advance(units)
        shares.append(seen[-1].share_done)
    assert shares == pytest.approx([10 / 11.5, 10.6 / 11.5, 1.0])


def test_work_of_another_kind_counts_for_the_whole_and_not_for_the_phase() -> None:
    seen: list[Progress] = []
    meter = Meter(1, {"targets": 4, "collect": 100}, seen.append)
    meter.enter("targets", 1, 4, "edits")
    meter.advance(50, "collect")
    assert seen[-1].done == 0
    assert seen[-1].share_done == pytest.approx(1.5 / 7)


def test_work_that_was_done_before_is_shown_and_no_longer_expected() -> None:
    """Four of eight targets were on disk: of the other four, one is a quarter of what is left to do."""
    seen: list[Progress] = []
    meter = Meter(1, {"targets": 8}, seen.append)
    meter.enter("targets", 1, 8, "edits")
    meter.skip(4, "targets")
    assert (seen[-1].done, seen[-1].share_done) == (4, 0.0)
    meter.advance(1)
    assert (seen[-1].done, seen[-1].share_done) == (5, 0.25)
    meter.advance(3)
    assert seen[-1].share_done == 1.0


def test_more_work_than_expected_never_shows_more_than_all() -> None:
    seen: list[Progress] = []
    meter = Meter(1, {"targets": 2}, seen.append)
    meter.enter("targets", 1, 2, "edits")
    meter.advance(5)
    assert seen[-1].share_done == 1.0


def test_phases_without_a_cost_are_counted_but_do_not_move_the_estimate() -> None:
    seen: list[Progress] = []
    meter = Meter(1, {"targets": 2}, seen.append)
    meter.enter("covariance", 0, 4, "chunks")
    meter.advance(1)
    assert (seen[-1].phase, seen[-1].done, seen[-1].share_done) == ("covariance", 1, 0.0)


def test_nothing_expected_shows_nothing_done() -> None:
    seen: list[Progress] = []
    meter = Meter(1, {}, seen.append)
    meter.enter("covariance", 0, 4, "chunks")
    meter.advance(4)
    assert seen[-1].share_done == 0.0


def test_waiting_is_told_and_time_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("consortium.common.progress.time.monotonic", lambda: now[0])
    seen: list[Progress] = []
    meter = Meter(1, {"targets": 2}, seen.append)
    now[0] = 107.5
    meter.show("worker 2")
    assert (seen[-1].waiting_for, seen[-1].elapsed_s) == ("worker 2", 7.5)
    meter.advance(1)
    assert seen[-1].waiting_for == ""
