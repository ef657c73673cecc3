"""Whole runs in which doubles and contradictions are resolved: counted once, one side each, the same bits
everywhere."""

import numpy as np
import pytest
from consortium.editing.edited_layers import History, Weights
from consortium.editing.layer_schedule import Part
from consortium.engine import serial
from consortium.engine.rounds import batches_of
from consortium.features.conflicts import resolver
from consortium.features.conflicts.resolution import Decision, Resolution, resolve_conflicts
from consortium.loading.prepare import open_facts, prepare
from consortium.merging.method import sum_in_order
from consortium.party.worker import Worker
from consortium.records.directory import RunDirectory
from consortium.report.page import build_report
from support.pico import pico_folder
from support.scenarios import ALL_METHODS, associative_scenario, difference, pico_scenario, run_serially
from support.tiers import one_quick

ALL_OF_IT = {
    "stream": {"rounds": 3, "overlap": 0.25, "conflict": 0.25, "repeat": 0.25, "sharing_group_size": 3},
    "overlap": {"duplicates": "count_once"},
    "conflicts": {"policy": "majority", "num_paraphrases": 2},
    "evaluate": {"metrics": ["efficacy", "retention", "conflict_score", "conflict_magnitude"]},
}
SHARED = {"rounds": 2, "overlap": 0.5, "conflict": 0, "repeat": 0, "sharing_group_size": 4}
CONTRADICTED = {"rounds": 2, "overlap": 0, "conflict": {"party": 0.5}, "repeat": 0}


@pytest.fixture(scope="module")
def pico(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSORTIUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield pico_folder(tmp_path_factory.mktemp("llama"), "llama", num_layers=4)


def update_of(directory, arm):
    """ΔW of an arm over all layers, against the unedited weights; the associative model's are known."""
    scenario = directory.scenario
    base = serial.open_backend(scenario, open_facts(scenario)).base_weights()
    weights = directory.arm_states()[arm].weights
    return np.concatenate([(weights[layer].astype(np.float64) - base[layer]).ravel() for layer in sorted(base)])


def apart(left, right, arm):
    """‖ΔW - ΔW'‖ / ‖ΔW'‖."""
    update = update_of(right, arm)
    return np.linalg.norm(update_of(left, arm) - update) / np.linalg.norm(update)


def leave_to_the_first(keyed_digests, conflicts):
    """As if of all who ask for the same the first had asked alone."""
    asked, found = set(), []
    for group, resolution in zip(keyed_digests, resolve_conflicts(keyed_digests, conflicts), strict=True):
        answers = dict(zip(_places(group), group.answers, strict=True))
        copies = [
            place for place in sorted(resolution.decisions) if answers[place] in asked or asked.add(answers[place])
        ]
        found.append(Resolution(dict.fromkeys(copies, Decision(1, "rejected"))))
    return tuple(found)


def _places(group):
    return [(party, group.parties[:place].count(party)) for place, party in enumerate(group.parties)]


class TestWeighing:
    @pytest.fixture(scope="class")
    @staticmethod
    def runs(finished_run, tmp_path_factory):
        """The same requests, weighed m times, once, and asked for by one party only."""
        path = tmp_path_factory.mktemp("weighing")
        each, once = (
            associative_scenario(stream=SHARED, overlap={"duplicates": duplicates}, merge={"methods": ALL_METHODS})
            for duplicates in ("count_all", "count_once")
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(resolver, "resolve_conflicts", leave_to_the_first)
            alone = run_serially(once, path / "unique")
        return {"each": finished_run(each), "once": finished_run(once), "unique": alone}

    @pytest.mark.parametrize("arm", ["global", "collabedit"])
    def test_weighed_once_a_merge_is_that_of_one_party_asking(self, runs, arm):
        """What is left is the rounding of weights to float32; the history holds each edit once as well."""
        assert runs["unique"].table("edits")["weight"].to_pylist().count(0.0) == 2 * (3 * 2 + 2 * 2)
        assert apart(runs["once"], runs["unique"], arm) < 1e-6
        history, other = (runs[name].arm_states()[arm].history[1].base_KK for name in ("once", "unique"))
        np.testing.assert_allclose(history, other, rtol=1e-5, atol=1e-9)

    def test_weighed_once_statistics_are_those_of_one_party_asking(self):
        """Before anything is rounded to float32: gram and cross of everybody, in float64."""
        scenario = associative_scenario(
            stream=SHARED,
            overlap={"duplicates": "count_once"},
            merge={"methods": ["collabedit"], "statistics": "dense"},
        )
        facts = open_facts(scenario)
        worker = Worker(scenario, facts, serial.open_backend(scenario, facts))
        base = worker.backend.base_weights()
        worker.begin(("{}",), {layer: np.eye(weight.shape[1]) for layer, weight in base.items()}, 1)
        weights = Weights(dict.fromkeys(base, "base"), base.__getitem__)
        batches = batches_of(scenario, 1)
        keyed_digests = [worker.announce("conflicts", batch) for batch in batches]

        def statistics(batches):
            found = [
                worker.collect(batch, "collabedit", Part(1, 2, 2), weights, {2: weights}, History({}, {}.get))
                for batch in batches
            ]
            return sum_in_order([each.contribution for each in found])

        def decided(resolution):
            return [batch.decided("conflicts", each) for batch, each in zip(batches, resolution, strict=True)]

        once = statistics(decided(resolve_conflicts(keyed_digests, scenario.conflicts)))
        alone = statistics(decided(leave_to_the_first(keyed_digests, scenario.conflicts)))
        each = statistics(batches)
        np.testing.assert_allclose(once.gram_KK, alone.gram_KK, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(once.cross_VK, alone.cross_VK, rtol=1e-12, atol=1e-14)
        assert np.trace(each.gram_KK) > 1.5 * np.trace(alone.gram_KK)

    @pytest.mark.parametrize("arm", ["global", "collabedit"])
    def test_weighed_each_it_is_not(self, runs, arm):
        assert apart(runs["each"], runs["unique"], arm) > 1e-2

    def test_the_table_of_edits_says_what_each_weighed(self, runs):
        rows = runs["once"].table("edits").to_pylist()
        shared = [row for row in rows if row["status"] == "duplicate"]
        assert {(row["party"] < 4, row["num_asking"], row["weight"]) for row in shared} == {
            (True, 4, 1 / 4),
            (False, 3, 1 / 3),
        }
        assert len(shared) == 2 * 7 * 2
        assert {(row["status"], row["weight"]) for row in rows if row not in shared} == {("unique", 1.0)}
        assert {row["status"] for row in runs["each"].table("edits").to_pylist()} == {None}, "nothing was announced"


class TestPolicies:
    @pytest.fixture(scope="class")
    @staticmethod
    def runs(finished_run):
        metrics = ["efficacy", "conflict_score", "conflict_magnitude", "retention"]
        common = {
            "parties": {"count": 6},
            "stream": CONTRADICTED,
            "merge": {"methods": ["collabedit"]},
            "evaluate": {"sample": None, "metrics": metrics},
        }
        policies = ("none", "latest", "priority")
        made = {each: associative_scenario(**common, conflicts={"policy": each}) for each in policies}
        return {policy: finished_run(scenario) for policy, scenario in made.items()}

    def measures(self, directory, metric, round_number=1):
        rows = directory.table("metrics").to_pylist()
        return [r for r in rows if (r["round"], r["arm"], r["metric"]) == (round_number, "collabedit", metric)]

    def test_one_side_of_each_conflict_is_rejected(self, runs):
        """Leaders are even, followers odd; half of the four edits of each."""
        for policy, loser in (("latest", 0), ("priority", 1)):
            rows = runs[policy].table("edits").to_pylist()
            rejected = [row for row in rows if row["status"] == "rejected"]
            assert {row["party"] % 2 for row in rejected} == {loser}
            assert len(rejected) == len([row for row in rows if row["status"] == "accepted"]) == 2 * 3 * 2
            assert [row["num_edits"] for row in runs[policy].table("rounds").to_pylist()] == [24 - 6, 24 - 6]
            parties = {(row["party"] % 2, row["num_edits"]) for row in runs[policy].table("parties").to_pylist()}
            assert parties == {(loser, 2), (1 - loser, 4)}

    def test_the_side_that_was_settled_on_holds_and_without_a_policy_nobody_does(self, runs):
        for policy in ("latest", "priority"):
            (score,) = self.measures(runs[policy], "conflict_score")
            assert (score["success"], score["strict"], score["num_edits"]) == (100.0, 100.0, 6)
        (undecided,) = self.measures(runs["none"], "conflict_score")
        assert undecided["strict"] < 100.0

    def test_the_losing_answer_rises_where_nothing_is_settled_and_not_where_it_is(self, runs):
        found = {policy: self.measures(runs[policy], "conflict_magnitude")[0] for policy in runs}
        assert found["none"]["success"] < -90
        assert min(found["latest"]["success"], found["priority"]["success"]) > found["none"]["success"] + 50
        assert {row["strict"] for row in found.values()} == {None}
        assert all(-100 <= row["success"] <= 100 for row in found.values())

    def test_withdrawn_edits_are_not_probed_then_or_later(self, runs):
        for policy, num_edits in (("none", 24), ("latest", 18)):
            (efficacy,) = self.measures(runs[policy], "efficacy")
            (kept,) = [each for each in self.measures(runs[policy], "retention", 2) if each["of_round"] == 1]
            assert (efficacy["num_edits"], kept["num_edits"]) == (num_edits, num_edits)

    def test_the_unedited_model_has_no_magnitude(self, runs):
        rows = runs["latest"].table("metrics").to_pylist()
        assert {row["metric"] for row in rows if row["arm"] == "unedited"} == {"efficacy", "conflict_score"}


def overruling(path, num_paraphrases, **changes):
    """What is measured of contradicted earlier answers after the second round."""
    scenario = associative_scenario(
        stream={"rounds": 2, "overlap": 0, "conflict": {"round": 0.5}, "repeat": 0},
        conflicts={"policy": "latest", "num_paraphrases": num_paraphrases},
        merge={"methods": ["collabedit"]},
        evaluate={"sample": None, "metrics": ["conflict_score", "conflict_magnitude"]},
        **changes,
    )
    directory = run_serially(scenario, path)
    rows = directory.table("metrics").to_pylist()
    assert {row["round"] for row in rows if row["arm"] == "collabedit"} == {2}
    return directory, {row["metric"]: row["success"] for row in rows if row["arm"] == "collabedit"}


def test_an_answer_of_an_earlier_round_falls_when_it_is_overruled(tmp_path):
    """Round 1 taught it, so nearly all of its probability is there to be lost: the magnitude of Li et al."""
    _, found = overruling(tmp_path / "run", 0, model={"key_width": 96})
    assert found["conflict_score"] == 100.0
    assert 90 < found["conflict_magnitude"] < 100


def test_asked_again_in_other_words_an_edit_overrules_what_the_history_holds(tmp_path):
    """28 edits a round are more than a memory with keys of width 24 has room for, and the history defends the first."""
    plain, once = overruling(tmp_path / "plain", 0)
    augmented, again = overruling(tmp_path / "augmented", 3)
    assert once["conflict_score"] < 75 < again["conflict_score"]
    assert once["conflict_magnitude"] < 75 < again["conflict_magnitude"]
    kinds = {(row["kind"], row["status"], row["num_paraphrases"]) for row in augmented.table("edits").to_pylist()}
    assert kinds == {("fresh", "unique", 0), ("conflict-round", "unique", 3)}
    assert {row["num_paraphrases"] for row in plain.table("edits").to_pylist()} == {0}
    sent = [sum(run.table("rounds")["bytes_sent"].to_pylist()) for run in (plain, augmented)]
    assert sent[1] > sent[0]


class _EnoughError(Exception):
    pass


class TestSameBits:
    @pytest.mark.parametrize(("phase", "round_number"), one_quick([("targets", 2), ("targets", 1), ("evaluate", 3)]))
    def test_killed_and_resumed(self, phase, round_number, finished_run, tmp_path):
        scenario = associative_scenario(**ALL_OF_IT)
        whole = finished_run(scenario)

        def watch(progress):
            if (progress.phase, progress.round) == (phase, round_number) and progress.done:
                raise _EnoughError

        with RunDirectory.create(tmp_path / "run", scenario) as directory, pytest.raises(_EnoughError):
            serial.run_serial(scenario, directory, open_facts(scenario), watch)
        with RunDirectory.open(tmp_path / "run") as directory:
            serial.run_serial(scenario, directory, open_facts(scenario), lambda progress: None)
        again = RunDirectory.open(tmp_path / "run")
        assert difference(whole.arm_states(), again.arm_states()) == []
        for table in ("edits", "parties", "metrics"):
            assert again.table(table).equals(whole.table(table)), table

    def test_party_batches_do_not_matter(self, finished_run):
        """Nor does a party batch whose edits were all rejected: with party batches of one, each leader's are."""
        changes = {
            **ALL_OF_IT,
            "stream": {"rounds": 2, "overlap": 0, "conflict": {"party": 1.0}, "repeat": 0},
            "conflicts": {"policy": "latest"},
        }
        together, apart_ = (
            finished_run(associative_scenario(**changes, cluster={"parties_per_batch": size})) for size in (7, 1)
        )
        assert {row["num_edits"] for row in apart_.table("parties").to_pylist()} == {0, 4}
        for arm in ALL_METHODS:
            assert apart(apart_, together, arm) < 1e-6, arm

    def test_progress_never_says_more_than_all(self, tmp_path):
        told = []
        scenario = associative_scenario(**ALL_OF_IT)
        with RunDirectory.create(tmp_path / "run", scenario) as directory:
            serial.run_serial(scenario, directory, open_facts(scenario), told.append)
        assert all(progress.done <= progress.total for progress in told)
        assert told[-1].share_done == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("parties_per_batch", [1, 3])
def test_a_language_model_leaves_out_what_was_withdrawn(parties_per_batch, pico, finished_run):
    """All of both partners' edits contradict each other, and the third party has nobody to contradict."""
    scenario = pico_scenario(
        pico,
        stream={"rounds": 2, "conflict": {"party": 1.0}},
        conflicts={"policy": "priority", "priorities": [1], "num_paraphrases": 2},
        merge={"methods": ALL_METHODS},
        evaluate={"metrics": ["efficacy", "conflict_score", "conflict_magnitude"]},
        cluster={"parties_per_batch": parties_per_batch},
    )
    directory = finished_run(scenario)
    parties = [(row["party"], row["num_edits"]) for row in directory.table("parties").to_pylist()]
    assert set(parties) == {(0, 0), (1, 2), (2, 2)}
    assert {row["num_paraphrases"] for row in directory.table("edits").to_pylist() if row["party"] == 1} == {2}
    measured = {row["metric"] for row in directory.table("metrics").to_pylist() if row["arm"] == "ties"}
    assert measured == {"efficacy", "conflict_score", "conflict_magnitude"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["overlap", "conflict"])
def test_the_shipped_scenarios_run_end_to_end_on_a_small_memory(name, tmp_path):
    """As they are but for the model and its layers; a language model takes minutes for them."""
    small = ["model={name: associative, key_width: 96, value_width: 24, num_objects: 24}"]
    small += ["editor={layers: [0, 1], covariance_weight: 20}", "facts={}"]
    prepared = prepare(name, small)
    directory = run_serially(prepared.scenario, tmp_path / "run")
    statuses = {row["status"] for row in directory.table("edits").to_pylist()}
    assert statuses == ({"unique", "duplicate"} if name == "overlap" else {"unique", "accepted", "rejected"})
    text = build_report(directory).path.read_text(encoding="utf-8")
    assert "What was decided" in text
