"""What a run made of its cluster, by series that a reader can add up."""

import pytest
from consortium.records.rows import EventRow, NodeRow
from consortium.report.sections.cluster_use import cluster_use, cost, moments


def row(time_s, node="a", *, wanted=0, **columns):
    """A node of two CPUs; reserved, busy and workers are 0 where they are not given."""
    empty = dict.fromkeys(("gpus", "cpus_reserved", "gpus_reserved", "cpus_busy", "gpus_busy"), 0.0)
    counts = dict.fromkeys(("workers", "workers_starting", "workers_stopped"), 0)
    known = {"round": 1, "time_s": float(time_s), "node": node, "type": "worker", "cpus": 2.0, "workers_wanted": wanted}
    return NodeRow(**(known | empty | counts | columns))


def head(time_s, wanted=0):
    return row(time_s, "head", wanted=wanted, type="head", cpus=0.0)


def event(time_s, kind, worker):
    empty = dict.fromkeys(("arm", "layer", "party_batch", "seconds", "bytes", "detail"))
    return EventRow(time_s=time_s, kind=kind, round=1, worker=worker, **empty)


#: Two workers are wanted from second 2 on. Node a comes at 4 with a worker from 6 on, node b from 8 to 14, a goes at
#: 20.
SERIES = [
    head(0),
    head(2, wanted=2),
    *(head(4, wanted=2), row(4, wanted=2, workers_starting=1, cpus_reserved=1.0)),
    *(head(6, wanted=2), row(6, wanted=2, workers=1, cpus_reserved=1.0, cpus_busy=1.0)),
    *(head(8, wanted=2), row(8, wanted=2, workers=1, cpus_reserved=1.0, cpus_busy=1.0), row(8, "b", wanted=2)),
    *(head(10, wanted=2), row(10, wanted=2, workers=1, cpus_reserved=1.0)),
    row(10, "b", wanted=2, workers=1, cpus_reserved=2.0, cpus_busy=2.0),
    *(head(12, wanted=1), row(12, wanted=1, workers=1, cpus_reserved=1.0), row(12, "b", wanted=1)),
    *(head(14, wanted=1), row(14, wanted=1, workers=1, cpus_reserved=1.0)),
    *(head(18), row(18)),
    head(20),
]
EVENTS = [
    event(6, "worker-started", "worker-0"),
    event(10, "worker-started", "worker-1"),
    event(12, "worker-stopped", "worker-1"),
]


@pytest.fixture(scope="module")
def use():
    return cluster_use(moments(SERIES), EVENTS)


def test_times_count_from_the_first_demand(use):
    assert (use.first_node_s, use.satisfied_s, use.first_down_s, use.minimum_s) == (2, 8, 12, 18)


def test_node_seconds(use):
    """Node a is there from 4 to 20 and idle from 18 on; b from 8 to 14, with a worker from 10 to 12."""
    assert use.node_s == 16 + 6
    assert use.idle_node_s == 2 + 4
    assert use.most_nodes == 2


def test_shares_are_of_the_cpu_seconds_that_were_there(use):
    """44 CPU-seconds: reserved are 14 on a (4 to 18) and 4 on b; busy were 4 on a (6 to 10) and 4 on b."""
    assert use.reserved_share == pytest.approx(18 / 44)
    assert use.used_share == pytest.approx(8 / 44)


def test_what_ended_soon_after_its_start_was_started_in_vain(use):
    """Nodes a (16 s) and b (6 s), and worker-1 (2 s); worker-0 was not stopped."""
    assert use.num_thrashed == 3
    late = [event(6, "worker-started", "worker-0"), event(40, "worker-stopped", "worker-0")]
    assert cluster_use(moments(SERIES), late).num_thrashed == 2


def test_costs_are_by_type_or_by_what_a_node_has():
    series = moments(SERIES)
    assert cost(series, {"worker": 3600.0}) == pytest.approx(22)
    assert cost(series, {"cpu": 3600.0, "gpu": 1e6}) == pytest.approx(44)
    assert cost(series, {"worker": 3600.0, "head": 7200.0, "cpu": 1e6}) == pytest.approx(22 + 2 * 20)
    assert cost(series, {}) == 0


def test_nodes_without_cpus_are_measured_by_their_gpus():
    rows = [row(0, wanted=1, cpus=0.0, gpus=2.0, gpus_reserved=1.0, gpus_busy=0.5), row(2, cpus=0.0, gpus=2.0)]
    found = cluster_use(moments(rows), [])
    assert (found.reserved_share, found.used_share) == (0.5, 0.25)


def test_the_order_of_rows_does_not_matter(use):
    assert cluster_use(moments(SERIES[::-1]), EVENTS[::-1]) == use


def test_what_never_came_has_no_time():
    found = cluster_use(moments([head(0, wanted=1), head(5, wanted=1)]), [])
    assert (found.first_node_s, found.satisfied_s, found.first_down_s, found.minimum_s) == (None,) * 4
    assert (found.node_s, found.reserved_share) == (0, 0)


def test_without_demand_there_is_nothing_to_say():
    assert cluster_use([], []) is None
    assert cluster_use(moments([row(0), row(1)]), []) is None
