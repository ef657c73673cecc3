"""What is seen of a cluster becomes rows, whatever the cluster does meanwhile."""

import time
from types import SimpleNamespace

from consortium.scenario.cluster import WorkersSpec
from consortium_ray.nodes import node_watch
from consortium_ray.nodes.node_watch import NodeWatch, node_rows, see
from consortium_ray.nodes.placement import Node
from consortium_ray.nodes.scaling_policy import WorkerCounts

KINDS = (WorkersSpec(cpus=0.5),)
NODES = [Node("a" * 56, {"CPU": 2.0, "GPU": 1.0}, {"CPU": 0.5}, "worker"), Node("b" * 56, {"CPU": 0.0}, {})]
WORKERS = [
    WorkerCounts(0, 0, "a" * 56),
    WorkerCounts(1, 0, "a" * 56, idle_s=3.0),
    WorkerCounts(2, 0, "a" * 56, is_starting=True),
    WorkerCounts(3, 0, "gone"),
]


def test_each_node_has_a_row_with_its_workers():
    first, second = node_rows(NODES, WORKERS, KINDS, 7.0)
    assert (first.time_s, first.node, first.type) == (7.0, "a" * 12, "worker")
    assert (first.cpus, first.cpus_reserved, first.gpus, first.gpus_reserved) == (2.0, 1.5, 1.0, 1.0)
    assert (first.workers, first.workers_starting, first.cpus_busy) == (2, 1, 0.5)
    assert (second.cpus, second.workers) == (0.0, 0)


def test_the_pools_numbers_stand_in_every_row(monkeypatch):
    monkeypatch.setattr(node_watch, "present", lambda: NODES)
    pool = SimpleNamespace(num_wanted=4, num_stopped=2, counts_by_kind=lambda: WORKERS)
    assert [(row.workers_wanted, row.workers_stopped) for row in see(KINDS, pool, 0.0)] == [(4, 2)] * 2


def test_rows_are_taken_once_and_a_look_that_fails_does_not_end_the_watch(monkeypatch):
    monkeypatch.setattr(node_watch, "INTERVAL_S", 0.01)
    looks = []

    def look(time_s):
        looks.append(time_s)
        if len(looks) == 1:
            raise RuntimeError("the cluster does not answer")
        return node_rows(NODES, [], KINDS, time_s)

    watch = NodeWatch(look, lambda: 1.5)
    give_up = time.monotonic() + 20
    while len(looks) < 4:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    watch.close()
    rows = watch.take(3)
    assert len(rows) >= 4
    assert {(row.round, row.time_s) for row in rows} == {(3, 1.5)}
    assert watch.take(4) == []
