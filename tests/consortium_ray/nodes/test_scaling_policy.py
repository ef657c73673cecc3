"""When workers start and end, decided about plain data."""

from consortium.scenario.cluster import WorkerKindSpec, WorkersSpec
from consortium_ray.nodes.placement import Node
from consortium_ray.nodes.scaling_policy import SMALLEST_BATCH, WorkerCounts, to_start, to_stop

NODE = Node("a", {"CPU": 2})


def idle(number, idle_s, kind=0, node="a"):
    return WorkerCounts(number, kind, node, idle_s=idle_s)


class TestStarting:
    def test_what_is_missing_of_each_kind(self):
        assert to_start((2, 2), [WorkerCounts(0, 1, "a")], [NODE]) == [0, 0, 1]

    def test_in_batches_that_grow_with_the_cluster(self):
        assert len(to_start((50,), [], [NODE])) == SMALLEST_BATCH
        assert len(to_start((50,), [], [Node("a", {"CPU": 16}), Node("b", {"CPU": 8})])) == 24

    def test_workers_that_are_starting_belong_to_the_batch(self):
        starting = [WorkerCounts(number, 0, "a", is_starting=True) for number in range(3)]
        assert len(to_start((50,), starting, [NODE])) == SMALLEST_BATCH - 3
        started = [WorkerCounts(number, 0, "a") for number in range(3)]
        assert len(to_start((50,), started, [NODE])) == SMALLEST_BATCH


class TestStopping:
    KINDS = (WorkersSpec(min=1, max=4, idle_s=10),)

    def test_workers_that_rested_long_enough_and_are_too_many(self):
        workers = [idle(0, 11), idle(1, 9), idle(2, 12), WorkerCounts(3, 0, "a")]
        assert to_stop((2,), self.KINDS, workers) == [0, 2]
        assert to_stop((3,), self.KINDS, workers) == [0]
        assert to_stop((4,), self.KINDS, workers) == []

    def test_busy_and_starting_workers_stay(self):
        assert to_stop((0,), self.KINDS, [WorkerCounts(0, 0, "a"), WorkerCounts(1, 0, "a", is_starting=True)]) == []

    def test_workers_that_keep_what_others_would_make_again_stay(self):
        assert to_stop((0,), self.KINDS, [idle(0, 20), idle(1, 20)], keeping={0}) == [1]

    def test_nodes_with_the_fewest_workers_become_free_first(self):
        workers = [idle(0, 20, node="a"), idle(1, 20, node="a"), idle(2, 20, node="b")]
        assert to_stop((2,), self.KINDS, workers) == [2]
        assert to_stop((1,), self.KINDS, workers) == [2, 0]

    def test_kinds_named_last_are_given_back_first(self):
        kinds = (WorkerKindSpec(max=2, idle_s=1), WorkerKindSpec(max=2, idle_s=1))
        workers = [idle(0, 5, kind=0), idle(1, 5, kind=1)]
        assert to_stop((0, 0), kinds, workers) == [1, 0]
        assert to_stop((1, 0), kinds, workers) == [1]
