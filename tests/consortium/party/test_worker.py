"""What a worker computes: answers follow from the call alone, and only sums leave."""

import json
import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from consortium.common.seeds import derive
from consortium.data.party_batch import PartyBatch
from consortium.editing.edited_layers import History, Weights
from consortium.editing.layer_schedule import Part
from consortium.editing.open import open_backend
from consortium.engine.key_covariance import add_chunk
from consortium.evaluation.schedule import superseded
from consortium.evaluation.sums import add_sums
from consortium.loading.prepare import open_facts
from consortium.merging.history import GramHistory
from consortium.party import shares, targets
from consortium.party.worker import Worker
from support.pico import pico_folder
from support.scenarios import associative_scenario, pico_scenario

PART = Part(1, 2, 2)
NO_HISTORY = History({}, {}.__getitem__)


def opened(scenario):
    facts = open_facts(scenario)
    worker = Worker(scenario, facts, open_backend(scenario, facts))
    covariance = None
    for chunk in range(worker.backend.covariance_chunks()):
        covariance = add_chunk(covariance, worker.covariance_sum(chunk))
    worker.begin(worker.contexts(), covariance.sums, covariance.num_tokens)
    return worker


@pytest.fixture(scope="module")
def scenario():
    return associative_scenario(stream={"rounds": 3, "conflict": {"round": 0.25}})


@pytest.fixture
def worker(scenario):
    return opened(scenario)


def base_of(worker):
    return Weights(dict.fromkeys(worker.backend.base_weights(), "base"), worker.backend.base_weights().__getitem__)


def others(worker, name="other@1"):
    """Weights with 0.01 on top of all numbers."""
    weights = {layer: weight + np.float32(0.01) for layer, weight in worker.backend.base_weights().items()}
    return Weights(dict.fromkeys(weights, name), weights.__getitem__)


def collect(worker, arm, weights, party_batch=1, **changes):
    arguments = {"weights": weights, "targets_at": {PART.target_layer: weights}, "history": NO_HISTORY} | changes
    return pickle.dumps(worker.collect(PartyBatch(2, party_batch), arm, PART, **arguments))


@pytest.mark.parametrize("arm", ["global", "collabedit", "task_arithmetic", "simple_average", "ties"])
def test_the_same_call_gives_the_same_bits_whatever_came_before(scenario, worker, arm):
    base = base_of(worker)
    first = collect(worker, arm, base)
    assert collect(worker, arm, base) == first
    worker.evaluate(PartyBatch(2, 0), others(worker), True)
    collect(worker, "ties", others(worker), party_batch=2)
    assert collect(worker, arm, base) == first
    assert collect(opened(scenario), arm, base) == first


def test_other_weights_give_other_statistics(worker):
    """So that the equality above says something."""
    assert collect(worker, "collabedit", base_of(worker)) != collect(worker, "collabedit", others(worker))


LOCAL = {"metrics": ["edit_success", "locality"], "decoding": ["teacher_forcing", "greedy"]}


def test_locality_is_measured_by_the_unedited_model_whatever_is_loaded(monkeypatch):
    scenario = associative_scenario(evaluate={**LOCAL, "sample": None})

    def others(worker):
        noise = np.random.default_rng(1)
        weights = {n: w + noise.normal(0, 0.3, w.shape).astype("f4") for n, w in worker.backend.base_weights().items()}
        return Weights(dict.fromkeys(weights, "shaken@1"), weights.__getitem__)

    first, second = opened(scenario), opened(scenario)
    unedited = first.evaluate(PartyBatch(1, 1), base_of(first), False).sums
    edited = first.evaluate(PartyBatch(1, 1), others(first), True).sums
    assert second.evaluate(PartyBatch(1, 1), others(second), True).sums == edited, "the model is put back to be asked"
    for name in ("locality", "locality_greedy"):
        before, after = unedited[name, 1], edited[name, 1]
        assert before.value == before.num_edits == after.num_edits > 0
        assert after.value < after.num_edits
    monkeypatch.setattr("consortium.party.evaluator._ANSWER_TOKENS", 0)
    forgetful = opened(scenario)
    for party_batch in (0, 1, 0, 1):
        last = forgetful.evaluate(PartyBatch(1, party_batch), others(forgetful), True).sums
    assert last == edited


def test_targets_that_were_let_go_are_made_again(scenario, monkeypatch):
    monkeypatch.setattr(targets, "_QUICK_TARGET_BYTES", 1)
    worker, roomy = opened(scenario), opened(scenario)
    base = base_of(worker)
    calls = []
    optimise = worker.backend.targets
    monkeypatch.setattr(worker.backend, "targets", lambda *a: calls.append(a) or optimise(*a))
    for each in (worker, roomy):
        each.targets(PartyBatch(2, 0), base, 2)
        each.targets(PartyBatch(2, 1), base, 2)
    # Targets of the base weights, statistics under later ones: the model is switched back and forth.
    late = {"targets_at": {PART.target_layer: base}}
    assert collect(worker, "collabedit", others(worker), 0, **late) == collect(
        roomy, "collabedit", others(worker), 0, **late
    )
    assert len(calls) == 3


def collect_all(worker, arm, round_number=1):
    """An arm's round on a pico model, layer after layer, each merged by adding a hundredth; party batch by party
    batch."""
    found, weights = [], worker.backend.base_weights()
    versions, base = dict.fromkeys(weights, "base"), base_of(worker)
    for layer in (1, 2, 3):
        part, now = Part(layer, 3, 4 - layer), Weights(dict(versions), dict(weights).__getitem__)
        parts = [
            worker.collect(PartyBatch(round_number, party_batch), arm, part, now, {3: base}, NO_HISTORY)
            for party_batch in (0, 1)
        ]
        found += map(pickle.dumps, parts)
        weights[layer] = weights[layer] + np.float32(0.01)
        versions[layer] = f"{arm}@{round_number}"
    return found


@pytest.fixture(scope="module")
def pico(tmp_path_factory):
    folder = pico_folder(tmp_path_factory.mktemp("model") / "pico", "llama", num_layers=5)
    return pico_scenario(folder, stream={"rounds": 2}, editor={"layers": [1, 3]})


def blocks_run(worker, monkeypatch):
    """Which layers states were asked for, and from which they were carried on."""
    calls, states = [], worker.backend.states

    def noted(edits, layer, below):
        calls.append((layer, None if below is None else below.layer))
        return states(edits, layer, below)

    monkeypatch.setattr(worker.backend, "states", noted)
    return calls


def test_states_are_carried_from_layer_to_layer_and_shared_by_arms(pico, monkeypatch):
    worker = opened(pico)
    calls = blocks_run(worker, monkeypatch)
    collect_all(worker, "collabedit")
    assert calls == [(1, None), (1, None), (2, 1), (2, 1), (3, 2), (3, 2)]
    calls.clear()
    collect_all(worker, "global")
    assert calls == [(2, 1), (2, 1), (3, 2), (3, 2)]
    calls.clear()
    collect_all(worker, "global", round_number=2)
    assert calls[:2] == [(1, None), (1, None)]


def test_states_that_were_let_go_change_no_bit(pico, monkeypatch):
    kept = collect_all(opened(pico), "collabedit")
    monkeypatch.setattr(shares, "_STATE_BYTES", 1)
    forgetful = opened(pico)
    calls = blocks_run(forgetful, monkeypatch)
    assert collect_all(forgetful, "collabedit") == kept
    assert calls == [(1, None), (1, None), (2, None), (2, None), (3, None), (3, None)]


def test_states_follow_the_weights_below(pico):
    """Statistics of the last layer differ when a layer below it has other weights, and only then."""
    worker = opened(pico)
    base = base_of(worker)

    def keys_at(layer, changed):
        weights = {at: base.read(at) + np.float32(0.01 * (at == changed)) for at in base.versions}
        versions = {at: "other@1" if at == changed else "base" for at in base.versions}
        now = Weights(versions, weights.__getitem__)
        return worker.collect(
            PartyBatch(1, 0), "global", Part(layer, 3, 1), now, {3: base}, NO_HISTORY
        ).contribution.keys[0]

    unchanged = keys_at(2, changed=None)
    assert np.array_equal(keys_at(2, changed=2), unchanged)
    assert not np.allclose(keys_at(2, changed=1), unchanged)


def test_targets_are_reported_as_counts_and_sums(scenario, worker):
    report = worker.targets(PartyBatch(2, 3), base_of(worker), 2)
    assert report.num_edits == 4  # the last of four party batches holds one party only
    assert report.num_steps == 0
    assert 0 <= report.num_finished <= 4
    assert report.loss >= 0


def test_the_residual_is_divided(worker):
    base = base_of(worker)
    half = worker.collect(PartyBatch(2, 0), "global", PART, base, {2: base}, NO_HISTORY).contribution
    whole = worker.collect(
        PartyBatch(2, 0), "global", replace(PART, divisor=1), base, {2: base}, NO_HISTORY
    ).contribution
    for part, all_of_it in zip(half.residuals, whole.residuals, strict=True):
        np.testing.assert_allclose(2 * part, all_of_it)


def test_a_party_batch_is_its_parties_edits_and_no_others(scenario, worker):
    base = base_of(worker)
    collected = [
        worker.collect(PartyBatch(2, party_batch), "global", PART, base, {2: base}, NO_HISTORY)
        for party_batch in range(4)
    ]
    assert [each.contribution.num_parties for each in collected] == [2, 2, 2, 1]
    assert [len(each.party_bytes) for each in collected] == [2, 2, 2, 1]
    keys_KE = np.hstack([block for each in collected for block in each.contribution.keys])
    wanted = [worker.party_data.edit(request) for party in range(7) for request in worker.stream.requests(2, party)]
    states, targets = worker.backend.states(wanted, 1, None), worker.backend.targets(wanted, 2)
    np.testing.assert_allclose(keys_KE, worker.backend.keys_and_residuals(states, targets)[0])


def test_every_party_has_generators_of_its_own(worker, scenario, monkeypatch):
    """Derived from what they are for, the arm, the round, the layer and the party."""
    shares = []
    method = worker.methods["ties"]

    def watched(given, solver):
        shares.extend(given)
        return method.contribute(given, solver)

    monkeypatch.setitem(worker.methods, "ties", SimpleNamespace(spec=method.spec, contribute=watched))
    collect(worker, "ties", base_of(worker))
    for share, party in zip(shares, scenario.party_batch(1), strict=True):
        for purpose, generator in (("rotation", share.generator), ("drops", share.drops)):
            expected = derive(scenario.seed, purpose, "ties", 2, PART.layer, party)
            assert generator.initial_seed() == expected


def test_parties_solve_against_the_history_they_are_given(scenario, worker):
    """A history heavy in all directions leaves next to nothing of a local update."""
    base = base_of(worker)
    heavy = History({1: "task_arithmetic@1"}, lambda layer: GramHistory("task_arithmetic", 1, 1e9 * np.eye(24)))
    light, damped = (
        worker.collect(PartyBatch(2, 0), "task_arithmetic", PART, base, {2: base}, history).contribution.delta_VK
        for history in (NO_HISTORY, heavy)
    )
    assert np.abs(damped).max() < 1e-5 * np.abs(light).max()


def test_a_history_is_read_once_for_all_party_batches(worker):
    reads = []
    history = History({1: "ties@1"}, lambda layer: reads.append(layer) or GramHistory("ties", 1, np.eye(24)))
    for party_batch in range(4):
        worker.collect(PartyBatch(2, party_batch), "ties", PART, base_of(worker), {2: base_of(worker)}, history)
    assert reads == [1]


def test_party_batches_ask_every_sampled_question_once(scenario):
    """The questions of one party batch of everybody are those of all party batches together."""
    stream = {"rounds": 3, "overlap": 0, "repeat": 0}
    one = opened(associative_scenario(stream=stream, cluster={"parties_per_batch": 99}))
    many = opened(associative_scenario(stream=stream))
    parts = [item for party_batch in range(4) for _, item in many.evaluator.items(PartyBatch(3, party_batch), True)]
    whole = [item for _, item in one.evaluator.items(PartyBatch(3, 0), True)]
    assert sorted(map(repr, parts)) == sorted(map(repr, whole))
    assert len({repr(item) for item in whole}) == len(whole)
    assert {item.column for item in whole} >= {"efficacy", "retention", "conflict_score"}


def test_retention_leaves_out_what_was_contradicted():
    scenario = associative_scenario(
        stream={"rounds": 3, "conflict": {"round": 0.25}}, evaluate={"sample": None, "metrics": ["retention"]}
    )
    worker = opened(scenario)
    asked = [item for party_batch in range(4) for _, item in worker.evaluator.items(PartyBatch(3, party_batch), True)]
    last = superseded(worker.stream, range(1, 4))
    assert last  # the scenario does contradict
    kept = [
        (round_number, request.fact)
        for round_number in (1, 2)
        for party in range(7)
        for request in worker.stream.requests(round_number, party)
        if last.get(request.fact, 0) <= round_number
    ]
    assert sorted((each.of_round, int(each.asked.edit.fact_id[1:])) for each in asked) == sorted(kept)
    assert len(kept) < 2 * 7 * 4


def test_contradictions_are_looked_up_once_a_round(worker, monkeypatch):
    """Else a run with many party batches would go through all parties' requests for each of them."""
    asked = []
    contradicted = worker.stream.contradicted
    monkeypatch.setattr(worker.stream, "contradicted", lambda r, until: asked.append(r) or contradicted(r, until))
    first = [worker.party_data.contradicted_until(2) for _ in range(4)]
    assert asked == [1, 2]
    worker.party_data.contradicted_until(3)
    assert asked == [1, 2, 3]
    assert worker.party_data.contradicted_until(2) == first[0]


def test_the_unedited_model_retains_nothing(worker):
    sums = worker.evaluate(PartyBatch(2, 0), base_of(worker), False).sums
    assert {metric for metric, _ in sums} & {"retention"} == set()


def test_edits_of_all_rounds_are_asked_alike_where_that_is_asked_for():
    """Efficacy of an earlier round is then its retention: the same edits, without those that were contradicted."""
    found = {}
    for edits in ("all", "round"):
        evaluate = {"edits": edits, "sample": None}
        scenario = associative_scenario(stream={"conflict": {"round": 0.25}}, evaluate=evaluate)
        worker = opened(scenario)
        party_batches = range(scenario.num_party_batches)
        found[edits] = add_sums(
            [worker.evaluate(PartyBatch(2, party_batch), others(worker), True).sums for party_batch in party_batches]
        )
    sums = found["all"]
    assert sums["efficacy", 1] == sums["retention", 1]
    assert sums["efficacy", 2].num_edits == 28 > sums["efficacy", 1].num_edits
    assert sums["paraphrase", 1].num_edits == sums["efficacy", 1].num_edits >= sums["neighborhood", 1].num_edits > 0
    assert {key: sums[key] for key in found["round"]} == found["round"]


def test_text_and_questions_are_dealt_to_party_batches_and_asked_of_the_unedited_model_once(pico, tmp_path):
    """Two party batches; the text's tokens and the three questions are all there, in the sum of both."""
    questions = tmp_path / "questions.jsonl"
    line = json.dumps({"prompt": "The tower is in", "choices": ["Rome", "Oslo"], "answer": 0}) + "\n"
    questions.write_text(3 * line, encoding="utf-8")
    evaluate = pico.evaluate.model_copy(
        update={"perplexity_text": "builtin", "perplexity_tokens": 600, "downstream": str(questions)}
    )
    worker = opened(pico.model_copy(update={"evaluate": evaluate}))
    side_effects = {("perplexity", 0), ("downstream_accuracy", 0)}
    parts = [worker.evaluate(PartyBatch(1, party_batch), others(worker), True).sums for party_batch in (0, 1)]
    assert [part["perplexity", 0].num_probes for part in parts] == [127 + 127 + 87, 2 * 127]
    assert [part["downstream_accuracy", 0].num_probes for part in parts] == [2, 1]
    assert side_effects <= set(worker.evaluate(PartyBatch(1, 0), base_of(worker), False).sums)
    assert not side_effects & set(worker.evaluate(PartyBatch(2, 0), base_of(worker), False).sums)
    assert side_effects <= set(worker.evaluate(PartyBatch(2, 0), others(worker), True).sums)


def test_an_evaluation_changes_nothing(worker):
    before = collect(worker, "collabedit", base_of(worker))
    assert pickle.dumps(worker.evaluate(PartyBatch(2, 1), others(worker), True).sums) == pickle.dumps(
        worker.evaluate(PartyBatch(2, 1), others(worker), True).sums
    )
    assert collect(worker, "collabedit", base_of(worker)) == before
