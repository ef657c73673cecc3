"""Chaos: workers and coordinators are killed in every phase, and nobody can tell from the results.

Three passes over two small scenarios on one Ray: a warm-up, a clean one, and one in which what a seed draws is killed.
Two scenarios, since parties do not announce their edits where they may take them back. A pass of faults is several
runs; all together kill more than fifty times. The few of the quick test are drawn in the same way.
"""

from __future__ import annotations

import pytest
from consortium.common.seeds import numpy_generator
from consortium.engine import audit
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium_ray import runtime
from support.leaks import assert_nothing_left, left_behind
from support.scenarios import associative_scenario, difference, unlearning_scenario

ROUNDS = 3
BASE = {
    "parties": {"count": 6, "edits_per_round": 2},
    "merge": {"methods": ["global", "collabedit"]},
    "evaluate": {"sample": 6, "metrics": ["efficacy", "retention"]},
    "cluster": {
        "parties_per_batch": 1,
        "workers": {"min": 1, "max": 2, "cpus": 0.1},
        "timeout_s": 900.0,  # a busy machine takes minutes to start a worker
        # Kills fall thicker here than anywhere else, and nothing is answered between some of them.
        "on_failure": {"max_losses": 30},
    },
}
PHASES = {
    "resolving": ("announce", "targets", "collect", "merge", "evaluate", "commit"),
    "unlearning": ("targets", "collect", "unlearn", "merge", "evaluate", "commit"),
}
#: Times and workers may differ, and how often something had to be asked.
DIFFERS = {
    "rounds": {"targets_s", "collect_s", "merge_s", "evaluate_s"},
    "audit": {"worker", "num_attempts", "num_dropped"},
}
NUM_RUNS, WORKER_KILLS, COORDINATOR_KILLS = 5, 8, 3


def scenario_of(kind, faults=()):
    if kind == "unlearning":
        unlearn = {
            "parties": [{"round": 3, "parties": [2]}],
            "edits": [{"round": 3, "parties": [0, 4], "of_round": 1, "share": 0.5}],
        }
        changes = {**BASE, "merge": {}, "stream": {"rounds": ROUNDS}, "unlearn": unlearn}
        return unlearning_scenario(**changes, faults=list(faults))
    resolving = {"overlap": {"duplicates": "count_once"}, "conflicts": {"policy": "latest"}}
    return associative_scenario(**BASE, **resolving, stream={"rounds": ROUNDS}, faults=list(faults))


def drawn_faults(kind, seed, num_workers, num_coordinators):
    """So many kills, each in a round and phase that a seed draws."""
    generator = numpy_generator(seed, "chaos", kind)
    whats = ["worker"] * num_workers + ["coordinator"] * num_coordinators
    faults = []
    for what in whats:
        phase = PHASES[kind][generator.integers(len(PHASES[kind]))]
        number = 3 if phase == "unlearn" else int(generator.integers(1, ROUNDS + 1))
        faults.append({"round": number, "during": phase, "action": "kill", "what": what})
    return faults


def run(scenario, path):
    with RunDirectory.create(path, scenario) as directory:
        runtime.run_on_ray(scenario, directory, open_facts(scenario), lambda progress: None)
        struck = directory.recall("faults", [])
    return RunDirectory.open(path), [fault for fault, at in zip(scenario.faults, struck, strict=False) for _ in at]


def contents(directory):
    """Every table that is no record of what happened, but for what may differ."""
    names = [name for name in directory.manifest.tables if name not in ("events", "nodes")]
    return {name: directory.table(name).drop_columns(list(DIFFERS.get(name, ()))) for name in names}


def assert_same(left, right):
    assert difference(left.arm_states(), right.arm_states()) == []
    assert contents(left) == contents(right)
    assert audit.verify(right) == ()
    assert not list(right.path.rglob(".writing-*"))


@pytest.fixture(scope="module")
def clean(ray_here, finished_run, tmp_path_factory):
    """The warm-up and the clean pass of both scenarios, and what they left behind."""
    found = {}
    for kind in PHASES:
        warm_up, _ = run(scenario_of(kind), tmp_path_factory.mktemp("warm-up") / kind)
        found[kind], _ = run(scenario_of(kind), tmp_path_factory.mktemp("clean") / kind)
        assert_same(warm_up, found[kind])
        assert_same(finished_run(scenario_of(kind)), found[kind])
    now = left_behind()
    assert_nothing_left(type(now)((), (), now.shared_memory, now.reserved, now.files))
    return found, left_behind()


@pytest.mark.slow
def test_five_kills_change_nothing(clean, tmp_path):
    found, before = clean
    directory, kills = run(scenario_of("resolving", drawn_faults("resolving", 1, 4, 1)), tmp_path / "run")
    assert [fault.what for fault in kills] == ["worker"] * 4 + ["coordinator"]
    assert_same(found["resolving"], directory)
    assert_nothing_left(before)


@pytest.mark.chaos
def test_more_than_fifty_kills_change_nothing(clean, tmp_path):
    found, before = clean
    kills = []
    for number in range(NUM_RUNS):
        kind = list(PHASES)[number % 2]
        faults = drawn_faults(kind, 10 + number, WORKER_KILLS, COORDINATOR_KILLS)
        directory, struck = run(scenario_of(kind, faults), tmp_path / f"run-{number}")
        assert_same(found[kind], directory)
        kills += struck
    assert len(kills) >= 50
    assert {fault.what for fault in kills} == {"worker", "coordinator"}
    assert {fault.during for fault in kills} == {phase for phases in PHASES.values() for phase in phases}
    assert {fault.round for fault in kills} == set(range(1, ROUNDS + 1))
    assert_nothing_left(before)
