"""Where time went: every second of every worker is one of five things, from events as the runtime records them."""

from __future__ import annotations

from typing import Any

import pytest
from consortium.records.rows import EventRow
from consortium.report.overhead import SERIAL_WORKER, Spent, run_time
from support.scenarios import associative_scenario


def event(time_s: float, kind: str, worker: str | None = None, **more: Any) -> EventRow:
    empty = dict.fromkeys(("arm", "layer", "party_batch", "worker", "seconds", "bytes", "detail"))
    return EventRow(time_s=time_s, kind=kind, round=1, **(empty | {"worker": worker} | more))


def call(handed: float, worked: float, taken: float, worker: str = "worker-0", kind: str = "targets") -> EventRow:
    return event(taken, kind, worker, seconds=worked, round_trip_s=taken - handed)


def merge(start: float, end: float) -> EventRow:
    return event(end, "merge", seconds=end - start)


def spent(**seconds: float) -> Spent:
    return pytest.approx(Spent(**seconds).__dict__, abs=1e-9)  # type: ignore[return-value]


def of(events: list[EventRow], worker: str = "worker-0", ended_s: float | None = None) -> dict[str, float]:
    found = run_time(events, ended_s)
    assert found is not None
    return found.workers[worker].__dict__


STARTED = event(4.0, "worker-started", "worker-0")
COMMIT = event(20.0, "commit")


def test_a_worker_that_works_all_the_time_has_no_overhead():
    events = [STARTED, call(5, 7, 12), call(12, 8, 20), COMMIT]
    assert of(events) == spent(arithmetic=15)
    found = run_time(events)
    assert (found.wall_s, found.startup_s, found.spent.overhead_share) == (15, 5, 0)


def test_the_way_of_a_call_and_the_wait_for_one_are_told_apart():
    """Two seconds of work in a round trip of three; then nothing to do from 8 to 15, and from 19 on."""
    assert of([STARTED, call(5, 2, 8), call(15, 4, 19), COMMIT]) == spent(arithmetic=6, calls=1, waiting=8)


def test_a_merge_that_workers_wait_for_is_solving_and_one_beside_their_work_is_not():
    idle = [STARTED, call(5, 5, 10), merge(10, 13), call(13, 7, 20), COMMIT]
    assert of(idle) == spent(arithmetic=12, solving=3)
    busy = [STARTED, call(5, 15, 20), merge(10, 13), COMMIT]
    assert of(busy) == spent(arithmetic=15)


def test_an_answer_that_lies_there_while_the_coordinator_merges_waits_for_solving():
    assert of([STARTED, call(5, 5, 14), merge(9, 13), COMMIT]) == spent(arithmetic=5, solving=3, calls=1, waiting=6)


def test_the_slower_worker_keeps_the_other_one_waiting():
    events = [STARTED, event(4.5, "worker-started", "worker-1"), call(5, 10, 15), call(5, 15, 20, "worker-1"), COMMIT]
    assert of(events) == spent(arithmetic=10, waiting=5)
    assert of(events, "worker-1") == spent(arithmetic=15)
    assert run_time(events).spent.overhead_share == pytest.approx(5 / 30)


def test_records_count_those_of_the_last_commit_by_the_end_of_the_run():
    """Written from 10 to 11 while the worker had nothing to do, and from 20 to the end at 22."""
    events = [
        STARTED,
        call(5, 5, 10),
        event(10, "commit"),
        event(11, "records", seconds=1.0),
        call(11, 9, 20),
        COMMIT,
    ]
    assert of(events, ended_s=22.0) == spent(arithmetic=14, records=3)
    assert of(events) == spent(arithmetic=14, records=1)


def test_a_worker_has_the_seconds_in_which_it_was_there():
    events = [
        STARTED,
        call(5, 3, 8),
        event(12, "worker-lost", "worker-0"),
        event(13, "worker-started", "worker-1"),
        call(13, 7, 20, "worker-1"),
        COMMIT,
    ]
    assert of(events) == spent(arithmetic=3, waiting=4)
    assert of(events, "worker-1") == spent(arithmetic=7)


def test_a_worker_that_never_got_a_call_waited():
    events = [STARTED, event(10, "worker-started", "worker-1"), call(5, 15, 20), COMMIT]
    assert of(events, "worker-1") == spent(waiting=10)


def test_contexts_are_start_up_where_the_covariance_was_known_and_work_where_it_was_not():
    contexts, targets = call(5, 2, 7, kind="contexts"), call(7, 13, 20)
    assert run_time([STARTED, contexts, targets, COMMIT]).startup_s == 7
    measured = call(4, 1, 5, kind="covariance")
    assert of([STARTED, measured, contexts, targets, COMMIT]) == spent(arithmetic=16)


def test_a_resumed_run_starts_up_twice():
    """The first process was killed in the round after its commit at 20; its work until then is what counts."""
    first = [STARTED, call(5, 15, 20), COMMIT]
    second = [event(20.5, "resumed"), event(23, "worker-started", "worker-0"), call(24, 5, 30), event(30, "commit")]
    found = run_time([*second, *first])
    assert found.startup_s == pytest.approx(5 + 3.5)
    assert found.wall_s == pytest.approx(15 + 6)
    assert of([*first, *second]) == spent(arithmetic=20, calls=1)


def test_the_serial_twin_is_one_worker():
    events = [
        event(6, "targets", seconds=5.0),
        merge(6, 8),
        event(12, "evaluate", seconds=3.0),
        event(12, "commit"),
    ]
    assert of(events, SERIAL_WORKER, ended_s=13.0) == spent(arithmetic=8, solving=2, waiting=1, records=1)


def test_a_run_of_the_serial_twin_tells_its_time(finished_run):
    run = finished_run(associative_scenario())
    events = [EventRow(**row) for row in run.table("events").to_pylist()]
    found = run_time(events, run.worked_s)
    assert set(found.workers) == {SERIAL_WORKER}
    each = found.workers[SERIAL_WORKER]
    assert each.total == pytest.approx(found.wall_s)
    assert min(each.arithmetic, each.solving, each.records) > 0
    assert each.calls == 0


@pytest.mark.parametrize("events", [[], [STARTED], [STARTED, call(5, 5, 10)], [COMMIT], [call(20, 0, 20), COMMIT]])
def test_a_run_that_did_not_get_so_far_has_no_time_to_show(events):
    assert run_time(events) is None


@pytest.mark.parametrize("kind", ["worker-lost", "worker-stopped"])
def test_a_worker_that_is_gone_waits_for_nothing(kind):
    """From second 2 to second 10 there is work; worker-1 joins at 3, works until 5 and is gone at 6."""
    events = [STARTED, event(3, "worker-started", "worker-1"), call(10, 0, 8), call(5, 2, 2, "worker-1")]
    found = run_time([*events, event(6, kind, "worker-1"), event(10, "commit")])
    assert found.workers["worker-1"].total == pytest.approx(3)


def test_all_seconds_of_all_workers_are_something():
    """Whatever happens side by side, the five parts add up to the workers' presence."""
    events = [STARTED, event(6, "worker-started", "worker-1"), COMMIT, merge(7, 9), merge(11, 14.5)]
    events += [call(5, 3, 8.5), call(8.6, 1, 15), call(6.5, 4, 10.8, "worker-1"), call(10.9, 6, 17, "worker-1")]
    events += [event(18, "commit"), event(19, "records", seconds=1.0)]
    found = run_time(events, 21.0)
    assert {worker: each.total for worker, each in found.workers.items()} == pytest.approx(
        {"worker-0": 16, "worker-1": 15}
    )
    assert min(value for each in found.workers.values() for value in each.__dict__.values()) >= 0
