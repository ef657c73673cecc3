"""Runs that share a cache of targets: the same bits whether it was empty or full, and the tables say which it was."""

import pytest
from consortium.editing.language import LanguageBackend
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium_ray.coordinator.coordinator import Coordinator
from support.pools import LocalPool
from support.scenarios import associative_scenario, difference, pico_scenario, run_serially
from support.tiers import one_quick

#: Two arms whose weights differ: arms with the same bits find each other's targets.
ARMS = {"merge": {"methods": ["collabedit", "ties"]}, "stream": {"rounds": 2}}
CACHED = {"cluster": {"target_cache": True}, **ARMS}


@pytest.fixture
def optimised(monkeypatch, tmp_path):
    """A cache of this test's own, and the edits of every optimisation since."""
    monkeypatch.setenv("CONSORTIUM_CACHE", str(tmp_path / "cache"))
    calls = []
    optimise = LanguageBackend.targets

    def watched(backend, edits, layer):
        calls.append(len(edits))
        return optimise(backend, edits, layer)

    monkeypatch.setattr(LanguageBackend, "targets", watched)
    return calls


def run_locally(scenario, path, **settings):
    progress = []
    with RunDirectory.create(path, scenario) as directory:
        pool = LocalPool(scenario, open_facts(scenario), **{"size": 2, **settings})
        coordinator = Coordinator(scenario, directory, pool.facts, pool)
        while not coordinator.is_done:
            progress += coordinator.step(0.0)
    return RunDirectory.open(path), progress


def details_of(directory):
    return [row["detail"] for row in directory.table("events").to_pylist() if row["kind"] == "targets"]


@pytest.mark.slow
@pytest.mark.parametrize("residual_schedule", one_quick(["spread", "first_last"]))
def test_a_repeated_run_optimises_nothing_and_ends_with_the_same_bits(
    pico, optimised, residual_schedule, finished_run, tmp_path
):
    scenario = pico_scenario(pico["llama"], editor={"residual_schedule": residual_schedule}, **CACHED)
    cold, _ = run_locally(scenario, tmp_path / "cold")
    assert optimised
    assert set(details_of(cold)) == {None}
    optimised.clear()
    warm, told = run_locally(scenario, tmp_path / "warm", seed=3)
    serial = finished_run(scenario)
    assert optimised == []
    assert set(details_of(warm)) == {"4 of 4 targets from the disk cache", "2 of 2 targets from the disk cache"}
    assert set(details_of(serial)) == set(details_of(warm))
    shares = [progress.share_done for progress in told]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    # And as without any cache.
    off = pico_scenario(pico["llama"], editor={"residual_schedule": residual_schedule}, **ARMS)
    plain, _ = run_locally(off, tmp_path / "plain")
    for each in (warm, serial, plain):
        assert difference(cold.arm_states(), each.arm_states()) == []
        assert each.table("metrics").equals(cold.table("metrics"))


def test_the_reports_of_cold_and_warm_targets_are_the_same(pico, optimised, tmp_path):
    """Steps and losses are stored beside the targets."""
    from consortium.party.worker import Worker

    reports = []
    original = Worker.targets
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "targets", lambda *a: reports.append(original(*a)) or reports[-1])
        for name in ("cold", "warm"):
            run_serially(pico_scenario(pico["gpt2"], cluster={"target_cache": True}), tmp_path / name)
    cold, warm = reports[: len(reports) // 2], reports[len(reports) // 2 :]
    assert [(r.num_edits, r.num_steps, r.loss, r.num_finished) for r in cold] == [
        (r.num_edits, r.num_steps, r.loss, r.num_finished) for r in warm
    ]
    assert {r.num_cached for r in cold} == {0}
    assert [r.num_cached for r in warm] == [r.num_edits for r in warm]


def test_runs_that_ask_for_other_merges_share_the_first_rounds_targets(pico, optimised, tmp_path):
    one_arm = CACHED | {"merge": {"methods": ["collabedit"]}}
    run_locally(pico_scenario(pico["llama"], **one_arm), tmp_path / "one")
    of_one_arm = len(optimised)
    run_locally(pico_scenario(pico["llama"], **CACHED), tmp_path / "two")
    # Two rounds of two party batches; the second run adds its other arm's second round.
    assert (of_one_arm, len(optimised)) == (4, 6)


def test_arms_of_the_same_weights_share_targets(pico, optimised, tmp_path):
    """Names of their versions differ, contents do not."""
    same = CACHED | {"merge": {"methods": ["collabedit", {"name": "collabedit", "label": "again"}]}}
    run_locally(pico_scenario(pico["llama"], **same), tmp_path / "run", size=1)
    assert len(optimised) == 4


def test_without_the_option_and_for_other_models_nothing_is_kept(pico, optimised, finished_run, tmp_path):
    finished_run(pico_scenario(pico["llama"]))
    finished_run(associative_scenario())
    assert not (tmp_path / "cache/targets").exists()
