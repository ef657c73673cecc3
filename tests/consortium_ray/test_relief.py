"""Work that waits for a busy host goes to one that is free: the real dispatcher, on a clock that is set by hand."""

from collections import Counter
from functools import partial

import pytest
from consortium.engine import audit
from consortium.engine.round_log import Journal
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium_ray.coordinator import dispatcher as dispatcher_module
from consortium_ray.coordinator.batches import Batch
from consortium_ray.coordinator.dispatcher import Dispatcher
from consortium_ray.faults.injection import Faults
from consortium_ray.messages import Answer, Call
from consortium_ray.workers.pool import Answered, Lost, Parked, Started
from support.pools import LocalPool, run_on
from support.scenarios import associative_scenario, difference, run_serially

SCENARIO = associative_scenario()


@pytest.fixture(autouse=True)
def _no_host_is_slow():
    """Here some are."""


class Hosts:
    """A pool whose hosts answer when they are told to."""

    def __init__(self, machines=("here", "here")):
        self.now = 0.0
        self.names = dict(enumerate(machines))
        self.pending = {}
        self.started = []
        self.dispatcher = Dispatcher(
            self, Faults(SCENARIO), Journal(SCENARIO, lambda: self.now), lambda batch, event: None
        )
        for host in self.names:
            self.dispatcher.react(Started(host))

    def machines(self):
        return self.names

    def idle(self):
        return [host for host in self.names if host not in self.pending]

    def alive(self, host):
        return host in self.names

    def can_lose_node(self, host):
        return False

    def start(self, host, call, trouble):
        self.pending[host] = call
        self.started.append((host, call))

    def step(self, *answering, seconds=1.0):
        """Time passes, some hosts answer, and all get what there is to do."""
        self.now += seconds
        for host in answering:
            call = self.pending.pop(host)
            self.dispatcher.react(Answered(call, Answer(host, call.cohort, 1.0)))
        self.dispatcher.hand_out()
        self.dispatcher.relieve()


def made(phase, number, group=None, **settings):
    return [
        Call(
            (phase, cohort),
            phase,
            (),
            cohort,
            holds=("t", cohort) if phase == "targets" else None,
            wants=("t", cohort),
            group=None if group is None else group(cohort),
        )
        for cohort in range(number)
    ]


def add(hosts, phase, number, **settings):
    taken = []
    hosts.dispatcher.add(
        Batch(phase, made(phase, number, **settings), lambda place, answer: taken.append(answer.value))
    )
    return taken


def with_targets(number=40, **settings):
    """Two hosts, each of which made the targets of half the cohorts in turns, in a second each."""
    hosts = Hosts(**settings)
    add(hosts, "targets", number)
    hosts.dispatcher.hand_out()
    while hosts.pending:
        hosts.step(*hosts.pending)
    return hosts


def until_done(hosts, slow, for_s, most=200):
    """Every host answers after a second, but the slow one, which keeps its fourth call for so long."""
    kept, since, seconds = None, None, 0
    while hosts.dispatcher.num_awaited:
        assert seconds < most
        mine = [call for host, call in hosts.started if host == slow and call.method == "collect"]
        if len(mine) == 4 and kept is None:
            kept, since = mine[-1], seconds
        is_slow = kept is not None and hosts.pending.get(slow) is kept and seconds - since < for_s
        hosts.step(*(host for host in list(hosts.pending) if host != slow or not is_slow))
        seconds += 1
    return seconds


def test_what_waits_for_a_slow_host_goes_to_the_one_that_is_free():
    """40 cohorts, 20 a host; one is slow for 45 s. Alone, the other does the rest in 40 s at the most."""
    hosts = with_targets()
    taken = add(hosts, "collect", 40)
    hosts.dispatcher.hand_out()
    took = until_done(hosts, slow=1, for_s=45)
    assert taken == list(range(40)), "each counts once, and in order"
    by_free = [call for host, call in hosts.started if host == 0 and call.method == "collect"]
    assert len(by_free) >= 36
    assert took < 48, "and the slow call itself was tried by the other"


def test_nothing_is_taken_from_a_host_that_keeps_pace():
    hosts = with_targets()
    add(hosts, "collect", 40)
    hosts.dispatcher.hand_out()
    holders = {call.cohort: host for host, call in hosts.started if call.method == "targets"}
    until_done(hosts, slow=1, for_s=0)
    assert all(holders[call.cohort] == host for host, call in hosts.started if call.method == "collect")


def test_a_host_that_joins_late_helps_the_one_that_holds_all():
    hosts = Hosts(machines=("here",))
    add(hosts, "targets", 20)
    hosts.dispatcher.hand_out()
    while hosts.pending:
        hosts.step(*hosts.pending)
    hosts.names[1] = "here"
    hosts.dispatcher.react(Started(1))
    add(hosts, "collect", 20)
    hosts.dispatcher.hand_out()
    assert until_done(hosts, slow=1, for_s=0) < 14


def stuck(hosts):
    """Host 1 keeps the last call of all; host 0 has nothing to do."""
    taken = add(hosts, "collect", 4)
    hosts.dispatcher.hand_out()
    hosts.step(0, 1)
    hosts.step(0)
    for _ in range(8):
        hosts.step()
    assert hosts.pending[0] is hosts.pending[1]
    return taken


class TestSecondTries:
    def test_the_first_answer_counts_and_the_other_is_dropped(self):
        hosts = with_targets(4)
        taken = stuck(hosts)
        hosts.step(0)
        assert taken == [0, 1, 2, 3]
        assert hosts.dispatcher.num_awaited == 0
        hosts.step(1)
        assert taken == [0, 1, 2, 3]
        assert not hosts.pending

    @pytest.mark.parametrize("lost", [0, 1])
    def test_when_one_of_the_two_is_lost_the_other_goes_on(self, lost):
        hosts = with_targets(4)
        taken = stuck(hosts)
        call = hosts.pending.pop(lost)
        del hosts.names[lost]
        hosts.dispatcher.react(Lost(lost, call, "gone"))
        hosts.step()
        assert list(hosts.pending) == [1 - lost], "nobody is asked a third time"
        hosts.step(1 - lost)
        assert taken == [0, 1, 2, 3]

    def test_when_the_late_one_is_lost_after_the_answer_nothing_is_asked_again(self):
        hosts = with_targets(4)
        taken = stuck(hosts)
        add(hosts, "evaluate", 1)
        hosts.step(0)
        call = hosts.pending.pop(1)
        del hosts.names[1]
        hosts.dispatcher.react(Lost(1, call, "no answer"))
        while hosts.pending:
            hosts.step(*hosts.pending)
        assert taken == [0, 1, 2, 3]
        assert [call.key for _, call in hosts.started].count(("collect", 3)) == 2


def on_machines(number, *machines):
    """Hosts that made targets of groups; each machine has as many of these, and of each, a cohort in so many."""
    hosts = Hosts(machines=machines)
    group = partial(machine_of, len(set(machines)))
    add(hosts, "targets", number, group=group)
    hosts.dispatcher.hand_out()
    while hosts.pending:
        hosts.step(*hosts.pending)
    return hosts, add(hosts, "collect", number, group=group)


def machine_of(num_machines, cohort):
    return cohort % (2 * num_machines)


def key_of(hosts, host):
    """The call that a host has in hand."""
    return hosts.pending[host].key if host in hosts.pending else None


class TestGroups:
    """Sums of a group are read on the machine that its cohorts' hosts are on."""

    def test_what_one_machine_adds_stays_there(self):
        hosts, _ = on_machines(8, "here", "there")
        hosts.dispatcher.hand_out()
        hosts.step(0, 1)
        for _ in range(3):
            hosts.step(0)
        for _ in range(2):
            hosts.step()
            assert list(hosts.pending) == [1]

    def test_they_leave_a_machine_that_does_not_get_on(self):
        """Host 1 keeps the first call of four; host 0 does those of both its groups, that one included."""
        hosts, taken = on_machines(8, "here", "there")
        hosts.dispatcher.hand_out()
        hosts.step(0)
        seconds = 1
        while hosts.dispatcher.num_awaited:
            assert seconds < 20, "4 s for its own, until 5 s are over, and 4 s for the other's"
            hosts.step(*(host for host in hosts.pending if host == 0))
            seconds += 1
        assert taken == list(range(8))
        assert list(hosts.pending) == [1]
        hosts.step(1)
        assert taken == list(range(8)), "what comes late is dropped"

    def test_not_as_long_as_one_host_there_gets_on(self):
        hosts, taken = on_machines(16, "here", "there", "here", "there")
        hosts.dispatcher.hand_out()
        while hosts.dispatcher.num_awaited:
            hosts.step(*(host for host in list(hosts.pending) if host != 1))
        assert taken == list(range(16))
        at_home = {call.group % 2 for host, call in hosts.started if call.method == "collect" and host in (0, 2)}
        assert len(at_home) == 1, "host 3 did what host 1 did not"

    def test_a_host_is_of_use_for_what_waits_on_a_slow_machine(self):
        """Others were ended meanwhile, since they had nothing to do."""
        hosts, _ = on_machines(8, "here", "there")
        hosts.dispatcher.hand_out()
        while 0 in hosts.pending:
            hosts.step(0, seconds=0.1)
        del hosts.names[0]
        hosts.dispatcher.react(Parked(0))
        assert hosts.dispatcher.num_employable() == 1
        hosts.step(seconds=30.0)
        assert hosts.dispatcher.num_employable() > 1

    def test_a_group_moves_once_in_a_round(self):
        """Where it went stands still as well: what is kept is not thrown away again and again."""
        hosts, taken = on_machines(12, "here", "there", "elsewhere")
        hosts.dispatcher.hand_out()
        is_still = {1}
        for _ in range(60):
            moved = [host for host, call in hosts.started if call.key in {key_of(hosts, 1)} and host != 1]
            is_still.update(moved)
            hosts.step(*(host for host in hosts.pending if host not in is_still))
        assert len(is_still) == 2
        assert len([host for host in hosts.pending if host in is_still]) == 2
        hosts.step(*hosts.pending)
        while hosts.pending:
            hosts.step(*hosts.pending)
        assert taken == list(range(12))
        assert max(Counter(call.key for _, call in hosts.started).values()) == 2


@pytest.mark.parametrize(("grouped", "seed"), [(False, 0), (False, 1), (True, 2)])
def test_whoever_takes_over_what_no_bit_changes(tmp_path, monkeypatch, grouped, seed):
    """Every host that is idle takes over whatever it may, and tries whatever others have in hand; hosts are lost."""
    monkeypatch.setattr(dispatcher_module, "takes_over", lambda *seconds: True)
    monkeypatch.setattr(dispatcher_module, "is_overlong", lambda *seconds: True)
    cluster = {"cohort_size": 1, "group_size": 2 if grouped else 3}
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
    assert difference(whole.lane_states(), directory.lane_states()) == []
    for table in ("edits", "parties", "metrics"):
        assert directory.table(table).equals(whole.table(table)), table
    assert audit.verify(directory) == ()
    kinds = [row["kind"] for row in directory.table("events").to_pylist()]
    assert kinds.count("taken-over") > 20
    tries = [call.key for _, call in pool.started]
    assert len(tries) > len(set(tries)), "some calls were tried by two hosts"
