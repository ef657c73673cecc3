"""Where workers go, by hand-sized nodes; GPUs are numbers here."""

import pytest
from consortium.common.errors import ClusterError
from consortium.scenario.cluster import WorkerKindSpec, WorkersSpec
from consortium_ray.nodes.placement import (
    FIXED,
    Growth,
    Node,
    NodeType,
    Room,
    allot,
    most_room,
    needs_of,
    refuse_what_cannot_be,
)


def nodes(*shapes, kind=""):
    """Nodes a, b, … of so many (CPUs, GPUs) each."""
    return [Node("abcdef"[n], {"CPU": cpus, "GPU": gpus}, type=kind) for n, (cpus, gpus) in enumerate(shapes)]


def places(kind, number, on):
    room = Room(on)
    return [room.place(needs_of(kind)) for _ in range(number)]


class TestRoom:
    def test_nodes_are_filled_one_after_the_other(self):
        assert places(WorkersSpec(), 5, nodes((2, 0), (2, 0))) == ["a", "a", "b", "b", None]

    def test_fractions_fill_a_node(self):
        assert places(WorkersSpec(cpus=0.1), 4, nodes((0.3, 0))) == ["a", "a", "a", None]

    def test_a_worker_does_not_stretch_over_nodes(self):
        assert places(WorkersSpec(cpus=3), 1, nodes((2, 0), (2, 0))) == [None]

    def test_a_share_of_a_gpu_is_of_one_gpu(self):
        """Two GPUs have room for two workers of 0.6, though 2 / 0.6 is more than three."""
        assert places(WorkersSpec(gpus=0.6), 3, nodes((8, 2))) == ["a", "a", None]
        assert places(WorkersSpec(gpus=0.5), 5, nodes((8, 2))) == ["a", "a", "a", "a", None]

    def test_a_worker_of_two_gpus_needs_both_free(self):
        room = Room(nodes((8, 2), (8, 2)), [("a", {"CPU": 1, "GPU": 0.1})])
        assert [room.place(needs_of(WorkersSpec(gpus=2))) for _ in range(2)] == ["b", None]

    def test_workers_without_gpus_leave_those_to_others(self):
        assert places(WorkersSpec(), 3, nodes((2, 1), (2, 0))) == ["b", "b", "a"]

    def test_workers_that_need_nothing_always_fit(self):
        assert places(WorkersSpec(cpus=0), 3, nodes((0, 0))) == ["a"] * 3

    def test_what_others_reserved_is_not_free(self):
        """Four CPUs of which others hold one: with one worker of ours that Ray may not have seen yet, room for two."""
        node = Node("a", {"CPU": 4}, {"CPU": 3})
        assert places(WorkersSpec(), 4, [node]) == ["a", "a", "a", None]
        seen = Room([Node("a", {"CPU": 4}, {"CPU": 2})], [("a", {"CPU": 1})])
        assert [seen.place({"CPU": 1}) for _ in range(3)] == ["a", "a", None]

    def test_workers_on_nodes_that_are_gone_take_no_room(self):
        assert Room(nodes((1, 0)), [("gone", {"CPU": 1})]).place({"CPU": 1}) == "a"


class TestAllot:
    def test_as_many_as_are_of_use_from_min_to_max(self):
        kinds = [WorkersSpec(min=2, max=4)]
        assert [allot(kinds, demand, Room(nodes((8, 0)))) for demand in (0, 3, 9)] == [(2,), (3,), (4,)]

    def test_kinds_named_first_are_taken_first_beyond_every_min(self):
        kinds = [WorkerKindSpec(max=2, gpus=1), WorkerKindSpec(min=1, max=9)]
        assert allot(kinds, 2, Room(nodes((8, 2)))) == (1, 1)
        assert allot(kinds, 5, Room(nodes((8, 2)))) == (2, 3)

    def test_another_kind_stands_in_where_one_finds_no_room(self):
        kinds = [WorkerKindSpec(min=1, max=4, gpus=0.5), WorkerKindSpec(max=4)]
        assert allot(kinds, 6, Room(nodes((4, 1), (2, 0)))) == (2, 4)

    def test_where_nobody_knows_what_may_come_all_find_room(self):
        assert allot([WorkersSpec(min=2, max=40)], 30, None) == (30,)


class TestGrowth:
    def filled(self, kind, room):
        """As many workers as find room."""
        return next(number for number in range(99) if room.place(needs_of(kind)) is None)

    def test_nodes_to_come_are_what_the_types_leave(self):
        """Three nodes of two CPUs, of which one is there."""
        growth = Growth([NodeType("small", {"CPU": 2}, 3)])
        assert self.filled(WorkersSpec(), most_room(nodes((2, 0), kind="small"), growth)) == 6

    def test_the_cluster_has_a_limit_of_its_own_and_workers_say_which_types_come(self):
        """Four nodes in all: four with a GPU for workers that need one, though the type without is named first."""
        types = [NodeType("small", {"CPU": 2}, 3), NodeType("big", {"CPU": 8, "GPU": 1}, 4)]
        growth = Growth(types, max_nodes=4)
        assert self.filled(WorkersSpec(gpus=1), most_room([], growth)) == 4
        assert self.filled(WorkersSpec(cpus=2), most_room([], growth)) == 3 + 4
        refuse_what_cannot_be([WorkerKindSpec(min=1, gpus=1), WorkerKindSpec(min=9)], [], growth)
        with pytest.raises(ClusterError):
            refuse_what_cannot_be([WorkerKindSpec(min=5, gpus=1)], [], growth)

    def test_others_reservations_do_not_count_for_what_can_ever_be(self):
        assert self.filled(WorkersSpec(), most_room([Node("a", {"CPU": 2}, {"CPU": 0})], FIXED)) == 2

    def test_an_unknown_growth_has_no_end(self):
        assert most_room(nodes((1, 0)), Growth(is_known=False)) is None

    def test_a_node_that_is_about_to_go_takes_no_worker(self):
        assert Room([Node("a", {"CPU": 2}, is_leaving=True), Node("b", {"CPU": 1})]).place({"CPU": 1}) == "b"


class TestRefusal:
    def test_workers_for_which_there_will_never_be_room(self):
        with pytest.raises(ClusterError) as caught:
            refuse_what_cannot_be([WorkersSpec(min=3, max=5)], nodes((2, 0)), FIXED)
        assert caught.value.found == (
            "cluster.workers: at least 3 workers at 1 CPU and 0 GPU each\n"
            "  asked for                     CPU each  GPU each  room for\n"
            "  3 to 5 workers                       1         0         2\n"
            "  the cluster                        CPU       GPU\n"
            "  1 nodes                              2         0"
        )
        assert "cluster.workers.cpus" in caught.value.remedy
        assert caught.value.exit_code == 2

    def test_room_that_can_come_is_waited_for(self):
        kinds = [WorkersSpec(min=3, max=5)]
        refuse_what_cannot_be(kinds, nodes((2, 0)), Growth([NodeType("worker", {"CPU": 2}, 1)]))
        refuse_what_cannot_be(kinds, nodes((2, 0)), Growth(is_known=False))
        with pytest.raises(ClusterError, match=r"at most 1 of worker +2 +0"):
            refuse_what_cannot_be(
                [WorkersSpec(min=5, max=5)], nodes((2, 0)), Growth([NodeType("worker", {"CPU": 2}, 1)])
            )

    def test_every_kind_needs_its_own_room(self):
        kinds = [WorkerKindSpec(min=1, gpus=1), WorkerKindSpec(min=2, max=2)]
        refuse_what_cannot_be(kinds, nodes((1, 1), (2, 0)), FIXED)
        with pytest.raises(ClusterError, match=r"1 to 1 workers +1 +1 +0"):
            refuse_what_cannot_be(kinds, nodes((8, 0)), FIXED)
