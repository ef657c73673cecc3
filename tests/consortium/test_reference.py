"""Whole runs with ``merge.reference: initial``: rounds in any order, and what was removed was never there."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from consortium.data.party_batch import PartyBatch
from consortium.data.stream import Stream
from consortium.editing.layer_schedule import plan_round
from consortium.editing.open import open_backend
from consortium.engine import serial
from consortium.engine.arms import expected_work, num_optimisations, open_arms, units_of
from consortium.engine.key_covariance import add_chunk
from consortium.loading.prepare import open_facts, prepare
from consortium.party.worker import Worker
from consortium.records.directory import RunDirectory
from consortium.report.page import build_report, run_of
from consortium.report.sections import unlearning
from consortium.report.summary import result_table, summary
from support.pico import pico_folder
from support.report import texts
from support.scenarios import associative_scenario, difference, pico_scenario, run_serially, unlearning_scenario
from support.tiers import one_quick

BASE = {"methods": ["global", "collabedit"], "reference": "initial", "exchange": "round"}
FRESH = {"overlap": 0, "conflict": 0, "repeat": 0}


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return pico_folder(tmp_path_factory.mktemp("llama"), "llama", num_layers=4)


@pytest.fixture(scope="module")
def removed_parties(tmp_path_factory):
    """A run in which parties leave and take edits back, undisturbed; it has a report."""
    directory = run_serially(unlearning_scenario(), tmp_path_factory.mktemp("removed_parties") / "run")
    build_report(directory)
    return directory


def make_scenario(model, llama, **changes):
    if model == "associative":
        return associative_scenario(**changes)
    # One party a party batch: nobody's targets are optimised beside those of a party that is not there in another run.
    changes["cluster"] = {"parties_per_batch": 1, **changes.get("cluster", {})}
    return pico_scenario(llama, **changes)


def base_of(scenario):
    return open_backend(scenario, open_facts(scenario)).base_weights()


def apart(left, right, base=None):
    """‖left - right‖ / ‖right - base‖ over all layers, in float64; without a base, of the weights themselves."""
    wide = {layer: weight.astype(np.float64) for layer, weight in right.items()}
    away = sum(np.sum((left[layer].astype(np.float64) - wide[layer]) ** 2) for layer in wide)
    size = sum(np.sum((wide[layer] - (0 if base is None else base[layer])) ** 2) for layer in wide)
    return (away / size) ** 0.5


def compare(left, right):
    """The largest distance of two runs' updates over arms, where updates are large enough to be seen."""
    base = base_of(left.scenario)
    ours, theirs = left.arm_states(), right.arm_states()
    assert all(apart(state.weights, base) > 1e-3 for state in theirs.values())
    return max(apart(ours[arm].weights, theirs[arm].weights, base) for arm in theirs)


def merge_centrally(scenario, contexts):
    """W₀ + R·Kᵀ·(C + K·Kᵀ)⁻¹ over the edits of all rounds that still stand, by a general solver."""
    facts = open_facts(scenario)
    worker = Worker(scenario, facts, open_backend(scenario, facts))
    model, stream, covariance = worker.backend, worker.stream, None
    for chunk in range(model.covariance_chunks()):
        covariance = add_chunk(covariance, model.covariance_sum(chunk))
    model.set_contexts(contexts)
    weights = model.base_weights()
    model.load_weights(weights)
    for part in plan_round(scenario.editor, "round")[0].parts:
        found = []
        for number, party_batch in itertools.product(
            range(1, scenario.stream.rounds + 1), range(scenario.num_party_batches)
        ):
            requests = [each for party in scenario.party_batch(party_batch) for each in stream.requests(number, party)]
            if requests:
                edits = worker.party_data.edits(PartyBatch(number, party_batch))
                targets = model.targets(edits, part.target_layer)
                stands = [stream.is_live(request, scenario.stream.rounds) for request in requests]
                pair = model.keys_and_residuals(model.states(edits, part.layer, None), targets)
                found.append([columns[:, stands] for columns in pair])
        keys_KE, missing_VE = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        covariance_KK = (
            torch.tensor(covariance.sums[part.layer]) * scenario.editor.covariance_weight / covariance.num_tokens
        )
        update_VK = torch.linalg.solve(covariance_KK + keys_KE @ keys_KE.T, keys_KE @ missing_VE.T).T / part.divisor
        weights[part.layer] = (weights[part.layer].astype(np.float64) + update_VK.numpy()).astype(np.float32)
    return weights


@pytest.mark.parametrize("residual_schedule", ["spread", "first_last"])
@pytest.mark.parametrize("model", one_quick(["associative", "llama"]))
class TestExact:
    def test_it_is_one_solve_over_all_edits_that_stand(self, model, residual_schedule, llama, finished_run):
        """Of collabedit and of global, by a party that left and single edits that were removed."""
        gone = {"parties": [{"round": 3, "parties": [2]}], "edits": [{"round": 2, "parties": [0], "share": 0.5}]}
        scenario = make_scenario(
            model,
            llama,
            stream={"rounds": 3},
            unlearn=gone,
            merge=BASE,
            editor={"residual_schedule": residual_schedule},
        )
        directory = finished_run(scenario)
        states, base = directory.arm_states(), base_of(scenario)
        central = merge_centrally(scenario, directory.recall("contexts"))
        assert apart(central, base) > 1e-3, "an update too small to be seen in float32 would prove nothing"
        for arm, state in states.items():
            assert apart(state.weights, central, base) <= 1e-6, arm

    def test_the_order_of_rounds_does_not_matter(
        self, model, residual_schedule, llama, finished_run, tmp_path, monkeypatch
    ):
        scenario = make_scenario(
            model, llama, stream={"rounds": 3, **FRESH}, merge=BASE, editor={"residual_schedule": residual_schedule}
        )
        whole = finished_run(scenario)
        asked = Stream.requests

        def permuted(stream, number, party):
            requests = asked(stream, {1: 3, 2: 1, 3: 2}[number], party)
            return tuple(dataclasses.replace(request, round=number) for request in requests)

        monkeypatch.setattr(Stream, "requests", permuted)
        other = run_serially(scenario, tmp_path / "312")
        assert other.table("edits")["subject"] != whole.table("edits")["subject"]
        assert compare(other, whole) <= 1e-6

    def test_after_it_left_a_party_was_never_there(self, model, residual_schedule, llama, finished_run):
        """Against a run in which it never takes part; all others ask for the same."""
        changes = {"merge": BASE, "editor": {"residual_schedule": residual_schedule}}
        left, never, stayed = (
            finished_run(
                make_scenario(model, llama, stream={"rounds": 3, **FRESH}, unlearn={"parties": leave}, **changes)
            )
            for leave in ([{"round": 3, "parties": [1]}], [{"round": 1, "parties": [1]}], [])
        )
        assert compare(left, never) <= 1e-6
        assert compare(stayed, never) > 1e-2
        assert left.table("edits").num_rows > never.table("edits").num_rows


def test_the_first_round_is_that_of_the_default(finished_run):
    """Nothing was merged before it, so it makes no difference; later rounds do differ."""
    methods = ["collabedit", {"name": "collabedit", "label": "anchored", "reference": "initial"}]
    merge = {"methods": methods, "exchange": "round"}
    one, three = (
        finished_run(associative_scenario(stream={"rounds": rounds}, merge=merge)).arm_states() for rounds in (1, 3)
    )
    assert apart(one["anchored"].weights, one["collabedit"].weights) <= 1e-7
    assert apart(three["anchored"].weights, three["collabedit"].weights) > 1e-3
    assert three["anchored"].history == {} == three["collabedit"].retained


@pytest.mark.parametrize("key_width", [24, 96])
def test_of_one_linear_layer_both_anchors_make_the_same_model(key_width, finished_run):
    """Recursive least squares: from Wᵣ = Wᵣ₋₁ + (Z − Wᵣ₋₁·K)·Kᵀ·Aᵣ⁻¹ with Aᵣ = Aᵣ₋₁ + K·Kᵀ, K and Z of round r,

    (Wᵣ − W₀)·Aᵣ = (Wᵣ₋₁ − W₀)·Aᵣ₋₁ + (Z − W₀·K)·Kᵀ: residuals against W₀ add up. Keys and targets of one layer of an
    associative memory do not depend on its weights; contradictions and repeats make no difference.
    """
    methods = ["collabedit", {"name": "collabedit", "label": "anchored", "reference": "initial"}]
    scenario = associative_scenario(
        model={"key_width": key_width},
        stream={"rounds": 4},
        editor={"layers": [1]},
        merge={"methods": methods, "exchange": "round"},
    )
    states = finished_run(scenario).arm_states()
    assert apart(states["anchored"].weights, states["collabedit"].weights, base_of(scenario)) <= 1e-6


class _EnoughError(Exception):
    pass


@pytest.mark.parametrize(
    ("phase", "round_number"), one_quick([("evaluate", 3), ("targets", 2), ("targets", 4), ("evaluate", 4)])
)
def test_a_run_that_was_killed_takes_back_once(removed_parties, phase, round_number, tmp_path):
    """Before, in, and after the round in which a party leaves; the bits are those of the undisturbed run."""

    def watch(progress):
        if (progress.phase, progress.round) == (phase, round_number):
            raise _EnoughError

    with RunDirectory.create(tmp_path / "run", removed_parties.scenario) as directory, pytest.raises(_EnoughError):
        serial.run_serial(removed_parties.scenario, directory, open_facts(removed_parties.scenario), watch)
    with RunDirectory.open(tmp_path / "run") as directory:
        serial.run_serial(directory.scenario, directory, open_facts(directory.scenario), lambda progress: None)
    again = RunDirectory.open(tmp_path / "run")
    assert difference(removed_parties.arm_states(), again.arm_states()) == []
    for table in ("edits", "parties", "metrics"):
        assert again.table(table).equals(removed_parties.table(table)), table


class TestRecords:
    def test_the_live_sum_is_of_what_stands(self, removed_parties):
        edits = removed_parties.table("edits").to_pylist()
        stands = [row for row in edits if row["removed"] is None]
        assert 0 < len(edits) - len(stands) < len(edits)
        retained = [each for state in removed_parties.arm_states().values() for each in state.retained.values()]
        assert {each.num_edits for each in retained} == {len(stands)}
        assert {each.basis.round for each in retained} == {4}

    def test_rows_count_who_was_there_and_what_went(self, removed_parties):
        rounds = {row["round"]: row for row in removed_parties.table("rounds").to_pylist()}
        assert [rounds[number]["num_parties"] for number in (1, 2, 3, 4)] == [7, 7, 6, 6]
        assert [rounds[number]["num_edits"] for number in (1, 2, 3, 4)] == [28, 28, 24, 24]
        # Party 2 takes 8 with it, 0 and 4 half of 4 each; of the 10 that 4 then has, 0.3 in round 4.
        assert [rounds[number]["num_removed"] for number in (1, 2, 3, 4)] == [0, 0, 8 + 2 + 2, 3]
        parties = [row for row in removed_parties.table("parties").to_pylist() if row["arm"] == "collabedit"]
        of_two = [(row["round"], row["num_edits"], row["num_removed"]) for row in parties if row["party"] == 2]
        assert of_two == [(1, 4, 0), (2, 4, 0), (3, 0, 8)]
        sent = {(row["round"], row["party"]): row["bytes_sent"] for row in parties}
        assert sent[3, 2] == 2 * sent[1, 2], "eight columns for each layer, in one message over both rounds"
        assert sent[3, 0] > sent[3, 1], "its own edits and those that it removes"
        edits = removed_parties.table("edits").to_pylist()
        assert {row["removed"] for row in edits if row["party"] == 2} == {3}
        assert max(row["round"] for row in edits if row["party"] == 2) == 2

    def test_every_arm_subtracts_once_a_layer(self, removed_parties):
        rows = [row for row in removed_parties.table("events").to_pylist() if row["kind"] == "unlearn"]
        places = {(row["round"], row["arm"], row["layer"]) for row in rows}
        assert places == set(itertools.product((3, 4), ("global", "collabedit"), (0, 1, 2)))
        assert len(rows) == 3 * 6 + 1 * 6, "three party batches in round 3, one in round 4"

    def test_progress_counts_what_is_taken_back(self, tmp_path):
        scenario, told = unlearning_scenario(), []
        with RunDirectory.create(tmp_path / "run", scenario) as directory:
            serial.run_serial(scenario, directory, open_facts(scenario), told.append)
        shares = [progress.share_done for progress in told]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1.0)
        assert shares[-2] < 1.0


class TestMeasures:
    def test_what_was_taken_back_falls_to_the_unedited_model(self, finished_run):
        """Every edit of round 1 is removed in round 2, in which nobody's keys come near."""
        unlearn = [{"round": 2, "parties": list(range(7)), "of_round": 1}]
        scenario = unlearning_scenario(
            model={"key_width": 512},
            stream={"rounds": 2, **FRESH},
            unlearn={"parties": [], "edits": unlearn},
            evaluate={"sample": None},
        )
        rows = finished_run(scenario).table("metrics").to_pylist()
        found = {(row["round"], row["arm"], row["metric"]): row for row in rows}
        before, unedited = found[1, "collabedit", "removed_efficacy_before"], found[2, "unedited", "removed_efficacy"]
        assert before["success"] == 100
        assert found[2, "collabedit", "removed_efficacy"]["success"] == unedited["success"] < 50
        assert {row["of_round"] for row in rows if row["metric"].startswith("removed_efficacy")} == {2}
        assert before["num_edits"] == unedited["num_edits"] == 28
        assert (2, "collabedit", "retention") not in found, "what was removed is not to be retained"

    def test_facts_that_are_still_asked_for_are_left_out(self, finished_run):
        """The follower asks for half of its leader's facts: when the leader leaves, the model is to know those."""
        stream = {"rounds": 2, **FRESH, "overlap": 0.5}
        unlearn = {"parties": [{"round": 2, "parties": [0]}], "edits": []}
        rows = finished_run(unlearning_scenario(stream=stream, unlearn=unlearn)).table("metrics").to_pylist()
        found = {row["arm"]: row["num_edits"] for row in rows if row["metric"] == "removed_efficacy"}
        assert found == {"unedited": 2, "global": 2, "collabedit": 2}

    def test_a_sample_is_probed(self, finished_run):
        scenario = unlearning_scenario(stream=FRESH, evaluate={"sample": 5})
        directory = finished_run(scenario)
        rows = [row for row in directory.table("metrics").to_pylist() if row["metric"].startswith("removed_efficacy")]
        assert {row["num_edits"] for row in rows} == {5, 3}, "three are removed in round 4"
        assert {(row["round"], row["metric"], row["of_round"]) for row in rows if row["arm"] == "global"} == {
            (2, "removed_efficacy_before", 3),
            (3, "removed_efficacy", 3),
            (3, "removed_efficacy_before", 4),
            (4, "removed_efficacy", 3),
            (4, "removed_efficacy", 4),
        }

    def test_a_contradiction_that_was_taken_back_is_none(self, finished_run):
        """Party 0 contradicts itself in round 2 and thinks better of it: what it had asked for first holds again."""
        conflict = {"rounds": 3, **FRESH, "conflict": {"round": 0.5}}
        probed = []
        for unlearn in ([], [{"round": 3, "parties": list(range(7)), "of_round": 2}]):
            scenario = unlearning_scenario(
                stream=conflict, unlearn={"parties": [], "edits": unlearn}, evaluate={"sample": None}
            )
            rows = finished_run(scenario).table("metrics").to_pylist()
            probed.append(
                {
                    row["num_edits"]
                    for row in rows
                    if (row["round"], row["metric"], row["of_round"]) == (3, "retention", 1)
                }
            )
        # Of 28 facts of round 1, rounds 2 and 3 contradict 14 each; round 3's choice is among all, so some meet.
        with_both, with_one = (min(each) for each in probed)
        assert with_both < with_one


class TestReport:
    def test_it_says_who_left_and_what_became_of_the_edits(self, removed_parties):
        said = unlearning.section(run_of(removed_parties))
        rows = texts(said.tables[0])
        assert [row[:2] for row in rows] == [
            ["3", "party 2 left; parties 0 and 4 took some back"],
            ["", ""],
            ["4", "party 4 took some back"],
            ["", ""],
        ]
        measured = [
            row["success"]
            for row in removed_parties.table("metrics").to_pylist()
            for key in [(row["round"], row["arm"], row["metric"], row["of_round"])]
            if key
            in (
                (n, "collabedit", m, 3)
                for n, m in ((2, "removed_efficacy_before"), (3, "removed_efficacy"), (4, "removed_efficacy"))
            )
        ]
        assert rows[1][3:7] == ["collabedit", *(f"{value:.1f}" for value in measured)]
        assert "was not measured" not in said.text
        assert "keys taken once per round from the unedited model" in removed_parties.report_path.read_text(
            encoding="utf-8"
        )

    def test_it_says_so_where_the_metric_is_not_asked_for(self, tmp_path):
        directory = run_serially(unlearning_scenario(evaluate={"metrics": ["efficacy"]}), tmp_path / "run")
        said = unlearning.section(run_of(directory))
        assert "was not measured: the metric removed in evaluate.metrics does" in said.text

    def test_what_was_taken_back_is_not_ranked_with_the_rest(self, removed_parties):
        found = summary(removed_parties)
        assert "removed_efficacy" in found["arms"]["collabedit"]["metrics"]
        assert result_table(found).columns == ("method", "efficacy", "retention", "distance from global")

    def test_runs_that_take_nothing_back_have_no_such_section(self, tmp_path):
        directory = run_serially(associative_scenario(merge=BASE), tmp_path / "run")
        assert unlearning.section(run_of(directory)) is None


@pytest.mark.slow
def test_the_shipped_scenario_runs_at_pico_size(llama, tmp_path):
    small = {
        "layers": [0, 2],
        "covariance_weight": 0.01,
        "target.steps": 3,
        "contexts.tokens": 4,
        "covariance.tokens": 200,
    }
    changes = {f"editor.{key}": value for key, value in small.items()}
    changes |= {"model.name": str(llama), "model.device": "cpu", "cluster.target_cache": "false"}
    scenario = prepare("unlearning", [f"{key}={value}" for key, value in changes.items()]).scenario
    directory = run_serially(scenario, tmp_path / "run")
    assert [row["num_removed"] for row in directory.table("rounds").to_pylist()] == [0, 0, 0, 0, 6, 6, 2, 2]
    assert "party 1 left" in build_report(directory).path.read_text(encoding="utf-8")
    last = [row for row in directory.table("rounds").to_pylist() if row["arm"] == "collabedit"][-1]
    assert last["weights_distance"] <= 1e-6


class TestWork:
    def test_anchored_arms_share_their_targets_in_every_round(self):
        based = {"reference": "initial", "exchange": "round"}
        methods = ["collabedit", {"name": "collabedit", "label": "a", **based}, {"name": "global", **based}]
        scenario = associative_scenario(merge={"methods": methods}, editor={"residual_schedule": "first_last"})
        # Round 1: layers 0 and 2 unedited for all, and layer 2 after the default arm merged layer 0.
        assert [num_optimisations(scenario, number) for number in (1, 2)] == [3, 4]

    def test_work_by_hand(self):
        """Rounds 3 and 4: 24 edits each, targets of layer 2 once for both arms; 12 and 3 edits removed."""
        scenario = unlearning_scenario()
        stream = Stream(scenario.seed, scenario.parties, scenario.stream, ["r"] * 200, scenario.unlearn)
        work = expected_work(scenario, stream, 3)
        assert (work["targets"], work["collect"], work["unlearn"]) == (48, 48 * 3 * 2, 15 * 3 * 2)
        assert [units_of(scenario, stream, "unlearn", 3, party_batch) for party_batch in range(4)] == [2, 8, 2, 0]
        assert [units_of(scenario, stream, "collect", 3, party_batch) for party_batch in range(4)] == [8, 4, 8, 4]

    def test_statistics_are_taken_against_the_unedited_model(self):
        scenario = unlearning_scenario()
        base = base_of(scenario)
        arm = open_arms(scenario, base, {})[1]
        before = arm.reference()
        arm.weights[0] = arm.weights[0] + 1
        arm.weight_versions[0] = "collabedit@1"
        assert arm.reference().key == before.key == tuple((layer, "base") for layer in (0, 1, 2))
        np.testing.assert_array_equal(arm.reference().read(0), base[0])
        assert arm.snapshot().key != before.key
