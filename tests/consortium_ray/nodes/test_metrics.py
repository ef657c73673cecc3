"""Gauges: what they say at the end of a run is what its tables say, and their number does not grow with the run."""

from dataclasses import fields

from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium_ray.nodes import metrics
from consortium_ray.nodes.metrics import RunMetrics, RunStatus
from consortium_ray.nodes.scaling_policy import WorkerCounts
from support.pools import LocalPool, run_on
from support.scenarios import associative_scenario


def recorder(values):
    """Stands for Ray's gauge, whose values only an exporter can read."""

    class Recorder:
        def __init__(self, name, description, tag_keys):
            assert description
            self.name, self.tag_keys = name, tag_keys

        def set(self, value, tags):
            assert tuple(tags) == self.tag_keys == ("scenario",)
            values[self.name] = value

    return Recorder


def test_a_status_agrees_with_the_tables(tmp_path):
    scenario = associative_scenario(
        merge={"methods": ["collabedit", "ties"]},
        attacks=[{"kind": "nan", "parties": [1]}],
        screening={"exclude_for": "run"},
    )
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        coordinator = run_on(LocalPool(scenario, open_facts(scenario), size=2), directory)
        rounds = directory.table("rounds").to_pylist()
        assert coordinator.status == RunStatus(
            round=scenario.stream.rounds,
            rounds_committed=scenario.stream.rounds,
            party_batches_awaited=0,
            bytes_sent=sum(row["bytes_sent"] for row in rounds),
            parties_rejected=sum(row["num_parties_rejected"] for row in rounds),
        )
        assert coordinator.status.bytes_sent > 0
        assert coordinator.status.parties_rejected > 0


def test_party_batches_are_awaited_while_a_round_goes_on(tmp_path):
    scenario = associative_scenario()
    seen = []
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        pool = LocalPool(scenario, open_facts(scenario), size=2)
        pool.observe = lambda call, message: seen.append(coordinators[0].status.party_batches_awaited)
        coordinators = []
        run_on(pool, directory, coordinators.append)
    assert max(seen) >= scenario.num_party_batches


def test_every_number_has_a_gauge_with_the_scenario_as_its_only_tag(monkeypatch):
    values = {}
    monkeypatch.setattr(metrics, "Gauge", recorder(values))
    workers = [
        WorkerCounts(0, 0, "here"),
        WorkerCounts(1, 0, "here", is_starting=True),
        WorkerCounts(2, 0, "there", idle_s=2.0),
    ]
    RunMetrics("storm").show(RunStatus(3, 2, 7, 1000, 1), workers, num_wanted=4)
    assert values == {
        "consortium_round": 3.0,
        "consortium_rounds_committed": 2.0,
        "consortium_party_batches_awaited": 7.0,
        "consortium_bytes_sent": 1000.0,
        "consortium_parties_rejected": 1.0,
        "consortium_workers_ready": 2.0,
        "consortium_workers_starting": 1.0,
        "consortium_workers_wanted": 4.0,
    }
    assert {each.name for each in fields(RunStatus)} < {name.removeprefix("consortium_") for name in values}
