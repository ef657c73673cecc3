"""The coordinator over workers in this process: the same bits as the serial twin, whatever goes wrong."""

import pickle
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from consortium.common.errors import RunError, ScenarioError
from consortium.engine import audit
from consortium.loading.prepare import open_facts
from consortium.merging.deltas import DenseUpdate
from consortium.records.directory import RunDirectory
from consortium.scenario.faults import OnFailureSpec
from consortium.scenario.methods import METHODS
from consortium_ray.coordinator.coordinator import Coordinator
from consortium_ray.workers.pool import Lost, Returned
from support.pools import LocalPool, run_on
from support.scenarios import (
    ALL_METHODS,
    associative_scenario,
    difference,
    few_edits_scenario,
    pico_scenario,
)
from support.tiers import one_quick

EVERYWHERE = {"describe": 0.2, "contexts": 0.2, "covariance_sum": 0.1, "targets": 0.1, "collect": 0.1, "evaluate": 0.1}
INJECTED_FAULT = {"losses": EVERYWHERE, "duplicates": 0.3, "late": 0.5}


@pytest.fixture(scope="module")
def serial_run(finished_run):
    return finished_run(associative_scenario(stream={"rounds": 3}))


def run_locally(scenario, path, **settings):
    """A finished run over a local pool: its directory and the pool."""
    with RunDirectory.create(path, scenario) as directory:
        pool = LocalPool(scenario, open_facts(scenario), **{"size": 3, **settings})
        run_on(pool, directory)
    return RunDirectory.open(path), pool


class TestSameBits:
    @pytest.mark.parametrize(("size", "seed"), one_quick([(3, 1), (1, 0), (3, 2)]))
    def test_as_the_serial_twin_in_any_order_of_answers(self, serial_run, size, seed, tmp_path):
        directory, _ = run_locally(serial_run.scenario, tmp_path / "run", size=size, seed=seed)
        assert difference(serial_run.arm_states(), directory.arm_states()) == []

    @pytest.mark.parametrize("seed", one_quick(range(4)))
    def test_when_workers_are_lost_at_random(self, serial_run, seed, tmp_path):
        directory, pool = run_locally(serial_run.scenario, tmp_path / "run", seed=seed, **INJECTED_FAULT)
        assert difference(serial_run.arm_states(), directory.arm_states()) == []
        for table in ("edits", "parties", "metrics"):
            assert directory.table(table).equals(serial_run.table(table)), table
        lost = [row for row in directory.table("events").to_pylist() if row["kind"] == "worker-lost"]
        assert len(lost) > 3
        assert len({row["worker"] for row in lost}) == len(lost)
        assert pool.delivered_late > 0

    @pytest.mark.parametrize("seed", one_quick(range(3)))
    def test_when_workers_join_and_end_in_the_middle_of_rounds(self, serial_run, seed, tmp_path):
        directory, _ = run_locally(
            serial_run.scenario, tmp_path / "run", seed=seed, size=4, moving=0.5, losses={"collect": 0.05}
        )
        assert difference(serial_run.arm_states(), directory.arm_states()) == []
        for table in ("edits", "parties", "metrics"):
            assert directory.table(table).equals(serial_run.table(table)), table
        events = directory.table("events").to_pylist()
        stopped = {row["worker"]: row["time_s"] for row in events if row["kind"] == "worker-stopped"}
        assert len(stopped) > 3
        assert len({row["worker"] for row in events if row["kind"] == "worker-started"}) > len(stopped)
        worked_afterwards = [
            row for row in events if row["worker"] in stopped and row["time_s"] > stopped[row["worker"]]
        ]
        assert worked_afterwards == []

    def test_when_parties_leave_out_what_the_model_holds(self, finished_run, tmp_path):
        scenario = associative_scenario(
            model={"key_width": 96},
            stream={"rounds": 3, "repeat": 0.5},
            overlap={"skip_known": "residual", "threshold": 0.5},
            merge={"methods": [*ALL_METHODS, {"name": "collabedit", "label": "sends-all", "skip_known": "none"}]},
        )
        whole = finished_run(scenario)
        directory, _ = run_locally(scenario, tmp_path / "run", **INJECTED_FAULT)
        assert difference(whole.arm_states(), directory.arm_states()) == []
        for table in ("parties", "residuals", "metrics"):
            assert directory.table(table).equals(whole.table(table)), table
        left_out = [row["num_skipped"] for row in whole.table("parties").to_pylist() if row["arm"] != "sends-all"]
        assert 0 < sum(left_out) < 4 * len(left_out)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("model", "exchange", "residual_schedule"),
        one_quick([("llama", "layer", "spread"), ("llama", "round", "spread"), ("gpt2", "layer", "first_last")]),
    )
    def test_with_a_language_model(self, model, exchange, residual_schedule, pico, finished_run, tmp_path):
        scenario = pico_scenario(
            pico[model],
            stream={"rounds": 2, "overlap": 0.5},
            editor={"residual_schedule": residual_schedule},
            merge={"methods": ALL_METHODS, "exchange": exchange},
            evaluate={"perplexity_text": "builtin", "perplexity_tokens": 400, "edits": "all"},
        )
        serial = finished_run(scenario)
        losses = {"targets": 0.1, "collect": 0.1, "evaluate": 0.1}
        directory, _ = run_locally(scenario, tmp_path / "run", seed=1, losses=losses, late=0.5, duplicates=0.2)
        assert difference(serial.arm_states(), directory.arm_states()) == []
        assert directory.table("metrics").equals(serial.table("metrics"))

    @pytest.mark.slow
    def test_with_methods_that_draw_or_weigh(self, finished_run, tmp_path):
        """And a history weight for each arm: masks and weights follow from the scenario alone."""
        names = [*(name for name in METHODS if name not in ALL_METHODS), "collabedit"]
        methods = [
            {"name": name, "history_weight": weight}
            for name, weight in zip(names, [0, 1, 2, "covariance", 0.5, 1, 0, 1, 2], strict=True)
        ]
        scenario = associative_scenario(stream={"rounds": 3}, merge={"methods": methods})
        serial = finished_run(scenario)
        directory, _ = run_locally(scenario, tmp_path / "run", losses={"collect": 0.1}, duplicates=0.2)
        assert difference(serial.arm_states(), directory.arm_states()) == []

    @pytest.mark.slow
    def test_when_parties_yield_to_what_others_taught(self, finished_run, tmp_path):
        scenario = associative_scenario(
            model={"key_width": 96},
            stream={"rounds": 3, "repeat": 0, "conflict": {"party": 0, "round": 0.5}},
            conflicts={"detect": "model_answer", "on_detect": "skip"},
            editor={"residual_schedule": "first_last"},
        )
        whole = finished_run(scenario)
        directory, _ = run_locally(scenario, tmp_path / "run", **INJECTED_FAULT)
        assert difference(whole.arm_states(), directory.arm_states()) == []
        for table in ("parties", "residuals", "metrics"):
            assert directory.table(table).equals(whole.table(table)), table
        rows = whole.table("residuals").to_pylist()
        assert sum(row["num_detected"] or 0 for row in rows) > 20
        assert {row["layer"] for row in rows if row["num_detected"] is None} == {2}, (
            "looked at before the first merge only"
        )

    @pytest.mark.slow
    def test_when_policies_reach_over_rounds(self, finished_run, tmp_path):
        """Workers are lost, and the run is stopped in round 3 and resumed: earlier rounds are resolved again."""
        scenario, alone = (
            associative_scenario(
                stream={"rounds": 4, "conflict": {"party": 0.25, "round": 0.5}, "overlap": 0, "sharing_group_size": 3},
                conflicts={"policy": "majority", "scope": scope, "num_paraphrases": 1},
                evaluate={"metrics": ["efficacy", "retention", "conflict_score", "conflict_magnitude"]},
            )
            for scope in ("run", "round")
        )
        serial = finished_run(scenario)
        apart = finished_run(alone).table("edits")["status"]
        assert apart[-28:] != serial.table("edits")["status"][-28:], "in the last round, to which earlier ones reach"
        losses = {**EVERYWHERE, "announce": 0.2}
        with RunDirectory.create(tmp_path / "run", scenario) as directory:
            pool = LocalPool(scenario, open_facts(scenario), 3, seed=1, losses=losses, late=0.3, duplicates=0.2)
            coordinator = Coordinator(scenario, directory, pool.facts, pool)
            while (directory.committed_round or 0) < 2:
                coordinator.step(0.0)
        with RunDirectory.open(tmp_path / "run") as directory:
            pool = LocalPool(scenario, open_facts(scenario), 3, seed=2, losses=losses, late=0.3, duplicates=0.2)
            run_on(pool, directory)
        again = RunDirectory.open(tmp_path / "run")
        assert difference(serial.arm_states(), again.arm_states()) == []
        for table in ("edits", "parties", "metrics"):
            assert again.table(table).equals(serial.table(table)), table

    @pytest.mark.parametrize("seed", one_quick(range(3)))
    def test_when_edits_are_settled_and_workers_are_lost(self, seed, finished_run, tmp_path):
        scenario = associative_scenario(
            stream={"rounds": 3, "sharing_group_size": 3},
            overlap={"duplicates": "count_once"},
            conflicts={"policy": "majority", "num_paraphrases": 2},
            evaluate={"metrics": ["efficacy", "retention", "conflict_score", "conflict_magnitude"]},
        )
        serial = finished_run(scenario)
        losses = {**EVERYWHERE, "announce": 0.3}
        directory, pool = run_locally(scenario, tmp_path / "run", seed=seed, losses=losses, late=0.5, duplicates=0.3)
        assert difference(serial.arm_states(), directory.arm_states()) == []
        for table in ("edits", "parties", "metrics"):
            assert directory.table(table).equals(serial.table(table)), table
        assert len([call for _, call in pool.started if call.method == "announce"]) >= 3 * 4
        statuses = set(directory.table("edits")["status"].to_pylist())
        assert statuses == {"unique", "duplicate", "accepted", "rejected"}

    @pytest.mark.slow
    def test_when_a_language_models_edits_are_settled(self, pico, finished_run, tmp_path):
        scenario = pico_scenario(
            pico["llama"],
            stream={"rounds": 2, "overlap": 0.5, "conflict": {"party": 0.5}},
            overlap={"duplicates": "count_once"},
            conflicts={"policy": "latest", "num_paraphrases": 2},
            evaluate={"metrics": ["efficacy", "conflict_score", "conflict_magnitude"]},
            cluster={"parties_per_batch": 1},
        )
        serial = finished_run(scenario)
        losses = {"announce": 0.2, "targets": 0.1, "collect": 0.1, "evaluate": 0.1}
        directory, _ = run_locally(scenario, tmp_path / "run", seed=1, losses=losses, late=0.5, duplicates=0.2)
        assert difference(serial.arm_states(), directory.arm_states()) == []
        assert directory.table("metrics").equals(serial.table("metrics"))

    @pytest.mark.parametrize("size", one_quick([3, 1]))
    def test_with_histories_of_few_edits(self, size, finished_run, tmp_path):
        """Workers extend what they solved in earlier rounds, or make it anew when they are new themselves."""
        scenario = few_edits_scenario()
        serial = finished_run(scenario)
        directory, _ = run_locally(scenario, tmp_path / "run", size=size, losses={"collect": 0.1})
        assert difference(serial.arm_states(), directory.arm_states()) == []

    def test_a_killed_run_goes_on_elsewhere(self, serial_run, tmp_path):
        """Stopped in the middle of each round by turns, on one, two and three workers, and finished by the last."""
        scenario, path = serial_run.scenario, tmp_path / "run"
        RunDirectory.create(path, scenario).close()
        for workers, stop in ((1, ("collect", 1)), (2, ("evaluate", 2)), (3, ("targets", 3)), (2, None)):
            with RunDirectory.open(path) as directory:
                pool = LocalPool(scenario, open_facts(scenario), workers, seed=workers, losses={"collect": 0.05})
                coordinator = Coordinator(scenario, directory, pool.facts, pool)
                while not coordinator.is_done and not _is_within(stop, pool):
                    coordinator.step(0.0)
        directory = RunDirectory.open(path)
        assert difference(serial_run.arm_states(), directory.arm_states()) == []
        for table in ("edits", "parties", "metrics"):
            assert directory.table(table).equals(serial_run.table(table)), table
        resumed = [row["detail"] for row in directory.table("events").to_pylist() if row["kind"] == "resumed"]
        assert resumed == ["after round 0", "after round 1", "after round 2"]


def _is_within(stop, pool):
    """Two calls of a method were started in a round; ``stop`` None never is."""
    if stop is None:
        return False
    method, number = stop
    rounds = [call.arguments[0].round for _, call in pool.started if call.method == method]
    return rounds.count(number) >= 2


class TestNothingLostNothingTwice:
    @pytest.fixture(scope="class")
    @staticmethod
    def merged(tmp_path_factory):
        """(arm, round, layer) → (edits, parties) of every sum that was merged, in a run full of trouble."""
        from consortium.engine.arms import Arm

        sums = []
        merge = Arm.merge

        def watched(arm, total, solver):
            sums.append((total.basis, total.num_edits, total.num_parties))
            merge(arm, total, solver)

        scenario = associative_scenario(stream={"rounds": 3})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Arm, "merge", watched)
            directory, _ = run_locally(scenario, tmp_path_factory.mktemp("merged") / "run", seed=7, **INJECTED_FAULT)
        return sums, directory

    def test_every_edit_is_in_exactly_one_merge_of_a_layer(self, merged):
        sums, directory = merged
        assert {(num_edits, num_parties) for _, num_edits, num_parties in sums} == {(28, 7)}
        places = [(basis.arm, basis.round, basis.layer) for basis, _, _ in sums]
        assert sorted(places) == sorted((arm, r, layer) for arm in ALL_METHODS for r in (1, 2, 3) for layer in range(3))
        accepted = Counter(row["round"] for row in directory.table("edits").to_pylist())
        assert accepted == {1: 28, 2: 28, 3: 28}

    def test_the_audit_says_so_and_what_it_took(self, merged):
        _, directory = merged
        assert audit.verify(directory) == ()
        rows = directory.table("audit").to_pylist()
        events = directory.table("events").to_pylist()
        collected = {
            (row["arm"], row["round"], row["layer"], row["party_batch"]): row["worker"]
            for row in events
            if row["kind"] == "collect"
        }
        assert collected == {
            (row["arm"], row["round"], row["layer"], row["party_batch"]): row["worker"] for row in rows
        }
        assert max(row["num_attempts"] for row in rows) > 1, "a worker was lost while it collected"
        assert sum(row["num_dropped"] for row in rows) > 0, "an answer came twice"

    def test_every_piece_of_work_counts_once(self, merged):
        _, directory = merged
        rows = [row for row in directory.table("events").to_pylist() if row["kind"] in ("collect", "evaluate")]
        keys = [(row["kind"], row["round"], row["arm"], row["layer"], row["party_batch"]) for row in rows]
        assert len(keys) == len(set(keys)) == 5 * 3 * 3 * 4 + 6 * 3 * 4


def drive(coordinator, pool, until):
    """Step until a call of a method is in flight; returns (worker, call)."""
    while True:
        for worker, call in reversed(pool.started):
            if call.method == until and pool.alive(worker) and pool._members[worker].call is call:
                return worker, call
        coordinator.step(0.0)


class TestFence:
    @pytest.fixture
    def running(self, tmp_path):
        scenario = associative_scenario(stream={"rounds": 1}, merge={"methods": ["collabedit"]})
        with RunDirectory.create(tmp_path / "run", scenario) as directory:
            pool = LocalPool(scenario, open_facts(scenario), 2)
            yield Coordinator(scenario, directory, pool.facts, pool), pool

    def test_an_answer_of_a_lost_worker_never_counts(self, running):
        coordinator, pool = running
        worker, call = drive(coordinator, pool, "collect")
        answer = pool._answer(pool._members[worker], call)
        coordinator.dispatcher.react(Lost(worker, call, "gone"))
        (batch,) = [batch for batch in coordinator.dispatcher._batches if batch.has(call)]
        left = batch.num_left
        coordinator.dispatcher.react(Returned(call, answer))
        assert (batch.num_left, batch._early) == (left, {})
        assert call.party_batch in batch._waiting

    def test_an_answer_to_another_rounds_call_never_counts(self, running):
        coordinator, pool = running
        worker, call = drive(coordinator, pool, "evaluate")
        assert 1 in call.key
        stale = type(call)((*call.key[:2], 0, *call.key[3:]), call.method, call.arguments, call.party_batch)
        before = [batch.num_left for batch in coordinator.dispatcher._batches]
        coordinator.dispatcher.react(Returned(stale, pool._answer(pool._members[worker], call)))
        assert [batch.num_left for batch in coordinator.dispatcher._batches] == before


def test_statistics_are_taken_where_targets_are_held(tmp_path):
    """Without losses, no worker is asked for statistics of a party batch whose targets another one holds."""
    scenario = associative_scenario(merge={"methods": ["collabedit"]}, stream={"rounds": 2})
    _, pool = run_locally(scenario, tmp_path / "run", seed=4)
    held = {call.holds: worker for worker, call in pool.started if call.holds is not None}
    asked = [(held[call.wants], worker) for worker, call in pool.started if call.wants is not None]
    assert asked
    assert all(holder == worker for holder, worker in asked)


def test_arms_share_the_first_rounds_targets(tmp_path):
    _, pool = run_locally(associative_scenario(stream={"rounds": 2}), tmp_path / "run")
    rounds = Counter(call.arguments[0].round for _, call in pool.started if call.method == "targets")
    assert rounds == {1: 4, 2: 4 * 5}


@pytest.mark.parametrize("phase", ["targets", "collect", "evaluate"])
def test_faults_strike_once_in_their_round_and_phase(serial_run, phase, tmp_path):
    scenario = serial_run.scenario.model_copy(
        update={
            "faults": associative_scenario(
                faults=[{"round": 2, "during": phase, "action": "kill", "what": "worker"}]
            ).faults
        }
    )
    directory, _ = run_locally(scenario, tmp_path / "run")
    lost = [row for row in directory.table("events").to_pylist() if row["kind"] == "worker-lost"]
    assert [row["round"] for row in lost] == [2]
    assert difference(serial_run.arm_states(), directory.arm_states()) == []


def test_losses_in_a_row_end_the_run(tmp_path):
    scenario = associative_scenario()
    with pytest.raises(
        RunError, match=r"3 workers were lost one after another without an answer to any call:\n  worker-\d on .*a test"
    ):
        run_locally(scenario, tmp_path / "run", losses={"collect": 1.0}, policy=OnFailureSpec(max_losses=2))
    assert RunDirectory.open(tmp_path / "run").committed_round == 0


def test_a_worker_that_sends_bad_numbers_is_named(tmp_path, monkeypatch):
    scenario = associative_scenario(merge={"methods": ["simple_average"]})
    finish = LocalPool._answer

    def spoilt(pool, member, call):
        answer = finish(pool, member, call)
        if call.method == "collect" and call.party_batch == 2:
            bad = replace(answer.value.contribution, update=DenseUpdate(np.full((10, 24), np.nan)))
            answer = replace(answer, value=replace(answer.value, contribution=bad))
        return answer

    monkeypatch.setattr(LocalPool, "_answer", spoilt)
    with pytest.raises(RunError, match="party batch 2"):
        run_locally(scenario, tmp_path / "run")


class TestProgress:
    @pytest.fixture(scope="class")
    @staticmethod
    def told(tmp_path_factory):
        scenario = associative_scenario(stream={"rounds": 2}, evaluate={"every": 2})
        progress = []
        with RunDirectory.create(tmp_path_factory.mktemp("told") / "run", scenario) as directory:
            pool = LocalPool(scenario, open_facts(scenario), 2, seed=5, losses={"collect": 0.1}, late=1.0)
            coordinator = Coordinator(scenario, directory, pool.facts, pool)
            while not coordinator.is_done:
                step = coordinator.step(0.0)
                assert step, "every step has something to tell"
                progress += step
        return progress

    def test_the_share_grows_to_one_whatever_was_lost(self, told):
        shares = [each.share_done for each in told]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1.0)
        assert shares[len(shares) // 3] < 0.9

    def test_phases_are_shown_with_their_units(self, told):
        assert {each.phase for each in told} >= {"covariance", "targets", "evaluate"}
        ends = {(each.phase, each.round): (each.done, each.total) for each in told}
        assert ends["targets", 1] == (28, 28)
        assert ends["targets", 2] == (28 * 5, 28 * 5)
        assert ends["evaluate", 2] == (12 * 6, 12 * 6)

    def test_what_is_awaited_is_said(self, told):
        assert any("x collect" in each.waiting_for for each in told)
        assert any("x targets" in each.waiting_for for each in told)


def test_before_any_worker_is_there_workers_are_awaited(tmp_path):
    scenario = associative_scenario()
    nobody = SimpleNamespace(
        idle=list,
        wait=lambda timeout_s: [],
        want=lambda num_workers, keeping: None,
        machines=dict,
        awaits_room=lambda: bool(no_room),
    )
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        no_room = True
        coordinator = Coordinator(scenario, directory, open_facts(scenario), nobody)
        assert coordinator.step(0.0)[-1].waiting_for == "a node with room for a worker"
        no_room = False
        assert coordinator.step(0.0)[-1].waiting_for == "workers to start"


def test_the_pool_is_told_how_many_workers_find_something_to_do(tmp_path):
    """Four party batches: all four at the start, never more calls than there are, and none while there is none."""
    scenario = associative_scenario(merge={"methods": ["collabedit"]})
    _, pool = run_locally(scenario, tmp_path / "run", size=2)
    assert pool.wanted[0] == scenario.num_party_batches == 4
    assert set(pool.wanted) >= {1, 2, 3, 4}
    assert max(pool.wanted) <= 4 * 2, "an arm's calls for one phase, and the unedited model's evaluation beside them"


def test_too_few_facts_are_refused_before_any_worker_is_asked(tmp_path):
    scenario = associative_scenario(facts={"limit": 5})
    with RunDirectory.create(tmp_path / "run", scenario) as directory, pytest.raises(ScenarioError):
        Coordinator(scenario, directory, open_facts(scenario), None)


class TestBounds:
    @staticmethod
    def largest_sum(num_parties, path, monkeypatch):
        """Bytes of the largest sum that was merged."""
        from consortium.engine.arms import Arm

        sizes = []
        merge = Arm.merge
        with monkeypatch.context() as patch:
            patch.setattr(
                Arm, "merge", lambda arm, total, solver: sizes.append(total.nbytes) or merge(arm, total, solver)
            )
            scenario = associative_scenario(
                parties={"count": num_parties},
                stream={"rounds": 1},
                merge={"methods": ["collabedit", "simple_average", "ties"], "statistics": "dense"},
                cluster={"parties_per_batch": 10},
            )
            run_locally(scenario, path)
        return max(sizes)

    @pytest.mark.slow
    def test_what_the_coordinator_holds_does_not_grow_with_the_parties(self, tmp_path, monkeypatch):
        few = self.largest_sum(10, tmp_path / "few", monkeypatch)
        many = self.largest_sum(200, tmp_path / "many", monkeypatch)
        assert many == few

    def test_references_to_weights_do_not_pile_up_over_rounds(self, tmp_path):
        """A round puts each arm's weights and histories once for each of their two versions, and keeps none."""
        pool = LocalPool(scenario := associative_scenario(stream={"rounds": 3}), open_facts(scenario), 2)
        put = []
        original = pool.put
        pool.put = lambda array: put.append(array.nbytes) or original(array)
        with RunDirectory.create(tmp_path / "run", scenario) as directory:
            coordinator = run_on(pool, directory)
        assert len(put) <= 3 + 3 * (3 + 5 * 2 * 3 + 3 * 2 * 3)
        assert coordinator.dispatcher._batches == []


def test_everything_that_passes_between_processes_pickles(tmp_path):
    """The local pool pickles all calls and answers; this looks at one of each kind."""
    seen = {}
    run_locally(
        associative_scenario(),
        tmp_path / "run",
        observe=lambda call, message: seen.setdefault(call.method, (call, message)),
    )
    assert set(seen) == {"describe", "covariance_sum", "contexts", "targets", "collect", "evaluate"}
    for call, message in seen.values():
        assert pickle.loads(pickle.dumps(call)).key == call.key
        assert pickle.loads(message).incarnation >= 0
