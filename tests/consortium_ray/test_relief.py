"""Work that waits for a busy worker goes to one that is free: the real dispatcher, on a clock that is set by hand."""

from collections import Counter
from functools import partial

import pytest
from consortium.engine import audit
from consortium.engine.round_log import RoundLog
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium_ray.coordinator import dispatcher as dispatcher_module
from consortium_ray.coordinator.batches import CallBatch
from consortium_ray.coordinator.dispatcher import Dispatcher
from consortium_ray.faults.injection import Faults
from consortium_ray.messages import Call, Reply
from consortium_ray.workers.pool import Lost, Returned, Started, Stopped
from support.pools import LocalPool, run_on
from support.scenarios import associative_scenario, difference, run_serially
from support.tiers import one_quick

SCENARIO = associative_scenario()


@pytest.fixture(autouse=True)
def _no_worker_is_slow():
    """Here some are."""


class Workers:
    """A pool whose workers answer when they are told to."""

    def __init__(self, machines=("here", "here")):
        self.now = 0.0
        self.names = dict(enumerate(machines))
        self.pending = {}
        self.started = []
        self.dispatcher = Dispatcher(
            self, Faults(SCENARIO), RoundLog(SCENARIO, lambda: self.now), lambda batch, event: None
        )
        for worker in self.names:
            self.dispatcher.react(Started(worker))

    def machines(self):
        return self.names

    def idle(self):
        return [worker for worker in self.names if worker not in self.pending]

    def alive(self, worker):
        return worker in self.names

    def can_lose_node(self, worker):
        return False

    def start(self, worker, call, fault):
        self.pending[worker] = call
        self.started.append((worker, call))

    def step(self, *answering, seconds=1.0):
        """Time passes, some workers answer, and all get what there is to do."""
        self.now += seconds
        for worker in answering:
            call = self.pending.pop(worker)
            self.dispatcher.react(Returned(call, Reply(worker, call.party_batch, 1.0)))
        self.dispatcher.hand_out()
        self.dispatcher.relieve()


def made(phase, number, group=None, **settings):
    return [
        Call(
            (phase, party_batch),
            phase,
            (),
            party_batch,
            holds=("t", party_batch) if phase == "targets" else None,
            wants=("t", party_batch),
            group=None if group is None else group(party_batch),
        )
        for party_batch in range(number)
    ]


def add(workers, phase, number, **settings):
    taken = []
    workers.dispatcher.add(
        CallBatch(phase, made(phase, number, **settings), lambda place, answer: taken.append(answer.value))
    )
    return taken


def with_targets(number=40, **settings):
    """Two workers, each of which made the targets of half the party batches in turns, in a second each."""
    workers = Workers(**settings)
    add(workers, "targets", number)
    workers.dispatcher.hand_out()
    while workers.pending:
        workers.step(*workers.pending)
    return workers


def until_done(workers, slow, for_s, most=200):
    """Every worker answers after a second, but the slow one, which keeps its fourth call for so long."""
    kept, since, seconds = None, None, 0
    while workers.dispatcher.num_awaited:
        assert seconds < most
        mine = [call for worker, call in workers.started if worker == slow and call.method == "collect"]
        if len(mine) == 4 and kept is None:
            kept, since = mine[-1], seconds
        is_slow = kept is not None and workers.pending.get(slow) is kept and seconds - since < for_s
        workers.step(*(worker for worker in list(workers.pending) if worker != slow or not is_slow))
        seconds += 1
    return seconds


def test_what_waits_for_a_slow_worker_goes_to_the_one_that_is_free():
    """40 party batches, 20 a worker; one is slow for 45 s. Alone, the other does the rest in 40 s at the most."""
    workers = with_targets()
    taken = add(workers, "collect", 40)
    workers.dispatcher.hand_out()
    took = until_done(workers, slow=1, for_s=45)
    assert taken == list(range(40)), "each counts once, and in order"
    by_free = [call for worker, call in workers.started if worker == 0 and call.method == "collect"]
    assert len(by_free) >= 36
    assert took < 48, "and the slow call itself was tried by the other"


def test_nothing_is_taken_from_a_worker_that_keeps_pace():
    workers = with_targets()
    add(workers, "collect", 40)
    workers.dispatcher.hand_out()
    holders = {call.party_batch: worker for worker, call in workers.started if call.method == "targets"}
    until_done(workers, slow=1, for_s=0)
    assert all(holders[call.party_batch] == worker for worker, call in workers.started if call.method == "collect")


def test_a_worker_that_joins_late_helps_the_one_that_holds_all():
    workers = Workers(machines=("here",))
    add(workers, "targets", 20)
    workers.dispatcher.hand_out()
    while workers.pending:
        workers.step(*workers.pending)
    workers.names[1] = "here"
    workers.dispatcher.react(Started(1))
    add(workers, "collect", 20)
    workers.dispatcher.hand_out()
    assert until_done(workers, slow=1, for_s=0) < 14


def stuck(workers):
    """Worker 1 keeps the last call of all; worker 0 has nothing to do."""
    taken = add(workers, "collect", 4)
    workers.dispatcher.hand_out()
    workers.step(0, 1)
    workers.step(0)
    for _ in range(8):
        workers.step()
    assert workers.pending[0] is workers.pending[1]
    return taken


class TestSecondTries:
    def test_the_first_answer_counts_and_the_other_is_dropped(self):
        workers = with_targets(4)
        taken = stuck(workers)
        workers.step(0)
        assert taken == [0, 1, 2, 3]
        assert workers.dispatcher.num_awaited == 0
        workers.step(1)
        assert taken == [0, 1, 2, 3]
        assert not workers.pending

    @pytest.mark.parametrize("lost", [0, 1])
    def test_when_one_of_the_two_is_lost_the_other_goes_on(self, lost):
        workers = with_targets(4)
        taken = stuck(workers)
        call = workers.pending.pop(lost)
        del workers.names[lost]
        workers.dispatcher.react(Lost(lost, call, "gone"))
        workers.step()
        assert list(workers.pending) == [1 - lost], "nobody is asked a third time"
        workers.step(1 - lost)
        assert taken == [0, 1, 2, 3]

    def test_when_the_late_one_is_lost_after_the_answer_nothing_is_asked_again(self):
        workers = with_targets(4)
        taken = stuck(workers)
        add(workers, "evaluate", 1)
        workers.step(0)
        call = workers.pending.pop(1)
        del workers.names[1]
        workers.dispatcher.react(Lost(1, call, "no answer"))
        while workers.pending:
            workers.step(*workers.pending)
        assert taken == [0, 1, 2, 3]
        assert [call.key for _, call in workers.started].count(("collect", 3)) == 2


def on_machines(number, *machines):
    """Workers that made targets of groups; each machine has as many of these, and of each, a party batch in so many."""
    workers = Workers(machines=machines)
    group = partial(machine_of, len(set(machines)))
    add(workers, "targets", number, group=group)
    workers.dispatcher.hand_out()
    while workers.pending:
        workers.step(*workers.pending)
    return workers, add(workers, "collect", number, group=group)


def machine_of(num_machines, party_batch):
    return party_batch % (2 * num_machines)


def key_of(workers, worker):
    """The call that a worker has in hand."""
    return workers.pending[worker].key if worker in workers.pending else None


class TestGroups:
    """Sums of a group are read on the machine that its party batches' workers are on."""

    def test_what_one_machine_adds_stays_there(self):
        workers, _ = on_machines(8, "here", "there")
        workers.dispatcher.hand_out()
        workers.step(0, 1)
        for _ in range(3):
            workers.step(0)
        for _ in range(2):
            workers.step()
            assert list(workers.pending) == [1]

    def test_they_leave_a_machine_that_does_not_get_on(self):
        """Worker 1 keeps the first call of four; worker 0 does those of both its groups, that one included."""
        workers, taken = on_machines(8, "here", "there")
        workers.dispatcher.hand_out()
        workers.step(0)
        seconds = 1
        while workers.dispatcher.num_awaited:
            assert seconds < 20, "4 s for its own, until 5 s are over, and 4 s for the other's"
            workers.step(*(worker for worker in workers.pending if worker == 0))
            seconds += 1
        assert taken == list(range(8))
        assert list(workers.pending) == [1]
        workers.step(1)
        assert taken == list(range(8)), "what comes late is dropped"

    def test_not_as_long_as_one_worker_there_gets_on(self):
        workers, taken = on_machines(16, "here", "there", "here", "there")
        workers.dispatcher.hand_out()
        while workers.dispatcher.num_awaited:
            workers.step(*(worker for worker in list(workers.pending) if worker != 1))
        assert taken == list(range(16))
        at_home = {call.group % 2 for worker, call in workers.started if call.method == "collect" and worker in (0, 2)}
        assert len(at_home) == 1, "worker 3 did what worker 1 did not"

    def test_a_worker_is_of_use_for_what_waits_on_a_slow_machine(self):
        """Others were ended meanwhile, since they had nothing to do."""
        workers, _ = on_machines(8, "here", "there")
        workers.dispatcher.hand_out()
        while 0 in workers.pending:
            workers.step(0, seconds=0.1)
        del workers.names[0]
        workers.dispatcher.react(Stopped(0))
        assert workers.dispatcher.num_employable() == 1
        workers.step(seconds=30.0)
        assert workers.dispatcher.num_employable() > 1

    def test_a_group_moves_once_in_a_round(self):
        """Where it went stands still as well: what is kept is not thrown away again and again."""
        workers, taken = on_machines(12, "here", "there", "elsewhere")
        workers.dispatcher.hand_out()
        is_still = {1}
        for _ in range(60):
            moved = [worker for worker, call in workers.started if call.key in {key_of(workers, 1)} and worker != 1]
            is_still.update(moved)
            workers.step(*(worker for worker in workers.pending if worker not in is_still))
        assert len(is_still) == 2
        assert len([worker for worker in workers.pending if worker in is_still]) == 2
        workers.step(*workers.pending)
        while workers.pending:
            workers.step(*workers.pending)
        assert taken == list(range(12))
        assert max(Counter(call.key for _, call in workers.started).values()) == 2


@pytest.mark.parametrize(("grouped", "seed"), one_quick([(True, 2), (False, 0), (False, 1)]))
def test_whoever_takes_over_what_no_bit_changes(tmp_path, monkeypatch, grouped, seed):
    """Every worker that is idle takes over whatever it may, and tries whatever others have in hand; workers are
    lost."""
    monkeypatch.setattr(dispatcher_module, "takes_over", lambda *seconds: True)
    monkeypatch.setattr(dispatcher_module, "is_overlong", lambda *seconds: True)
    cluster = {"parties_per_batch": 1, "reduce_fanout": 2 if grouped else 3}
    scenario = associative_scenario(merge={"methods": ["global", "collabedit", "ties"]}, cluster=cluster)
    whole = run_serially(scenario, tmp_path / "serial")
    pool = LocalPool(
        scenario,
        open_facts(scenario),
        4,
        seed=seed,
        losses={"targets": 0.05, "collect": 0.05, "evaluate": 0.05},
        duplicates=0.1,
        late=0.5,
        num_machines=2 if grouped else 1,
    )
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        run_on(pool, directory)
    directory = RunDirectory.open(tmp_path / "run")
    assert difference(whole.arm_states(), directory.arm_states()) == []
    for table in ("edits", "parties", "metrics"):
        assert directory.table(table).equals(whole.table(table)), table
    assert audit.verify(directory) == ()
    kinds = [row["kind"] for row in directory.table("events").to_pylist()]
    assert kinds.count("taken-over") > 20
    tries = [call.key for _, call in pool.started]
    assert len(tries) > len(set(tries)), "some calls were tried by two workers"
