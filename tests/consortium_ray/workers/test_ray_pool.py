"""The pool's own decisions, over a Ray whose time and answers are set by hand."""

import pytest
from consortium.common.errors import ModelError, RunError
from consortium_ray.messages import Call
from consortium_ray.nodes.placement import Growth, Node
from consortium_ray.workers.pool import Lost, Returned, Started
from consortium_ray.workers.ray_pool import WORKER_START_S
from ray.exceptions import ActorDiedError, ActorUnschedulableError
from support.fake_ray import FakeRay
from support.scenarios import associative_scenario

CALL = Call(("collect", 0), "collect", (), 0)
OTHER = Call(("collect", 1), "collect", (), 1)


def scenario(workers=1, timeout_s=20.0, **on_failure):
    return associative_scenario(
        cluster={
            "workers": {"min": 1, "max": workers, "cpus": 1},
            "timeout_s": timeout_s,
            "parties_per_batch": 1,
            "on_failure": on_failure,
        }
    )


@pytest.fixture
def fake(monkeypatch):
    return FakeRay(monkeypatch)


def started(fake, spec):
    """A pool whose workers have opened the model."""
    pool = fake.pool(spec)
    pool.want(10)
    for worker in list(fake.asked):
        fake.answer(worker)
    assert {type(event) for event in pool.wait(0.0)} == {Started}
    return pool


def look(fake, pool):
    """The next look at the cluster."""
    fake.passes(1.0)
    pool.want(10)


class TestLateness:
    """A merge takes 24 s where workers have 20 s."""

    def test_answers_that_came_during_a_merge_are_answers(self, fake):
        pool = started(fake, scenario(2))
        pool.start(0, CALL)
        pool.start(1, OTHER)
        fake.passes(24.0)
        fake.answer(0)
        fake.answer(1, is_local=False)
        (event,) = pool.wait(0.0)
        assert isinstance(event, Returned)
        fake.passes(24.0)
        assert pool.wait(0.0) == []
        fake.arrive(1)
        (event,) = pool.wait(0.0)
        assert event.call is OTHER
        assert fake.killed == []

    def test_workers_that_work_on_after_a_merge_are_given_their_time(self, fake):
        pool = started(fake, scenario())
        pool.start(0, CALL)
        for _ in range(5):
            fake.passes(24.0)
            assert pool.wait(0.0) == []
        assert fake.killed == []

    def test_an_answer_that_never_arrives_is_late_at_last(self, fake):
        pool = started(fake, scenario())
        pool.start(0, CALL)
        fake.answer(0, is_local=False)
        assert pool.wait(19.0) == []
        assert pool.wait(2.0) == []  # it exists, and has 20 s from now on to arrive
        assert pool.wait(19.0) == []
        (event,) = pool.wait(2.0)
        assert event.reason == "the answer did not arrive to `collect of party batch 0` within 20 s (cluster.timeout_s)"

    def test_a_worker_that_was_listened_for_so_long_is_late(self, fake):
        pool = started(fake, scenario())
        pool.start(0, CALL)
        events = []
        while not events:
            events = pool.wait(0.5)
        assert events == [Lost(0, CALL, "no answer to `collect of party batch 0` within 20 s (cluster.timeout_s)")]
        assert fake.killed == [0]

    def test_a_worker_has_time_to_start_however_short_calls_are(self, fake):
        """Its process reads torch and transformers first: a busy machine takes ten seconds for that."""
        pool = fake.pool(scenario(timeout_s=5.0))
        pool.want(10)
        events, waited_s = [], 0.0
        while not events:
            events, waited_s = pool.wait(0.5), waited_s + 0.5
        assert WORKER_START_S < waited_s < WORKER_START_S + 5
        assert events == [Lost(0, None, "no answer to `open` within 30 s (what a worker has at least to start)")]

    def test_a_worker_that_has_started_is_late_as_cluster_timeout_s_says(self, fake):
        pool = started(fake, scenario(timeout_s=5.0))
        pool.add_setup_call("prepare", ())
        events, waited_s = [], 0.0
        while not events:
            events, waited_s = pool.wait(0.5), waited_s + 0.5
        assert 5 < waited_s < 10
        assert events == [Lost(0, None, "no answer to `prepare` within 5 s (cluster.timeout_s)")]


class TestRoom:
    def test_the_clock_of_no_room_starts_when_the_last_worker_is_lost(self, fake):
        pool = started(fake, scenario())
        pool.start(0, CALL)
        fake.passes(100.0)
        fake.fail(0, ActorDiedError())
        fake.nodes = [Node("node-a", {"CPU": 4.0}, {"CPU": 0.0})]
        pool.wait(0.0)
        assert pool.awaits_room()
        for _ in range(19):
            pool.wait(0.9)
            pool.want(10)

        def go_on():
            for _ in range(400):
                pool.wait(0.1)
                pool.want(10)

        with pytest.raises(RunError, match="no room for any worker for 20 s") as caught:
            go_on()
        assert "worker-0 on node node-a: ActorDiedError" in caught.value.found, "why there is none"

    def test_what_others_reserve_is_told(self, fake):
        fake.nodes = [Node("node-a", {"CPU": 4.0}, {"CPU": 0.5})]
        pool = fake.pool(scenario())
        fake.passes(1.0)
        pool.want(10)
        pool.wait(0.0)
        for _ in range(250):
            pool.wait(0.1)
        fake.passes(1.0)
        with pytest.raises(RunError, match=r"reserved now, of all nodes +3\.5 +0\n"):
            pool.want(10)

    def test_a_merge_does_not_count(self, fake):
        fake.nodes = [Node("node-a", {"CPU": 4.0}, {"CPU": 0.0})]
        pool = fake.pool(scenario())
        for _ in range(10):
            pool.want(10)
            fake.passes(24.0)
        assert pool.awaits_room()
        assert not fake.placed

        def listen():
            for _ in range(400):
                pool.wait(0.1)
                pool.want(10)

        with pytest.raises(RunError, match="no room for any worker for 20 s"):
            listen()

    def test_a_worker_that_finds_its_node_full_goes_elsewhere_and_nothing_was_lost(self, fake):
        """Of what others reserve is heard a moment late."""
        pool = fake.pool(scenario(max_losses=1))
        for _ in range(5):
            pool.want(10)
            fake.fail(max(fake.asked), ActorUnschedulableError("full"))
            assert pool.wait(0.0) == []
            look(fake, pool)
        fake.answer(max(fake.asked))
        assert [type(event) for event in pool.wait(0.0)] == [Started]

    def test_that_for_ever_is_no_room(self, fake):
        pool = fake.pool(scenario())

        def go_on():
            for _ in range(100):
                look(fake, pool)
                fake.fail(max(fake.asked), ActorUnschedulableError("full"))
                pool.wait(0.5)
                pool.wait(0.5)

        with pytest.raises(RunError, match="no room for any worker for 20 s"):
            go_on()


class TestLosses:
    def test_a_call_that_kills_its_worker_again_and_again_ends_the_run(self, fake):
        """Each new worker opens the model, and the other worker answers: neither makes up for it."""
        pool = started(fake, scenario(2, max_losses=2))

        def go_on():
            for turn in range(10):
                bad = max(pool.idle())
                pool.start(bad, CALL)
                fake.fail(bad, ActorDiedError())
                if bad != 0:
                    pool.start(0, Call(("collect", 1, turn), "collect", (), 1))
                    fake.answer(0)
                pool.wait(0.0)
                look(fake, pool)
                fake.answer(max(fake.asked))
                pool.wait(0.0)

        with pytest.raises(RunError, match="`collect of party batch 0` was tried 3 times in vain") as caught:
            go_on()
        assert caught.value.found.count("ActorDiedError") == 3
        assert len(fake.placed) <= 4

    def test_an_error_of_one_worker_is_a_loss_of_that_worker(self, fake):
        pool = started(fake, scenario())
        pool.start(0, CALL)
        fake.raises(0, MemoryError("CUDA out of memory"))
        (event,) = pool.wait(0.0)
        assert event == Lost(0, CALL, "MemoryError: CUDA out of memory (targets.py:213)")
        assert fake.killed == [0]
        look(fake, pool)
        assert list(fake.placed) == [0, 1]

    def test_what_our_own_checks_raise_ends_the_run_as_itself(self, fake):
        pool = started(fake, scenario())
        pool.start(0, CALL)
        fake.raises(0, RunError("numbers are not finite"))
        with pytest.raises(RunError, match="numbers are not finite"):
            pool.wait(0.0)

    def test_a_model_that_no_worker_opens_is_the_users_error(self, fake):
        pool = fake.pool(scenario())
        pool.want(10)
        fake.raises(0, ModelError("no such model"))
        with pytest.raises(ModelError, match="no such model"):
            pool.wait(0.0)

    def test_a_late_node_that_cannot_open_it_is_avoided_and_the_run_goes_on(self, fake):
        pool = started(fake, scenario(2))
        assert list(fake.placed) == [0, 1]
        pool.start(0, CALL)
        pool.start(1, OTHER)
        fake.fail(1, ActorDiedError())
        fake.nodes = [Node("node-b", {"CPU": 4.0}, {"CPU": 4.0}), Node("node-a", {"CPU": 1.0}, {"CPU": 0.0})]
        pool.wait(0.0)
        for _ in range(10):
            look(fake, pool)
            newest = max(fake.asked)
            if newest > 1 and not fake.asked[newest].is_done:
                fake.raises(newest, ModelError("429 Too Many Requests"))
            pool.wait(0.0)
        assert [node for worker, node in fake.placed.items() if worker > 1] == ["node-b", "node-b"]
        fake.answer(0)
        assert [type(event) for event in pool.wait(0.0)] == [Returned]

    def test_while_one_says_no_and_another_is_at_it_none_is_started(self, fake):
        pool = fake.pool(scenario(2))
        pool.want(10)
        fake.raises(0, ModelError("not mounted here"))
        assert [type(event) for event in pool.wait(0.0)] == [Lost]
        look(fake, pool)
        assert list(fake.placed) == [0, 1]
        fake.answer(1)
        pool.wait(0.0)
        look(fake, pool)
        assert list(fake.placed) == [0, 1, 2]


GROWING = Growth(is_known=False)


class TestDemand:
    def test_what_others_reserve_is_asked_for_as_well(self, fake):
        fake.nodes = [Node("node-a", {"CPU": 1.0}, {"CPU": 0.0})]
        pool = fake.pool(scenario(), GROWING)
        for _ in range(6):
            look(fake, pool)
        assert fake.demands[0] == [{"CPU": 1.0}]
        assert fake.demands[-1] == [{"CPU": 1.0}, {"CPU": 1.0}]
        fake.nodes = [*fake.nodes, Node("node-b", {"CPU": 1.0}, {"CPU": 1.0})]
        look(fake, pool)
        assert fake.placed == {0: "node-b"}

    def test_workers_of_the_run_are_not_counted_twice(self, fake):
        fake.nodes = [Node("node-a", {"CPU": 1.0}, {"CPU": 1.0})]
        pool = fake.pool(scenario(), GROWING)
        look(fake, pool)
        fake.nodes = [Node("node-a", {"CPU": 1.0}, {"CPU": 0.0})]
        for _ in range(6):
            look(fake, pool)
        assert fake.demands == [[{"CPU": 1.0}]]
