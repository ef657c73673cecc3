"""What a cluster that grows is asked for: numbers by hand."""

from consortium.scenario.cluster import WorkersSpec
from consortium_ray.nodes.demand import SteadyUse, bundles_for, used_by_others
from consortium_ray.nodes.placement import Node

KINDS = (WorkersSpec(min=1, max=4, cpus=1),)


def node(name, cpus=2.0, free=2.0, **other):
    return Node(name, {"CPU": cpus, **other}, {"CPU": free, **other})


class TestUse:
    def test_is_what_is_reserved_and_not_by_this_run(self):
        nodes = [node("a", 4.0, 1.0), node("b"), node("c", 2.0, 0.0)]
        assert used_by_others(nodes, [("a", {"CPU": 1.0}), ("c", {"CPU": 2.0})]) == {"a": {"CPU": 2.0}}

    def test_is_none_where_a_worker_of_ours_is_not_seen_yet(self):
        assert used_by_others([node("a")], [("a", {"CPU": 1.0})]) == {}

    def test_of_gpus_counts_too(self):
        found = used_by_others([Node("a", {"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 0.5})], [])
        assert found == {"a": {"GPU": 1.5}}

    def test_counts_only_when_it_stays(self):
        """A worker that ended is still seen for a moment; no node is to start for it."""
        now = [0.0]
        use = SteadyUse(3.0, lambda: now[0])
        seen = []
        for cpus in (1.0, 1.0, 0.0, 1.0, 2.0, 1.0, 1.0, 1.0):
            seen.append(use.see({"a": {"CPU": cpus}} if cpus else {}))
            now[0] += 1.0
        assert seen[:5] == [{}] * 5
        assert seen[-2:] == [{"a": {"CPU": 1.0}}] * 2


def test_what_others_reserve_is_asked_for_beside_the_workers():
    """One CPU is another job's: with the worker that makes two, so a second node of one CPU has to come."""
    nodes = [node("a", 1.0, 0.0)]
    assert bundles_for(KINDS, (1,), nodes, {"a": {"CPU": 1.0}}) == [{"CPU": 1.0}, {"CPU": 1.0}]
    assert bundles_for(KINDS, (2,), nodes, {}) == [{"CPU": 1.0}, {"CPU": 1.0}]


def test_nodes_that_are_avoided_are_asked_for_whole():
    assert bundles_for(KINDS, (1,), [node("a", 4.0)], {"a": {"CPU": 1.0}}, {"a"}) == [{"CPU": 1.0}, {"CPU": 4.0}]


def test_nothing_is_asked_for_where_no_worker_is_wanted():
    assert bundles_for(KINDS, (0,), [node("a", 1.0, 0.0)], {"a": {"CPU": 1.0}}) == []
