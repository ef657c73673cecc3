"""Faults on purpose over workers in this process: when they happen, how often, and that the bits stay the same."""

from types import SimpleNamespace

import pytest
from consortium.common.errors import ClusterError, RunError
from consortium.engine import audit
from consortium.loading.prepare import open_facts
from consortium.records.directory import STAGES, RunDirectory
from consortium.scenario.faults import FAULTS, CorruptAnswerFault, DelayFault, DiskFullFault, KillFault, PartitionFault
from consortium_ray.checksums import verified, with_checksum
from consortium_ray.coordinator.coordinator import Coordinator
from consortium_ray.faults import actions
from consortium_ray.faults.injection import Faults
from consortium_ray.faults.node_loss import check_nodes, expendable
from consortium_ray.messages import Reply
from consortium_ray.nodes.placement import FIXED, Growth
from support.pools import CoordinatorKilledError, LocalPool, run_on
from support.scenarios import associative_scenario, difference, run_serially, unlearning_scenario
from support.tiers import one_quick

METHODS = ["global", "collabedit"]
TABLES = ("edits", "parties", "metrics")


def small(*faults, **changes):
    return associative_scenario(faults=list(faults), merge={"methods": METHODS}, **changes)


def by_ones(*faults, grouped=False):
    """Seven party batches of one party each, added up by two machines, or here for want of groups."""
    return small(*faults, cluster={"parties_per_batch": 1, "reduce_fanout": 2 if grouped else 3})


@pytest.fixture(scope="module")
def whole_by_ones(tmp_path_factory):
    """Runs that nothing befell, by whether sums are grouped."""
    folder = tmp_path_factory.mktemp("by-ones")
    return {grouped: run_serially(by_ones(grouped=grouped), folder / str(grouped)) for grouped in (False, True)}


@pytest.fixture(scope="module")
def whole(finished_run):
    return finished_run(small())


def run_with_restarts(scenario, path, most=10):
    """As the driver does: another coordinator for each that is killed; (directory, events, number of restarts)."""
    RunDirectory.create(path, scenario).close()
    for restarts in range(most):
        with RunDirectory.open(path) as directory:
            try:
                run_on(LocalPool(scenario, open_facts(scenario), 3, seed=restarts), directory)
            except CoordinatorKilledError:
                continue
        directory = RunDirectory.open(path)
        return directory, directory.table("events").to_pylist(), restarts
    raise AssertionError("coordinators are killed for ever")


def assert_same(whole, directory):
    assert difference(whole.arm_states(), directory.arm_states()) == []
    for table in TABLES:
        assert directory.table(table).equals(whole.table(table)), table
    assert audit.verify(directory) == ()


class TestOccasions:
    def faults(self, *faults, kept=None, **changes):
        memory = {"faults": kept} if kept else {}
        found = Faults(small(*faults, **changes), memory.get, memory.__setitem__)
        return found, memory

    def calls(self, faults, phase="collect", round_number=1, number=100):
        never = lambda: False  # noqa: E731
        return [key for key in range(number) if faults.at_call(phase, round_number, key, never)]

    def test_a_fault_happens_once_in_its_round_and_phase_where_nothing_else_is_said(self):
        faults, _ = self.faults({"round": 2, "during": "collect"})
        assert self.calls(faults, "targets", 2) == self.calls(faults, "collect", 1) == []
        assert self.calls(faults, "collect", 2) == [0]
        assert self.calls(faults, "collect", 2) == []

    def test_a_rate_is_drawn_for_each_occasion_whoever_comes_first(self):
        """100 calls at 0.1: ten, give or take 3 standard deviations of 3; the same ones in any order."""
        fault = {"rate": 0.1, "max": 1000}
        struck = self.calls(self.faults(fault)[0])
        assert 1 <= len(struck) <= 19
        backwards, _ = self.faults(fault)
        found = [key for key in reversed(range(100)) if backwards.at_call("collect", 1, key, lambda: False)]
        assert found[::-1] == struck
        assert self.calls(self.faults(fault, seed=4)[0]) != struck
        assert self.calls(self.faults(fault)[0], round_number=2) != struck

    def test_it_happens_at_most_so_often_and_once_at_each_occasion(self):
        faults, _ = self.faults({"max": 3})
        assert self.calls(faults) == [0, 1, 2]
        faults, _ = self.faults({"max": 3})
        assert self.calls(faults, number=1) == [0]
        assert self.calls(faults, number=1) == []

    def test_what_has_happened_is_remembered(self):
        fault = {"max": 2}
        faults, memory = self.faults(fault)
        assert self.calls(faults, number=1) == [0]
        again, _ = self.faults(fault, kept=memory["faults"])
        assert self.calls(again) == [1]

    @pytest.mark.parametrize("fault", [{"action": "kill", "what": "node"}, {"action": "partition", "seconds": 20.0}])
    def test_a_node_dies_or_is_cut_off_only_where_it_can_be_lost(self, fault):
        faults, _ = self.faults(fault)
        assert faults.at_call("collect", 1, 0, lambda: False) is None
        assert faults.at_call("collect", 1, 0, lambda: True) == FAULTS[fault["action"]](**fault)

    def test_what_needs_a_call_never_befalls_a_merge_or_a_commit(self):
        faults, _ = self.faults(
            {"action": "delay", "seconds": 1.0},
            {"action": "corrupt_answer"},
            {"action": "kill", "what": "node"},
            {"action": "partition", "seconds": 20.0},
        )
        assert faults.at_merge(1, "global", 0) is None
        assert [faults.at_commit(1, stage) for stage in STAGES] == [None] * 4

    def test_a_full_disk_befalls_one_stage_of_a_commit_and_nothing_else(self):
        faults, _ = self.faults({"action": "disk_full"})
        assert self.calls(faults) == []
        assert faults.at_merge(1, "global", 0) is None
        assert len([stage for stage in STAGES if faults.at_commit(1, stage)]) == 1

    def test_stages_are_drawn_over_all_four(self):
        found = set()
        for number in range(1, 30):
            faults, _ = self.faults({"during": "commit", "action": "kill", "what": "coordinator"})
            found |= {stage for stage in STAGES if faults.at_commit(number, stage)}
        assert found == set(STAGES)


class TestActions:
    def test_a_worker_does_what_strikes_its_call(self, monkeypatch):
        done = []
        monkeypatch.setattr(actions, "end_node", lambda: done.append("node ends"))
        monkeypatch.setattr(actions, "cut_node", lambda seconds: done.append(f"node is cut off for {seconds:g}"))
        monkeypatch.setattr(actions.time, "sleep", lambda seconds: done.append(f"late by {seconds:g}"))
        answer = with_checksum(Reply(0, "kept", 0.0))
        for fault in (None, KillFault(what="node"), PartitionFault(action="partition", seconds=20), KillFault()):
            actions.before_call(fault)
            assert actions.after_call(fault, answer) is answer
        actions.after_call(DelayFault(action="delay", seconds=2.5), answer)
        assert done == ["node ends", "node is cut off for 20", "late by 2.5"]
        assert verified(actions.after_call(CorruptAnswerFault(action="corrupt_answer"), answer)) is None

    def test_the_coordinator_kills_and_has_no_space(self):
        done = []
        pool = SimpleNamespace(kill=done.append, kill_coordinator=lambda: done.append("coordinator"))
        for fault in (KillFault(), KillFault(what="coordinator"), KillFault(what="node")):
            actions.at_coordinator(fault, pool, 3)
        actions.at_coordinator(KillFault(), pool, None)
        assert done == [3, "coordinator"]
        with pytest.raises(OSError, match="No space left"):
            actions.at_coordinator(DiskFullFault(action="disk_full"), pool, 3)


class TestSameBits:
    @pytest.mark.parametrize("phase", one_quick(["collect", "covariance", "targets", "merge", "evaluate", "commit"]))
    @pytest.mark.parametrize("what", ["worker", "coordinator"])
    def test_whatever_is_killed_in_any_phase(self, whole, tmp_path, phase, what):
        fault = {"round": 0 if phase == "covariance" else 2, "during": phase, "action": "kill", "what": what}
        directory, events, restarts = run_with_restarts(small(fault), tmp_path / "run")
        assert_same(whole, directory)
        if what == "coordinator":
            assert restarts == 1
        else:
            assert [row["kind"] for row in events].count("worker-lost") == (phase != "commit")  # idle, and the run ends

    def test_when_workers_are_killed_while_edits_are_taken_back(self, finished_run, tmp_path):
        fault = {"round": 3, "during": "unlearn", "action": "kill", "what": "coordinator"}
        scenario = unlearning_scenario(faults=[fault, {**fault, "action": "kill", "what": "worker"}])
        directory, events, restarts = run_with_restarts(scenario, tmp_path / "run")
        assert_same(finished_run(scenario), directory)
        assert restarts == 1
        assert "worker-lost" in [row["kind"] for row in events]

    def test_when_answers_arrive_damaged(self, whole, tmp_path):
        scenario = small({"action": "corrupt_answer", "rate": 0.2, "max": 20})
        directory, events, _ = run_with_restarts(scenario, tmp_path / "run")
        assert_same(whole, directory)
        refused = [row for row in events if row["kind"] == "answer-refused"]
        assert len(refused) > 5
        assert {row["detail"] for row in refused} == {"its answer arrived damaged: the checksum differs"}
        assert max(row["num_attempts"] for row in directory.table("audit").to_pylist()) == 2

    @pytest.mark.parametrize("phase", one_quick(["collect", "targets", "evaluate"]))
    @pytest.mark.parametrize("what", ["dies", "is cut off", "is cut off and given up"])
    @pytest.mark.parametrize("grouped", [False, True])
    def test_whatever_befalls_a_node_in_any_phase(self, whole_by_ones, tmp_path, phase, what, grouped):
        """Two of four workers are on the node. It is given up after 20 steps: not in a cut of 6, but in one of 500."""
        how = (
            {"action": "kill", "what": "node"}
            if what == "dies"
            else {"action": "partition", "seconds": 6.0 if what == "is cut off" else 500.0}
        )
        scenario = by_ones({"round": 2, "during": phase, **how}, grouped=grouped)
        pool = LocalPool(scenario, open_facts(scenario), 4, num_machines=2, detection=20)
        with RunDirectory.create(tmp_path / "run", scenario) as directory:
            run_on(pool, directory)
        directory = RunDirectory.open(tmp_path / "run")
        assert_same(whole_by_ones[grouped], directory)
        events = directory.table("events").to_pylist()
        (fault,) = [row for row in events if row["kind"] == "fault"]
        assert int(fault["worker"].removeprefix("worker-")) % 2 == 1
        lost = {row["worker"] for row in events if row["kind"] == "worker-lost"}
        if what == "is cut off":
            assert lost == set()
        else:
            assert lost == {"worker-1", "worker-3"}
        assert pool.delivered_late == (2 if what == "is cut off and given up" else 0)

    def test_when_the_disk_is_full_and_has_room_again(self, whole, tmp_path):
        on_failure = {"wait_s": 0.01}
        scenario = small({"action": "disk_full", "max": 2}, cluster={"on_failure": on_failure})
        directory, events, _ = run_with_restarts(scenario, tmp_path / "run")
        assert_same(whole, directory)
        assert [row["round"] for row in events if row["kind"] == "disk-full"] == [1, 2]

    def test_when_the_disk_is_full_and_the_policy_is_to_stop(self, whole, tmp_path):
        scenario = small(
            {"round": 2, "during": "commit", "action": "disk_full"}, cluster={"on_failure": {"disk": "stop"}}
        )
        path = tmp_path / "run"
        with pytest.raises(RunError, match="no space is left on the disk"):
            run_with_restarts(scenario, path)
        stopped = RunDirectory.open(path)
        assert stopped.committed_round == 1
        assert not list(path.rglob(".writing-*"))
        with RunDirectory.open(path) as directory:
            run_on(LocalPool(scenario, open_facts(scenario), 2), directory)
        assert_same(whole, RunDirectory.open(path))


def test_while_the_disk_is_full_that_is_what_is_waited_for(tmp_path):
    scenario = small({"round": 1, "action": "disk_full"}, cluster={"on_failure": {"wait_s": 0.2}})
    told = []
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        coordinator = Coordinator(
            scenario, directory, open_facts(scenario), LocalPool(scenario, open_facts(scenario), 2)
        )
        while not coordinator.is_done:
            told += [progress.waiting_for for progress in coordinator.step(0.0)]
    assert "space on the disk" in told


def test_damage_without_end_stops_the_run(tmp_path):
    scenario = small({"action": "corrupt_answer", "max": 1000}, cluster={"parties_per_batch": 1})
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        run_on(LocalPool(scenario, open_facts(scenario), 2), directory)
    kinds = [row["kind"] for row in RunDirectory.open(tmp_path / "run").table("events").to_pylist()]
    assert kinds.count("answer-refused") > 50, "each call is damaged once and then answered"


HEAD = {"NodeID": "head", "Alive": True, "Resources": {"node:__internal_head__": 1.0}}
OTHER = {"NodeID": "other", "Alive": True, "Resources": {"CPU": 1.0}}
DEAD = {"NodeID": "dead", "Alive": False, "Resources": {"CPU": 1.0}}


class TestNodes:
    def test_the_head_and_the_coordinators_node_cannot_be_lost(self):
        assert expendable([HEAD, OTHER, DEAD], "head") == {"other"}
        assert expendable([HEAD, OTHER], "other") == set()

    def test_a_cluster_of_one_node_is_refused(self):
        scenario = small({"round": 1, "during": "collect"}, {"action": "kill", "what": "node"})
        check_nodes(scenario, [HEAD, OTHER], "head", FIXED)
        with pytest.raises(ClusterError, match=r"faults\.1: kill node, on a cluster of 1 node"):
            check_nodes(scenario, [HEAD, DEAD], "head", FIXED)

    def test_cutting_a_node_off_is_refused_likewise(self):
        scenario = small({"action": "partition", "seconds": 20.0})
        check_nodes(scenario, [HEAD, OTHER], "head", FIXED)
        with pytest.raises(ClusterError, match=r"faults\.0: partition 20, on a cluster of 1 node"):
            check_nodes(scenario, [HEAD, DEAD], "head", FIXED)

    def test_a_cluster_whose_nodes_are_still_to_come_is_not(self):
        check_nodes(
            small({"action": "kill", "what": "node"}, {"action": "partition", "seconds": 20.0}),
            [HEAD],
            "head",
            Growth(is_known=False),
        )

    def test_scenarios_that_spare_nodes_run_anywhere(self):
        check_nodes(small({"round": 1, "during": "collect"}), [HEAD], "head", FIXED)
