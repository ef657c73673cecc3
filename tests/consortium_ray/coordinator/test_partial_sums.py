"""Sums by machines: workers of a machine add a group and send one sum, with the bits of the serial twin."""

import pickle
from collections import Counter

import pytest
from consortium.common.errors import RunError
from consortium.engine.audit import verify
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium_ray.coordinator import partial_sums
from consortium_ray.coordinator.partial_sums import look_ahead
from consortium_ray.messages import PartialSum, StoredContribution
from consortium_ray.workers.worker_actor import WorkerActor
from ray.exceptions import OwnerDiedError
from support.pools import LocalPool, run_on
from support.scenarios import associative_scenario, difference, run_serially, unlearning_scenario
from support.tiers import one_quick

#: Seven parties, each a party batch of its own, in four groups.
GROUPS = {
    "cluster": {"parties_per_batch": 1, "reduce_fanout": 2},
    "merge": {"methods": ["global", "collabedit", "ties"]},
}
#: Sums of a run: groups, arms, layers, rounds.
NUM_SUMS = 4 * 3 * 3 * 2
INJECTED_FAULT = {
    "losses": {"targets": 0.1, "keep": 0.15, "add_up": 0.2, "evaluate": 0.1},
    "duplicates": 0.3,
    "late": 0.5,
}


@pytest.fixture(scope="module")
def serial_run(finished_run):
    return finished_run(associative_scenario(**GROUPS))


def run_on_machines(scenario, path, num_machines=2, size=4, **settings):
    """A run over a local pool, and every answer that the coordinator got."""
    answers = []
    with RunDirectory.create(path, scenario) as directory:
        pool = LocalPool(scenario, open_facts(scenario), size=size, num_machines=num_machines, **settings)
        pool.observe = lambda call, message: answers.append((call, pickle.loads(message)))
        run_on(pool, directory)
    return RunDirectory.open(path), answers, pool


@pytest.mark.parametrize("seed", one_quick(range(2)))
def test_two_machines_give_the_serial_bits(serial_run, seed, tmp_path):
    directory, answers, _ = run_on_machines(serial_run.scenario, tmp_path / "run", seed=seed)
    assert difference(serial_run.arm_states(), directory.arm_states()) == []
    for table in ("edits", "parties", "metrics"):
        assert directory.table(table).equals(serial_run.table(table)), table
    partial_sums = [answer.value for _, answer in answers if isinstance(answer.value, PartialSum)]
    # One sum for each of four groups, arm, layer and round: what the coordinator gets does not grow with party batches.
    assert len(partial_sums) == NUM_SUMS
    assert not [call for call, _ in answers if call.method == "collect"]
    assert {type(answer.value) for call, answer in answers if call.method == "keep"} == {StoredContribution}


@pytest.mark.parametrize("seed", one_quick(range(3)))
def test_what_went_with_a_worker_is_computed_again(serial_run, seed, tmp_path):
    directory, answers, _ = run_on_machines(serial_run.scenario, tmp_path / "run", seed=seed, **INJECTED_FAULT)
    assert difference(serial_run.arm_states(), directory.arm_states()) == []
    for table in ("edits", "parties", "metrics"):
        assert directory.table(table).equals(serial_run.table(table)), table
    missing = [answer.value.missing for _, answer in answers if isinstance(answer.value, PartialSum)]
    assert any(missing)


def test_a_groups_party_batches_are_worked_on_by_one_machine(serial_run, tmp_path):
    _, _, pool = run_on_machines(serial_run.scenario, tmp_path / "run")
    machines = {}
    for incarnation, call in pool.started:
        if call.group is not None:
            round_number = call.key[1] if call.key[0] == "targets" else None
            machines.setdefault((round_number, call.group), set()).add(incarnation % 2)
    at_targets = [found for (round_number, _), found in machines.items() if round_number is not None]
    assert at_targets
    assert all(len(found) == 1 for found in at_targets)
    assert set.union(*at_targets) == {0, 1}


def test_one_machine_and_few_groups_leave_the_adding_to_the_coordinator(serial_run, tmp_path):
    for name, num_machines in (("one", 1), ("three", 3)):
        directory, answers, _ = run_on_machines(serial_run.scenario, tmp_path / name, num_machines)
        assert not [call for call, _ in answers if call.method == "keep"]
        assert difference(serial_run.arm_states(), directory.arm_states()) == []


def test_what_is_taken_back_is_added_by_machines_too(finished_run, tmp_path):
    """Parties of all four groups take something back in round 3."""
    scenario = unlearning_scenario(
        cluster=GROUPS["cluster"],
        merge={"methods": ["collabedit"]},
        stream={"rounds": 3},
        unlearn={"edits": [{"round": 3, "parties": [0, 2, 4, 6], "share": 0.5}]},
    )
    whole = finished_run(scenario)
    directory, answers, _ = run_on_machines(scenario, tmp_path / "run", losses={"keep": 0.1})
    assert difference(whole.arm_states(), directory.arm_states()) == []
    assert [call for call, _ in answers if call.method == "keep" and call.arguments[0] == "unlearn"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", one_quick(range(2)))
def test_parties_that_are_refused_leave_the_same_bits(seed, tmp_path, monkeypatch):
    """Party 1 is refused in every round: its group is not added, and the arm's round begins again without it.

    There are more party batches than may run ahead of what is added, which is nothing any more.
    """
    monkeypatch.setattr(partial_sums, "LOOK_AHEAD", 1)
    parties = {"count": 14, "edits_per_round": 2}
    scenario = associative_scenario(
        **GROUPS, parties=parties, attacks=[{"kind": "nan", "parties": [1]}], stream={"rounds": 2}
    )
    whole = run_serially(scenario, tmp_path / "serial")
    assert {row["rejected"] for row in whole.table("parties").to_pylist() if row["party"] == 1} == {"not finite"}
    directory, answers, _ = run_on_machines(scenario, tmp_path / "run", seed=seed, **INJECTED_FAULT)
    assert difference(whole.arm_states(), directory.arm_states()) == []
    for table in ("edits", "parties", "metrics"):
        assert directory.table(table).equals(whole.table(table)), table
    assert [call for call, _ in answers if call.method == "add_up"]


def test_the_audit_counts_how_often_what_was_kept_was_asked_for(serial_run, tmp_path):
    directory, _, pool = run_on_machines(serial_run.scenario, tmp_path / "run", **INJECTED_FAULT)
    assert verify(directory) == ()
    asked = Counter(
        (*call.key[1:4], call.party_batch) for _, call in pool.started if call.method in ("keep", "collect")
    )
    attempts = {
        (row["arm"], row["round"], row["layer"], row["party_batch"]): row["num_attempts"]
        for row in directory.table("audit").to_pylist()
    }
    assert attempts == asked
    assert max(asked.values()) > 1


def test_small_rounds_employ_every_machine(tmp_path):
    """Seven party batches are one group of 16: the coordinator adds, and workers of both machines work."""
    scenario = associative_scenario(cluster={"parties_per_batch": 1}, merge={"methods": ["collabedit"]})
    _, answers, _ = run_on_machines(scenario, tmp_path / "run", num_machines=2, size=2)
    for method in ("targets", "collect"):
        assert {answer.incarnation % 2 for call, answer in answers if call.method == method} == {0, 1}, method


def test_groups_are_added_as_soon_as_they_are_there(tmp_path, monkeypatch):
    """Twenty groups: no more is kept than the eight answers that may run ahead of what is in the sum."""
    monkeypatch.setattr(partial_sums, "LOOK_AHEAD", 1)
    changes = {"cluster": {"parties_per_batch": 1, "reduce_fanout": 2}, "parties": {"count": 40, "edits_per_round": 1}}
    scenario = associative_scenario(**changes, merge={"methods": ["collabedit"]}, stream={"rounds": 1})
    _, answers, _ = run_on_machines(scenario, tmp_path / "run", num_machines=2, size=4)
    waiting, most = Counter(), 0
    for call, _ in answers:
        if call.method in ("keep", "add_up"):
            layer = call.key[3 if call.method == "keep" else 4]
            waiting[layer] += 1 if call.method == "keep" else -2
            most = max(most, waiting[layer])
    assert 2 <= most <= look_ahead(2, 2) == 8


@pytest.mark.parametrize("shown_after", one_quick([3, 6, 9]))
def test_targets_held_elsewhere_are_made_again_where_the_group_is_added(serial_run, shown_after, tmp_path):
    """A second machine is known of in the middle of targets: workers of both hold some of one group."""
    directory, answers, _ = run_on_machines(serial_run.scenario, tmp_path / "run", size=2, shown_after=shown_after)
    assert difference(serial_run.arm_states(), directory.arm_states()) == []
    added = [answer.value for call, answer in answers if call.method == "add_up"]
    assert added
    assert not any(each.missing for each in added), "no worker was lost"


def test_what_is_lost_for_ever_stops_the_run(serial_run, tmp_path, monkeypatch):
    monkeypatch.setattr(partial_sums, "_MOST_LOSSES", 1)
    with pytest.raises(RunError, match="was lost 2 times over"):
        run_on_machines(serial_run.scenario, tmp_path / "run", losses={"add_up": 0.9})


def test_nothing_is_read_from_another_machine():
    """It may be cut off, and Ray would wait for it without end."""
    scenario, read = associative_scenario(), []

    def fetch(ref):
        read.append(ref)
        raise OwnerDiedError("", None, "")

    worker = WorkerActor(0, scenario, open_facts(scenario), fetch=fetch, where=lambda: "here")
    assert worker.add_up([(4, "one", "here"), (7, "another", "there")]) == PartialSum(None, (4, 7))
    assert read == ["one"]


def test_each_machine_may_run_two_groups_ahead():
    assert look_ahead(16, 1) == 32
    assert look_ahead(16, 4) == 128
