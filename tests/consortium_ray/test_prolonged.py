"""A run over workers that is given more rounds, against its final scenario run serially from the start."""

import pytest
from consortium.engine import audit
from consortium.loading.changing import changed
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from support.pools import LocalPool, run_on
from support.scenarios import associative_scenario, difference
from support.tiers import one_quick

TABLES = ("edits", "parties", "metrics", "residuals")  # the audit names workers


@pytest.mark.slow
@pytest.mark.parametrize("partition", one_quick(["iid", "dirichlet"]))
def test_a_prolonged_run_over_workers_has_the_bits_of_the_serial_twin(finished_run, tmp_path, partition):
    scenario = associative_scenario(parties={"partition": {"kind": partition}}, stream={"rounds": 1})
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        run_on(LocalPool(scenario, open_facts(scenario), 2), directory)
    for rounds in (2, 4):
        with RunDirectory.open(tmp_path / "run") as directory:
            directory.lock()
            settings = [f"stream.rounds={rounds}", "cluster.workers.max=3"]
            directory.change_scenario(changed(directory.scenario, settings, directory.committed_round, directory.path))
            grown = directory.scenario
            run_on(LocalPool(grown, open_facts(grown), 3, seed=rounds, losses={"collect": 0.2}), directory)
    run = RunDirectory.open(tmp_path / "run")
    assert (run.committed_round, run.scenario.stream.prolonged) == (4, (1, 2))
    whole = finished_run(run.scenario)
    assert difference(run.arm_states(), whole.arm_states()) == []
    for name in TABLES:
        assert run.table(name).equals(whole.table(name)), name
    assert audit.verify(run.path) == ()
