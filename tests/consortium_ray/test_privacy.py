"""What leaves a worker: typed messages of counts, sums and statistics; no edit's text, key, residual or target.

A run is recorded message by message. The last tests turn the search on the arm of the method ``global``, which
does send keys and residuals, and on planted secrets: a search that finds nothing there would prove nothing.
"""

import dataclasses
import hashlib
import hmac
import itertools
import pickle
import re
from types import NoneType
from typing import get_args

import numpy as np
import pytest
from consortium.data.request import RequestKind
from consortium.editing.associative import AssociativeBackend
from consortium.editing.known_facts import Residuals
from consortium.evaluation.knowedit import SUFFIXES
from consortium.evaluation.sums import ProbeSum
from consortium.evaluation.telling import Evaluated, ProbeAnswer
from consortium.features.audit.inclusion_record import InclusionRecord
from consortium.features.conflicts.keyed_digests import DIGEST_BYTES, KeyedDigests, keyed_digests_of, shared_key
from consortium.features.conflicts.resolution import resolution_of
from consortium.features.hooks import Rejection
from consortium.features.registry import FEATURES
from consortium.loading.prepare import open_facts
from consortium.merging.bucketing import BucketSums
from consortium.merging.deltas import DeltaSum, DenseUpdate, FactoredUpdate
from consortium.merging.methods.global_edit import OwnedEdits
from consortium.merging.methods.ties import SignedSums
from consortium.merging.statistics import Basis, DenseStatistics, FactoredStatistics
from consortium.party.targets import TargetReport, TargetStore
from consortium.party.worker import Collected, Worker
from consortium.records.directory import RunDirectory
from consortium.scenario.editor import EDITORS
from consortium.scenario.methods import METHODS
from consortium.scenario.schema import Scenario
from consortium_ray.messages import ModelFacts, Reply
from support.pools import LocalPool, run_on
from support.scenarios import associative_scenario, pico_scenario

#: Every type that a message may be made of, with the fields that carry anything.
DOCUMENTED = {
    Reply: {"incarnation", "value", "seconds"},
    KeyedDigests: {"parties", "slots", "answers"},
    TargetReport: {"num_edits", "num_steps", "loss", "num_finished", "num_cached", "residuals", "num_mended"},
    Residuals: {
        "num_edits",
        "shift",
        "num_known",
        "num_contradicting",
        "num_detected",
        "num_correctly_detected",
        "num_not_finite",
    },
    Collected: {
        *("contribution", "num_edits", "party_bytes", "num_skipped", "num_not_finite"),
        *("rejections", "reports"),
    },
    InclusionRecord: {"party_batch", "num_edits", "num_summed", "digest"},
    Rejection: {"party", "reason", "detail"},
    Evaluated: {"sums", "told"},
    Basis: {"arm", "round", "layer"},
    DenseStatistics: {"basis", "gram_KK", "cross_VK", "num_edits", "num_parties"},
    FactoredStatistics: {"basis", "factor_KN", "image_VN", "num_edits", "num_parties"},
    DeltaSum: {"update", "gram"},
    DenseUpdate: {"delta_VK"},
    FactoredUpdate: {"weights_VN", "solved_KN"},
    SignedSums: {"positive_VK", "negative_VK", "num_positive_VK", "num_negative_VK", "gram"},
    BucketSums: {"buckets"},
    ProbeSum: {"value", "strict", "num_edits", "num_probes", "num_not_finite"},
    ModelFacts: {"base_weights", "covariance_fingerprint", "covariance_chunks", "covariance_length"},
}
PLAIN = (int, float, str, bytes, bool, NoneType, np.ndarray)
METRICS = ("efficacy", "paraphrase", "neighborhood", "retention", "conflict_score", "conflict_magnitude")
KNOWEDIT = ("edit_success", "locality", "fluency")
SIDE_EFFECTS = ("perplexity", "downstream_accuracy")
PRIVATE_METHODS = [name for name in METHODS if name != "global"]


@dataclasses.dataclass
class Recording:
    """Messages of a run as (method, bytes), and the secrets of its parties: texts, and vectors by their length."""

    messages: list[tuple[str, bytes]]
    texts: set[str]
    vectors: dict[int, list[np.ndarray]]
    removes: bool


def record(scenario, path):
    """Run a scenario over local workers, and look over the parties' shoulders while they compute."""
    messages, vectors = [], {}
    facts = open_facts(scenario)
    collect, unlearn, optimise = Worker.collect, Worker.unlearn, TargetStore.targets

    def note(columns_XE):
        array = np.asarray(columns_XE, dtype=np.float64)
        vectors.setdefault(array.shape[0], []).extend(array.T)

    def watched_targets(store, *arguments):
        targets = optimise(store, *arguments)
        note(targets.vectors_EV.T)
        return targets

    def watching(work, worker, *arguments):
        measure = worker.backend.keys_and_residuals

        def watched(*states_and_targets):
            found = measure(*states_and_targets)
            for columns_XE in found:
                note(columns_XE)
            return found

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(worker.backend, "keys_and_residuals", watched)
            return work(worker, *arguments)

    tune = AssociativeBackend.fine_tune

    def watched_tuning(backend, edits):
        for keys_EK in backend._edit_keys(edits):
            note(keys_EK.T)
        return tune(backend, edits)

    with pytest.MonkeyPatch.context() as patch, RunDirectory.create(path, scenario) as directory:
        patch.setattr(AssociativeBackend, "fine_tune", watched_tuning)
        patch.setattr(Worker, "collect", lambda *arguments: watching(collect, *arguments))
        patch.setattr(Worker, "unlearn", lambda *arguments: watching(unlearn, *arguments))
        patch.setattr(TargetStore, "targets", watched_targets)
        observe = lambda call, message: messages.append((call.method, message))  # noqa: E731
        run_on(LocalPool(scenario, facts, 2, observe=observe), directory)
        edits = directory.table("edits").to_pylist()
    texts = {row["subject"] for row in edits} | {row["prompt"].replace("{}", row["subject"]) for row in edits}
    texts |= {row["prompt"] for row in edits} | {row["target_new"] for row in edits}
    return Recording(messages, texts, vectors, bool(scenario.unlearn.edits))


def parts_of(value):
    """The value and everything in it; TypeError for what is not documented."""
    yield value
    if dataclasses.is_dataclass(value):
        found = {each.name for each in dataclasses.fields(value)}
        if DOCUMENTED.get(type(value)) != found:
            raise TypeError(f"undocumented message {type(value).__name__} with {sorted(found)}")
        value = [getattr(value, name) for name in found]
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for each in value:
            yield from parts_of(each)
    elif not isinstance(value, PLAIN):
        raise TypeError(f"undocumented part {type(value).__name__}")


def revealed_vectors(message, vectors):
    """Secrets that a row or column of an array in a message is parallel to."""
    found = []
    for array in (part for part in parts_of(message) if isinstance(part, np.ndarray) and part.ndim == 2):
        for rows in (array, array.T):
            secrets = np.array(vectors.get(rows.shape[1], np.zeros((0, rows.shape[1]))))
            cosines = np.abs(_unit(rows) @ _unit(secrets).T)
            found += [secrets[place] for place in np.unique(np.argwhere(cosines > 1 - 1e-9)[:, 1])]
    return found


def _unit(rows):
    wide = np.asarray(rows, dtype=np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(lengths > 0, lengths, 1)


def revealed_texts(message, texts):
    """Secret texts of which the bytes of a message hold the characters."""
    return [text for text in texts if text.encode() in message]


def long(texts):
    """Texts that are no part of a message's own words by chance, as ``o1`` would be."""
    return {text for text in texts if len(text) >= 4}


SCENARIOS = (
    *(
        "associative-auto",
        "associative-dense",
        "associative-resolution",
        "llama",
        "associative-unlearning",
        "llama-unlearning",
    ),
    *("rome", "ft"),
)


def resolved_conflicts_scenario():
    """With all that is announced, resolved and asked again; four partners, so that party batches of one have nothing
    alone."""
    return associative_scenario(
        parties={"edits_per_round": 6},
        stream={"rounds": 2, "sharing_group_size": 4},
        overlap={"duplicates": "count_once"},
        conflicts={"policy": "majority", "num_paraphrases": 2},
        merge={"methods": PRIVATE_METHODS},
        evaluate={"metrics": ["efficacy", "conflict_score", "conflict_magnitude"]},
        cluster={"parties_per_batch": 1},
    )


@pytest.fixture(scope="module", params=SCENARIOS)
def recording(request, pico, tmp_path_factory):
    changes = {"stream": {"rounds": 2}, "merge": {"methods": PRIVATE_METHODS}, "cluster": {"parties_per_batch": 1}}
    if request.param.endswith("unlearning"):
        # Half of four edits, and all eight: the factor of a single edit would be its key.
        changes["merge"] = {"methods": ["collabedit"], "reference": "initial", "exchange": "round"}
        changes["evaluate"] = {"metrics": ["efficacy", "retention", "removed_efficacy"]}
        changes["stream"] = {
            "rounds": 3,
            "overlap": 0,
            "conflict": 0,
            "repeat": 0,
        }
        changes["unlearn"] = {
            "edits": [{"round": 2, "parties": [0], "share": 0.5}],
            "parties": [{"round": 3, "parties": [1]}],
        }
    if request.param == "llama-unlearning":
        scenario = pico_scenario(pico["llama"], parties={"edits_per_round": 4}, **changes)
    elif request.param == "associative-unlearning":
        scenario = associative_scenario(**changes)
    elif request.param == "llama":
        # The columns of an update for two edits lie in a plane: now and then one is along a residual by chance.
        changes["evaluate"] = {
            "perplexity_text": "builtin",
            "perplexity_tokens": 300,
            "downstream": _questions(tmp_path_factory),
            "metrics": [*METRICS, *KNOWEDIT],
            "decoding": list(SUFFIXES),
            "generation_tokens": 5,
        }
        scenario = pico_scenario(pico["llama"], parties={"edits_per_round": 3}, **changes)
    elif request.param in EDITORS:
        changes["editor"] = {"method": request.param}
        changes["merge"] = {
            "methods": [name for name in EDITORS[request.param].merges if name != "global"],
            "exchange": "round",
        }
        scenario = associative_scenario(**changes)
    elif request.param == "associative-resolution":
        scenario = resolved_conflicts_scenario()
    else:
        changes["merge"]["statistics"] = request.param.removeprefix("associative-")
        scenario = associative_scenario(**changes)
    return record(scenario, tmp_path_factory.mktemp(request.param) / "run")


def _questions(tmp_path_factory):
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    path.write_text('{"prompt": "The tower is in", "choices": ["Rome", "Oslo"], "answer": 0}\n', encoding="utf-8")
    return str(path)


def test_messages_are_made_of_documented_types_and_fields(recording):
    expected = {"targets", "collect", "evaluate", *(["unlearn"] * recording.removes)}
    assert {method for method, _ in recording.messages} >= expected
    for _, message in recording.messages:
        list(parts_of(pickle.loads(message)))


def test_texts_in_messages_are_names_of_the_documentation(recording):
    """Besides contexts, which the unedited model wrote, messages hold names alone: of arms, metrics, features, kinds.

    And digests of inclusion records, which are made of places alone.
    """
    measured = {*METRICS, *SIDE_EFFECTS, *(name + suffix for name in KNOWEDIT for suffix in SUFFIXES.values())}
    names = {
        *PRIVATE_METHODS,
        *get_args(RequestKind),
        *measured,
        "removed_efficacy",
        "removed_efficacy_before",
        *FEATURES,
    }
    for method, message in recording.messages:
        if method not in ("contexts", "describe"):
            said = {part for part in parts_of(pickle.loads(message)) if isinstance(part, str)}
            assert {part for part in said if not re.fullmatch(r"[0-9a-f]{32}", part)} <= names


def test_no_message_holds_an_edits_text(recording):
    texts = long(recording.texts)
    assert len(texts) > 5
    for method, message in recording.messages:
        assert revealed_texts(message, texts) == [], method


def test_no_message_holds_a_key_a_residual_or_a_target(recording):
    assert sum(map(len, recording.vectors.values())) > 50
    for method, message in recording.messages:
        assert revealed_vectors(pickle.loads(message), recording.vectors) == [], method


def guesses(edits, keys):
    """Digests that somebody without the parties' key could try: of known texts, one by one and strung together."""
    for edit in edits:
        texts = [edit.subject, edit.prompt, edit.target_new]
        for number, glue in itertools.product((1, 2, 3), ("", " ", "\x1f", "|", "\0")):
            for parts in itertools.permutations([*texts, edit.text], number):
                message = glue.join(parts).encode()
                yield from (hashlib.new(name, message).digest()[:DIGEST_BYTES] for name in ("md5", "sha1", "sha256"))
                yield from (hmac.digest(key, message, "sha256")[:DIGEST_BYTES] for key in keys)


def test_only_a_scenario_that_asks_for_it_has_its_probes_and_answers_sent(tmp_path_factory, monkeypatch):
    """``evaluate.per_edit`` sends them beside an evaluation's sums, and nothing else of an edit."""
    assert not Scenario(name="x").evaluate.per_edit
    scenario = associative_scenario(
        stream={"rounds": 1}, merge={"methods": ["collabedit"]}, evaluate={"metrics": ["efficacy"], "per_edit": True}
    )
    found = record(scenario, tmp_path_factory.mktemp("per-edit") / "run")
    told = [pickle.loads(message) for method, message in found.messages if method == "evaluate"]
    with pytest.raises(TypeError, match="undocumented message ProbeAnswer"):
        list(parts_of(told[0]))
    monkeypatch.setitem(DOCUMENTED, ProbeAnswer, {each.name for each in dataclasses.fields(ProbeAnswer)})
    texts = long(found.texts)
    for method, message in found.messages:
        parts = list(parts_of(pickle.loads(message)))
        assert any(isinstance(part, ProbeAnswer) for part in parts) <= (method == "evaluate")
        assert bool(revealed_texts(message, texts)) <= (method == "evaluate")
        assert revealed_vectors(pickle.loads(message), found.vectors) == []


class TestKeyedDigests:
    @pytest.fixture(scope="class")
    @staticmethod
    def announced(tmp_path_factory):
        """A run's keyed digests, the edits that they are of, and all calls."""
        scenario, calls, keyed_digests = resolved_conflicts_scenario(), [], []
        facts = open_facts(scenario)

        def observe(call, message):
            calls.append(call)
            if call.method == "announce":
                keyed_digests.append(pickle.loads(message).value)

        with RunDirectory.create(tmp_path_factory.mktemp("keyed_digests") / "run", scenario) as directory:
            coordinator = run_on(LocalPool(scenario, facts, 2, observe=observe), directory)
        requests = [
            coordinator.stream.requests(number, party) for number in (1, 2) for party in range(scenario.parties.count)
        ]
        return keyed_digests, [facts.edit(each.fact, each.variant) for group in requests for each in group], calls

    def test_no_digest_of_a_known_text_is_among_them(self, announced):
        keyed_digests, edits, _ = announced
        sent = {digest for each in keyed_digests for digest in (*each.slots, *each.answers)}
        assert len(keyed_digests) == 2 * 7
        assert {len(digest) for digest in sent} == {DIGEST_BYTES}
        assert sent.isdisjoint(guesses(edits, [b"\0", b"3", b"consortium"]))

    def test_the_key_is_what_hides_them(self, announced):
        """With it, the same search finds every keyed digest: a guess of the text is enough."""
        keyed_digests, edits, _ = announced
        guessed = [keyed_digests_of(shared_key(3), number, [(0, edit)]) for number in (1, 2) for edit in edits]
        known = {digest for each in guessed for digest in (*each.slots, *each.answers)}
        assert {digest for each in keyed_digests for digest in (*each.slots, *each.answers)} <= known

    def test_what_is_settled_is_told_to_those_it_concerns_and_holds_no_digest(self, announced):
        keyed_digests, _, calls = announced
        sent = {digest for each in keyed_digests for digest in (*each.slots, *each.answers)}
        told = [call for call in calls if call.method in ("targets", "collect", "evaluate")]
        num_decisions = 0
        for call in told:
            resolution = resolution_of(call.arguments[0])
            assert {party for party, _ in resolution.decisions} <= {call.party_batch}, "party batches of one party"
            num_decisions += len(resolution.decisions)
            message = pickle.dumps(call.arguments[0])
            assert not [digest for digest in sent if digest in message]
        assert num_decisions > 100


class TestTheSearchFinds:
    @pytest.fixture(scope="class")
    @staticmethod
    def owned(tmp_path_factory):
        scenario = associative_scenario(stream={"rounds": 1}, merge={"methods": ["global"]})
        return record(scenario, tmp_path_factory.mktemp("owned") / "run")

    def test_the_arm_that_owns_all_edits(self, owned, monkeypatch):
        messages = [pickle.loads(message) for method, message in owned.messages if method == "collect"]
        with pytest.raises(TypeError, match="undocumented message OwnedEdits"):
            list(parts_of(messages[0]))
        monkeypatch.setitem(DOCUMENTED, OwnedEdits, {"basis", "keys", "residuals"})
        widths = {len(each) for message in messages for each in revealed_vectors(message, owned.vectors)}
        assert widths == {24, 10}, "keys and residuals alike"

    def test_keys_that_are_not_rotated(self, tmp_path, monkeypatch):
        monkeypatch.setattr("consortium.merging.statistics.rotation", lambda size, generator: _identity(size))
        scenario = associative_scenario(
            stream={"rounds": 1}, merge={"methods": ["collabedit"], "statistics": "factored"}
        )
        found = record(scenario, tmp_path / "run")
        assert any(revealed_vectors(pickle.loads(message), found.vectors) for _, message in found.messages)

    def test_a_text_in_a_message(self, owned):
        texts = long(owned.texts)
        built = pickle.dumps(Reply(0, f"about {sorted(texts)[0]}", 0.0))
        assert revealed_texts(built, texts) != []

    def test_an_unknown_field(self):
        with pytest.raises(TypeError, match="undocumented part set"):
            list(parts_of(Reply(0, {1, 2}, 0.0)))


def _identity(size):
    import torch

    return torch.eye(size, dtype=torch.float64)
