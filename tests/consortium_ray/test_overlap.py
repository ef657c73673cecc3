"""Workers are not kept waiting: for merges, for other arms, for records; and what they wait for is told by events."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from consortium.data.party_batch import PartyBatch
from consortium.engine.arms import Arm
from consortium.engine.round_log import RoundLog
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium.records.rows import EventRow
from consortium.report.overhead import run_time
from consortium_ray.coordinator.batches import LOOK_AHEAD, CallBatch
from consortium_ray.coordinator.coordinator import Coordinator
from consortium_ray.coordinator.dispatcher import Dispatcher
from consortium_ray.faults.injection import Faults
from consortium_ray.messages import ArrayRefs, Call
from consortium_ray.workers import worker_actor as worker_module
from consortium_ray.workers.worker_actor import WorkerActor
from support.pools import LocalPool
from support.scenarios import associative_scenario


def coordinate(path, *, size=2, seed=4, **changes):
    """A coordinator over a local pool, not yet stepped."""
    scenario = associative_scenario(**changes)
    pool = LocalPool(scenario, open_facts(scenario), size=size, seed=seed)
    return Coordinator(scenario, RunDirectory.create(path, scenario), pool.facts, pool)


def finish(coordinator):
    while not coordinator.is_done:
        coordinator.step(0.0)
    coordinator.directory.close()
    return [EventRow(**row) for row in coordinator.directory.table("events").to_pylist()]


def kept_waiting(coordinator):
    """Idle workers for which a call waits that they could do."""
    dispatcher = coordinator.dispatcher
    return [
        worker
        for worker in coordinator.pool.idle()
        for batch in dispatcher._batches
        for number, call in batch._waiting.items()
        if number < batch._next + LOOK_AHEAD and dispatcher._suits(worker, coordinator.pool.machines())(call)
    ]


def test_no_worker_waits_for_a_merge_while_there_is_something_to_do(tmp_path, monkeypatch):
    coordinator = coordinate(tmp_path / "run", size=3)
    merge, idle = Arm.merge, []
    monkeypatch.setattr(Arm, "merge", lambda arm, *rest: idle.append(kept_waiting(coordinator)) or merge(arm, *rest))
    finish(coordinator)
    assert len(idle) == 2 * 5 * 3
    assert idle == [[]] * len(idle)


def test_arms_are_evaluated_as_soon_as_they_are_edited(tmp_path):
    """And the unedited model whenever there is nothing else to do."""
    coordinator = coordinate(tmp_path / "run", size=3, stream={"rounds": 1})
    finish(coordinator)
    methods = [call.method for _, call in coordinator.pool.started]
    last_collect = len(methods) - 1 - methods[::-1].index("collect")
    assert "evaluate" in methods[:last_collect]


def test_what_merges_depend_on_goes_before_evaluations(tmp_path):
    coordinator = coordinate(tmp_path / "run", size=1, stream={"rounds": 1})
    finish(coordinator)
    methods = [method for method, _ in itertools.groupby(call.method for _, call in coordinator.pool.started)]
    assert methods[-2:] == ["collect", "evaluate"]
    assert methods.count("evaluate") == 1, "one worker has other work until all arms are edited"


def test_what_can_wait_is_served_last_and_not_at_all_while_only_the_urgent_is_asked_for():
    started = []
    pool = SimpleNamespace(
        idle=lambda: [worker for worker in (0, 1, 2) if worker not in dict(started)],
        can_lose_node=lambda worker: False,
        machines=lambda: dict.fromkeys((0, 1, 2), "here"),
        start=lambda worker, call, fault: started.append((worker, call.key)),
    )
    round_log = RoundLog(associative_scenario())
    dispatcher = Dispatcher(pool, Faults(associative_scenario()), round_log, lambda batch, event: None)
    for name, can_wait in (("probes", True), ("keys", False), ("more keys", False)):
        dispatcher.add(CallBatch(name, [Call((name,), name)], lambda number, answer: None, can_wait=can_wait))
    dispatcher.hand_out(only_urgent=True)
    assert started == [(0, ("keys",)), (1, ("more keys",))]
    assert not any(batch.has_for(lambda call: True) for batch in dispatcher._batches if not batch.can_wait)
    started.clear()
    for name in ("later probes", "later keys"):
        dispatcher.add(CallBatch(name, [Call((name,), name)], lambda *_: None, can_wait=name == "later probes"))
    dispatcher.hand_out()
    assert started == [(0, ("later keys",)), (1, ("probes",)), (2, ("later probes",))]


def test_workers_are_in_the_next_round_while_one_is_written_down(tmp_path, monkeypatch):
    coordinator = coordinate(tmp_path / "run", stream={"rounds": 3})
    commit, busy = RunDirectory.commit, []

    def watched(directory, number, states, rows, reached):
        calls = [member.call for member in coordinator.pool._members.values() if member.call is not None]
        busy.append((number, {(call.method, call.arguments[0].round) for call in calls}))
        commit(directory, number, states, rows, reached)

    monkeypatch.setattr(RunDirectory, "commit", watched)
    finish(coordinator)
    assert busy == [(n, {("targets", n + 1)}) for n in range(3)] + [(3, set())]


def test_the_covariance_is_measured_while_contexts_are_written(tmp_path):
    coordinator = coordinate(tmp_path / "run", size=3, model={"key_width": 300})
    finish(coordinator)
    first = [(worker, call.method) for worker, call in coordinator.pool.started if call.method != "describe"][:3]
    assert [method for _, method in first] == ["contexts", "covariance_sum", "covariance_sum"]
    assert len({worker for worker, _ in first}) == 3


def test_events_tell_how_long_every_call_was_under_way_and_what_records_took(tmp_path):
    events = finish(coordinate(tmp_path / "run"))
    calls = [event for event in events if event.worker is not None and event.kind != "worker-started"]
    assert len(calls) > 50
    assert all(event.round_trip_s >= event.seconds for event in calls)
    assert {event.kind for event in events if event.round_trip_s is None} == {
        *("worker-started", "merge", "commit", "records"),
    }
    assert [(event.kind, event.round) for event in events if event.kind == "commit"] == [
        ("commit", number) for number in (0, 1, 2)
    ]
    records = [(event.round, event.detail) for event in events if event.kind == "records"]
    assert records == [(1, "of round 0"), (2, "of round 1")]


def test_all_time_of_a_run_is_accounted_for(tmp_path):
    coordinator = coordinate(tmp_path / "run", size=3)
    events = finish(coordinator)
    found = run_time(events)
    assert set(found.workers) == {"worker-0", "worker-1", "worker-2"}
    for spent in found.workers.values():
        assert spent.total == pytest.approx(found.wall_s)
        assert min(vars(spent).values()) >= -1e-6


def test_reading_what_others_sent_is_no_work_of_the_worker(monkeypatch):
    """A clock on which reading an array takes 10 s, and every look at it 1 s."""
    scenario = associative_scenario()
    now = [0.0]

    def clock():
        now[0] += 1
        return now[0]

    def fetch(ref):
        now[0] += 10
        return ref

    worker = WorkerActor(0, scenario, open_facts(scenario), fetch)
    for method, arguments in (("open", ()), ("begin", (("{}",), {}, 1, {}))):
        worker.call(method, arguments)
    base = worker.worker.backend.base_weights()
    weights = {layer: weight + np.float32(1) for layer, weight in base.items()}
    monkeypatch.setattr(worker_module.time, "monotonic", clock)
    answer = worker.call("evaluate", (PartyBatch(1, 0), ArrayRefs(dict.fromkeys(weights, "new"), weights), False))
    # Three layers are read; the clock is looked at before and after each, and before and after it all.
    assert now[0] == 3 * 10 + 2 * 3 + 2
    assert answer.seconds == 4
