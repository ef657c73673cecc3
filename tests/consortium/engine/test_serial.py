"""Whole runs in one process: the merge is exact, nothing is lost or counted twice, and interruptions leave no trace."""

import numpy as np
import pytest
import torch
from consortium.common.errors import ModelError, RunError
from consortium.data.party_batch import PartyBatch
from consortium.editing.layer_schedule import plan_round
from consortium.editing.open import open_backend
from consortium.engine import serial
from consortium.engine.key_covariance import add_chunk
from consortium.loading.prepare import open_facts
from consortium.party.worker import Worker
from consortium.records.directory import RunDirectory
from support.pico import pico_folder
from support.scenarios import associative_scenario, difference, few_edits_scenario, pico_scenario, run_serially
from support.tiers import one_quick

BOTH = [
    (exchange, residual_schedule) for exchange in ("layer", "round") for residual_schedule in ("spread", "first_last")
]


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def pico(tmp_path_factory):
    return {kind: pico_folder(tmp_path_factory.mktemp(kind), kind, num_layers=4) for kind in ("llama", "gpt2")}


def make_scenario(model, pico, **changes):
    return associative_scenario(**changes) if model == "associative" else pico_scenario(pico[model], **changes)


def states_of(scenario, path):
    directory = run_serially(scenario, path)
    with RunDirectory.open(path) as reader:
        base = open_backend(scenario, open_facts(scenario)).base_weights()
        return directory, reader.arm_states(), base


def relative(left, right, base=None):
    """‖left - right‖ / ‖right - base‖ over all layers, in float64."""
    wide = {layer: weight.astype(np.float64) for layer, weight in right.items()}
    apart = sum(np.sum((left[layer].astype(np.float64) - wide[layer]) ** 2) for layer in wide)
    size = sum(np.sum((wide[layer] - (0 if base is None else base[layer])) ** 2) for layer in wide)
    return (apart / size) ** 0.5


class TestExactness:
    @pytest.mark.parametrize("statistics", one_quick(["dense", "factored"]))
    @pytest.mark.parametrize(("exchange", "residual_schedule"), BOTH)
    @pytest.mark.parametrize("model", ["associative", "llama", pytest.param("gpt2", marks=pytest.mark.slow)])
    def test_collabedit_is_global_edit(self, model, exchange, residual_schedule, statistics, pico, tmp_path):
        scenario = make_scenario(
            model,
            pico,
            stream={"rounds": 1},
            editor={"residual_schedule": residual_schedule},
            merge={"methods": ["global", "collabedit"], "exchange": exchange, "statistics": statistics},
        )
        _, states, base = states_of(scenario, tmp_path / "run")
        exact, merged = states["global"].weights, states["collabedit"].weights
        assert relative(exact, base) > 1e-3, "an update too small to be seen in float32 would prove nothing"
        assert relative(merged, exact) <= 1e-6
        assert relative(merged, exact, base) <= 1e-6

    @pytest.mark.parametrize(("exchange", "residual_schedule"), BOTH)
    @pytest.mark.parametrize("model", ["llama", "associative"])
    def test_collabedit_is_a_central_solve(self, model, exchange, residual_schedule, pico, tmp_path):
        """Δ = R·Kᵀ·(C + K·Kᵀ)⁻¹ for everybody's keys and residuals side by side, by a general solver."""
        scenario = make_scenario(
            model,
            pico,
            stream={"rounds": 1},
            editor={"residual_schedule": residual_schedule},
            merge={"methods": ["collabedit"], "exchange": exchange},
        )
        _, states, base = states_of(scenario, tmp_path / "run")
        contexts = RunDirectory.open(tmp_path / "run").recall("contexts")
        central = solve_centrally(scenario, contexts)
        assert relative(states["collabedit"].weights, central, base) <= 1e-6

    def test_the_second_round_solves_against_the_history(self, tmp_path):
        """global and collabedit stay together over rounds; without the history they would be elsewhere."""
        changes = {"stream": {"rounds": 3}, "merge": {"methods": ["global", "collabedit"]}}
        _, states, base = states_of(associative_scenario(**changes), tmp_path / "run")
        exact = states["global"].weights
        assert relative(states["collabedit"].weights, exact, base) <= 1e-6
        changes["merge"]["history_weight"] = 0.0
        _, forgetful, _ = states_of(associative_scenario(**changes), tmp_path / "without")
        assert relative(forgetful["collabedit"].weights, exact, base) > 1e-3

    def test_an_arms_own_history_weight_is_as_that_of_a_run_of_its_own(self, finished_run):
        weights = {"static": 0.0, "once": 1.0, "covariance": "covariance"}
        arms = [{"name": "collabedit", "label": label, "history_weight": h} for label, h in weights.items()]
        states = finished_run(few_edits_scenario(merge={"methods": arms})).arm_states()
        for label, weight in weights.items():
            merge = {"methods": [{"name": "collabedit", "label": label}], "history_weight": weight}
            alone = finished_run(few_edits_scenario(merge=merge)).arm_states()
            assert difference({label: states[label]}, alone) == []
        assert states["static"].history == {}

    @pytest.mark.parametrize("parties_per_batch", one_quick([3, 1, 7]))
    def test_party_batches_do_not_matter(self, parties_per_batch, finished_run):
        merge = {"methods": ["collabedit", "simple_average", "ties"]}
        by_two = finished_run(associative_scenario(merge=merge)).arm_states()
        other = associative_scenario(merge=merge, cluster={"parties_per_batch": parties_per_batch})
        states = finished_run(other).arm_states()
        for arm, state in states.items():
            assert relative(state.weights, by_two[arm].weights) <= 1e-6, arm


def solve_centrally(scenario, contexts):
    """One round, written out: every layer's keys and residuals of all parties, and one linear system."""
    facts = open_facts(scenario)
    worker = Worker(scenario, facts, open_backend(scenario, facts))
    model = worker.backend
    covariance = None
    for chunk in range(model.covariance_chunks()):
        covariance = add_chunk(covariance, model.covariance_sum(chunk))
    model.set_contexts(contexts)
    # Party batch by party batch, since a language model's own rounding depends on what is computed together.
    groups = [worker.party_data.edits(PartyBatch(1, party_batch)) for party_batch in range(scenario.num_party_batches)]
    weights, targets = model.base_weights(), {}
    for step in plan_round(scenario.editor, scenario.merge.exchange):
        for layer in step.targets:
            targets[layer] = [model.targets(edits, layer) for edits in groups]
        updates = {}
        for part in step.parts:
            pairs = zip(groups, targets[part.target_layer], strict=True)
            # From the bottom each time, so that what the run carries from layer to layer is put to the test.
            found = [model.keys_and_residuals(model.states(edits, part.layer, None), goal) for edits, goal in pairs]
            keys_KE, missing_VE = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
            covariance_KK = (
                torch.tensor(covariance.sums[part.layer]) * scenario.editor.covariance_weight / covariance.num_tokens
            )
            system_KK = covariance_KK + keys_KE @ keys_KE.T
            updates[part.layer] = torch.linalg.solve(system_KK, keys_KE @ missing_VE.T).T / part.divisor
        for layer, update_VK in updates.items():
            weights[layer] = (weights[layer].astype(np.float64) + update_VK.numpy()).astype(np.float32)
        model.load_weights(weights)
    return weights


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run, and what it told of its progress."""
    scenario = associative_scenario(stream={"rounds": 3}, evaluate={"every": 2})
    told = []
    with RunDirectory.create(tmp_path_factory.mktemp("records") / "run", scenario) as directory:
        serial.run_serial(scenario, directory, open_facts(scenario), told.append)
    return directory, told


class TestRecords:
    def test_every_request_is_accepted_once(self, recorded):
        directory, _ = recorded
        rows = directory.table("edits").to_pylist()
        places = [(row["round"], row["party"], row["index"]) for row in rows]
        assert sorted(places) == [(r, p, i) for r in (1, 2, 3) for p in range(7) for i in range(4)]

    def test_metrics_are_of_the_rounds_that_were_due(self, recorded):
        directory, _ = recorded
        rows = directory.table("metrics").to_pylist()
        assert {row["round"] for row in rows} == {2, 3}
        keys = [(row["round"], row["arm"], row["metric"], row["of_round"]) for row in rows]
        assert len(keys) == len(set(keys))
        assert {row["arm"] for row in rows} == {"unedited", *(spec.arm for spec in directory.scenario.merge.methods)}

    def test_progress_grows_to_the_whole(self, recorded):
        _, told = recorded
        shares = [progress.share_done for progress in told]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1.0)
        assert shares[len(shares) // 2] < 0.9
        assert {progress.phase for progress in told} >= {"covariance", "targets", "evaluate"}
        assert all(progress.done <= progress.total for progress in told)


class _EnoughError(Exception):
    pass


def interrupted(scenario, path, moment):
    """Run until ``moment(progress)`` says so; leaves the directory as a killed process would."""

    def watch(progress):
        if moment(progress):
            raise _EnoughError

    directory = RunDirectory.create(path, scenario)
    try:
        with pytest.raises(_EnoughError):
            serial.run_serial(scenario, directory, open_facts(scenario), watch)
    finally:
        directory.close()


def resumed(path):
    with RunDirectory.open(path) as directory:
        serial.run_serial(directory.scenario, directory, open_facts(directory.scenario), lambda progress: None)
    return RunDirectory.open(path)


MOMENTS = {
    "covariance": lambda progress: progress.phase == "covariance" and progress.done == 1,
    "first targets": lambda progress: (progress.phase, progress.round) == ("targets", 1),
    "round 2's targets": lambda progress: (progress.phase, progress.round, progress.done) == ("targets", 2, 8),
    "round 2's evaluation": lambda progress: (progress.phase, progress.round) == ("evaluate", 2) and progress.done > 0,
    "round 3's start": lambda progress: (progress.phase, progress.round, progress.done) == ("targets", 3, 0),
}


@pytest.fixture(scope="module")
def whole(finished_run):
    """An undisturbed run of three rounds."""
    return finished_run(associative_scenario(stream={"rounds": 3}))


@pytest.fixture(scope="module")
def few_edits(finished_run):
    """Five rounds of seven edits at K = 96: columns after rounds 1 to 3, at most 24; a base at round 4."""
    directory = finished_run(few_edits_scenario())
    histories = [each for state in directory.arm_states().values() for each in state.history.values()]
    assert {(each.base_round, tuple(each.columns)) for each in histories} == {(4, (5,))}
    return directory


class TestResume:
    @pytest.mark.parametrize("moment", MOMENTS)
    def test_an_interrupted_run_ends_with_the_same_bits(self, whole, moment, tmp_path):
        interrupted(whole.scenario, tmp_path / "run", MOMENTS[moment])
        directory = resumed(tmp_path / "run")
        assert directory.status == "done"
        assert difference(whole.arm_states(), directory.arm_states()) == []

    def test_tables_are_those_of_the_undisturbed_run(self, whole, tmp_path):
        interrupted(whole.scenario, tmp_path / "run", MOMENTS["round 2's evaluation"])
        directory = resumed(tmp_path / "run")
        for table in ("edits", "parties", "metrics"):
            assert directory.table(table).equals(whole.table(table)), table
        columns = ["round", "arm", "num_edits", "bytes_sent", "update_norm", "weights_distance", "update_distance"]
        assert directory.table("rounds").select(columns).equals(whole.table("rounds").select(columns))
        events = directory.table("events").to_pylist()
        assert [(row["round"], row["detail"]) for row in events if row["kind"] == "resumed"] == [(2, "after round 1")]

    def test_a_run_killed_after_its_last_commit_is_only_closed(self, whole, tmp_path):
        directory = RunDirectory.create(tmp_path / "run", whole.scenario)
        directory.mark_done = _raise_enough
        with pytest.raises(_EnoughError):
            serial.run_serial(whole.scenario, directory, open_facts(whole.scenario), lambda progress: None)
        directory.close()
        again = resumed(tmp_path / "run")
        assert again.status == "done"
        assert difference(whole.arm_states(), again.arm_states()) == []
        assert again.table("metrics").equals(whole.table("metrics"))

    @pytest.mark.parametrize("round_number", one_quick([4, 3, 5]))
    def test_histories_of_few_edits_end_with_the_same_bits(self, few_edits, round_number, tmp_path):
        """Killed while the history is columns, in the round that makes a base of them, and after it."""
        moment = lambda progress: (progress.phase, progress.round) == ("evaluate", round_number)  # noqa: E731
        interrupted(few_edits.scenario, tmp_path / "run", moment)
        assert difference(few_edits.arm_states(), resumed(tmp_path / "run").arm_states()) == []

    def test_a_language_model_ends_with_the_same_bits(self, pico, finished_run, tmp_path):
        """Contexts and the key covariance are kept, targets are optimised anew."""
        scenario = pico_scenario(pico["llama"], stream={"rounds": 2})
        whole = finished_run(scenario)
        interrupted(scenario, tmp_path / "run", lambda progress: (progress.phase, progress.round) == ("evaluate", 2))
        assert difference(whole.arm_states(), resumed(tmp_path / "run").arm_states()) == []


def _raise_enough():
    raise _EnoughError


def test_a_model_that_is_gone_is_the_users_error(tmp_path):
    scenario = pico_scenario(tmp_path / "no-model")
    with RunDirectory.create(tmp_path / "run", scenario) as directory, pytest.raises(ModelError):
        serial.run_serial(scenario, directory, open_facts(scenario), lambda progress: None)


def test_numbers_that_go_bad_stop_the_run_before_they_are_committed(tmp_path):
    """Task arithmetic with an absurd coefficient leaves float32's range; round 0 stays the last."""
    scenario = associative_scenario(merge={"methods": [{"name": "task_arithmetic", "alpha": 1e300}]})
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        with pytest.raises(RunError, match="is not finite"):
            serial.run_serial(scenario, directory, open_facts(scenario), lambda progress: None)
        assert directory.committed_round == 0
