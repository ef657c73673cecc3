"""Laws of the stream: who asks for what does not depend on who comes after, and shares are as asked."""

from __future__ import annotations

import pickle
import time
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from consortium.common.errors import ScenarioError
from consortium.data.num_facts import facts_needed
from consortium.data.request import Request
from consortium.data.stream import Stream
from consortium.scenario.schema import ConflictSpec, PartiesSpec, PartitionSpec, Scenario, StreamSpec
from hypothesis import given, settings
from hypothesis import strategies as st

RELATIONS = [f"r{number % 7}" for number in range(1500)]


class Setting(NamedTuple):
    """A scenario's part that streams see."""

    parties: PartiesSpec
    stream: StreamSpec

    def open(self, seed: int = 1, more_parties: int = 0) -> Stream:
        count = self.parties.count + more_parties
        return Stream(seed, self.parties.model_copy(update={"count": count}), self.stream, RELATIONS)


@st.composite
def settings_of_streams(draw: st.DrawFn) -> Setting:
    shares = [draw(st.integers(0, 25)) / 100 for _ in range(4)]
    conflict = draw(st.sampled_from([shares[1], ConflictSpec(party=shares[1], round=shares[2])]))
    kind = draw(st.sampled_from(["iid", "dirichlet"]))
    partition = PartitionSpec(kind=kind, alpha=0.5)
    parties = PartiesSpec(count=draw(st.integers(1, 7)), edits_per_round=draw(st.integers(1, 12)), partition=partition)
    sharing_group_size, rounds = draw(st.sampled_from([2, 2, 3, 5])), draw(st.integers(1, 5))
    stream = StreamSpec(
        rounds=rounds, overlap=shares[0], conflict=conflict, repeat=shares[3], sharing_group_size=sharing_group_size
    )
    return Setting(parties, stream)


def all_requests(stream: Stream, setting: Setting) -> list[Request]:
    rounds, parties = range(1, setting.stream.rounds + 1), range(setting.parties.count)
    return [request for number in rounds for party in parties for request in stream.requests(number, party)]


@settings(max_examples=40, deadline=None)
@given(setting=settings_of_streams())
def test_no_fact_is_handed_out_twice_unless_asked(setting: Setting) -> None:
    requests = all_requests(setting.open(), setting)
    fresh = [request.fact for request in requests if request.kind == "fresh"]
    assert len(fresh) == len(set(fresh))
    assert set(fresh) == {request.fact for request in requests}
    per_round = Counter((request.round, request.party, request.fact) for request in requests)
    assert max(per_round.values()) == 1


@settings(max_examples=40, deadline=None)
@given(setting=settings_of_streams())
def test_the_demand_is_exactly_what_is_drawn(setting: Setting) -> None:
    drawn = {request.fact for request in all_requests(setting.open(), setting)}
    assert facts_needed(Scenario(name="x", parties=setting.parties, stream=setting.stream)) == len(drawn)


@settings(max_examples=40, deadline=None)
@given(setting=settings_of_streams(), more=st.integers(1, 3))
def test_a_party_added_at_the_end_changes_nobody_elses_stream(setting: Setting, more: int) -> None:
    assert all_requests(setting.open(), setting) == all_requests(setting.open(more_parties=more), setting)


@settings(max_examples=20, deadline=None)
@given(setting=settings_of_streams(), seed=st.integers(0, 1000))
def test_the_same_seed_gives_the_same_stream(setting: Setting, seed: int) -> None:
    assert all_requests(setting.open(seed), setting) == all_requests(setting.open(seed), setting)


def test_another_seed_gives_another_stream() -> None:
    setting = Setting(PartiesSpec(count=3, edits_per_round=5), StreamSpec(rounds=2, repeat=0.4))
    facts = [{request.fact for request in all_requests(setting.open(seed), setting)} for seed in (1, 2)]
    assert facts[0] != facts[1]


@settings(max_examples=40, deadline=None)
@given(setting=settings_of_streams())
def test_every_kind_means_what_it_says(setting: Setting) -> None:
    """Each request is checked against everything asked before it and beside it."""
    latest: dict[tuple[int, int], int] = {}  # (party, fact) -> variant
    stream = setting.open()
    for number in range(1, setting.stream.rounds + 1):
        for party in range(setting.parties.count):
            leader = party - party % setting.stream.sharing_group_size
            partner = {each.fact: each.variant for each in stream.requests(number, leader)} if party > leader else {}
            for index, request in enumerate(stream.requests(number, party)):
                assert (request.round, request.party, request.index) == (number, party, index)
                before = latest.get((party, request.fact))
                match request.kind:
                    case "fresh":
                        assert (before, request.variant, request.rival_variant) == (None, 0, None)
                    case "overlap":
                        assert (before, request.variant, request.rival_variant) == (None, partner[request.fact], None)
                    case "conflict-party":
                        rival = partner[request.fact]
                        assert (before, request.variant, request.rival_variant) == (None, rival + 1, rival)
                    case "conflict-round":
                        assert before is not None
                        assert (request.variant, request.rival_variant) == (before + 1, before)
                    case "repeat":
                        assert (request.variant, request.rival_variant) == (before, None)
                latest[party, request.fact] = request.variant


def shares_of_a_round(stream: Stream, number: int, num_parties: int) -> dict[str, list[float]]:
    """Shares of each party's round as one sees them from outside, without looking at kinds."""
    asked = {
        party: {each.fact: each.variant for each in stream.requests(number, party)} for party in range(num_parties)
    }
    earlier = [
        {each.fact for before in range(1, number) for each in stream.requests(before, party)}
        for party in range(num_parties)
    ]
    shares: dict[str, list[float]] = {"same": [], "other": [], "again": []}
    for party, mine in asked.items():
        others = [facts for other, facts in asked.items() if other != party]
        shares["same"].append(np.mean([any(o.get(fact) == mine[fact] for o in others) for fact in mine]))
        shares["other"].append(np.mean([any(o.get(fact, mine[fact]) != mine[fact] for o in others) for fact in mine]))
        shares["again"].append(np.mean([fact in earlier[party] for fact in mine]))
    return shares


def test_shares_count_both_sides_and_come_out_exactly_for_every_party() -> None:
    setting = Setting(
        PartiesSpec(count=12, edits_per_round=20),
        StreamSpec(rounds=4, overlap=0.2, conflict=ConflictSpec(party=0.1, round=0.25), repeat=0.15),
    )
    stream = setting.open()
    for number in (2, 3, 4):
        shares = shares_of_a_round(stream, number, 12)
        assert shares["same"] == pytest.approx([0.2] * 12)
        assert shares["other"] == pytest.approx([0.1] * 12)
        assert shares["again"] == pytest.approx([0.4] * 12)


def test_the_last_of_an_odd_number_of_parties_has_no_partner() -> None:
    setting = Setting(PartiesSpec(count=3, edits_per_round=10), StreamSpec(overlap=0.3))
    assert shares_of_a_round(setting.open(), 1, 3)["same"] == pytest.approx([0.3, 0.3, 0.0])


def test_all_partners_of_a_group_ask_for_what_their_leader_shares() -> None:
    """Groups of four, the last of them two: 3 of 10 edits are asked for by the whole group, 2 contradicted by all."""
    stream = StreamSpec(
        rounds=3, overlap=0.3, conflict=ConflictSpec(party=0.2, round=0.1), repeat=0.1, sharing_group_size=4
    )
    opened = Setting(PartiesSpec(count=10, edits_per_round=10), stream).open()
    for number in (1, 2, 3):
        variants: dict[int, list[tuple[int, int]]] = {}
        for party in range(10):
            for each in opened.requests(number, party):
                variants.setdefault(each.fact, []).append((party, each.variant))
        shared = [tuple(asked) for asked in variants.values() if len(asked) > 1]
        assert {tuple(party for party, _ in asked) for asked in shared} == {(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)}
        same = [asked for asked in shared if len({variant for _, variant in asked}) == 1]
        assert (len(same), len(shared)) == (3 * 3, 3 * 5)
        for asked in set(shared) - set(same):
            assert [variant for _, variant in asked] == [0] + [1] * (len(asked) - 1)


def test_a_party_alone_can_contradict_and_repeat_itself_only() -> None:
    setting = Setting(PartiesSpec(count=1, edits_per_round=4), StreamSpec(rounds=2, conflict=0.5, repeat=0.25))
    kinds = [Counter(each.kind for each in setting.open().requests(number, 0)) for number in (1, 2)]
    assert kinds == [{"fresh": 4}, {"fresh": 2, "conflict-round": 1, "repeat": 1}]


def test_rounds_of_a_burst_have_more_edits() -> None:
    phase = {"rounds": (2, 2), "edits_per_round": 32}
    stream = StreamSpec.model_validate({"rounds": 3, "phases": (phase,)})
    opened = Setting(PartiesSpec(count=2, edits_per_round=8), stream).open()
    assert [opened.num_edits(number) for number in (1, 2, 3)] == [8, 32, 8]
    assert [len(opened.requests(number, 1)) for number in (1, 2, 3)] == [8, 32, 8]
    assert opened.num_rounds == 3


def test_too_few_facts_are_refused() -> None:
    with pytest.raises(ScenarioError, match="12 different facts, and the fact set has 11"):
        Stream(1, PartiesSpec(count=3, edits_per_round=4), StreamSpec(), RELATIONS[:11])


@pytest.mark.slow
def test_ten_thousand_parties_are_opened_quickly_and_travel_small() -> None:
    relations = [f"r{number % 50}" for number in range(300_000)]
    partition = PartitionSpec(kind="dirichlet", alpha=0.3)
    parties = PartiesSpec(count=10_000, edits_per_round=10, partition=partition)
    started = time.process_time()
    stream = Stream(1, parties, StreamSpec(rounds=3, overlap=0.2, conflict=0.1, repeat=0.1), relations)
    assert time.process_time() - started < 20  # under one second
    assert len(pickle.dumps(stream)) < 8 * 300_000 * 1.1  # two int32 for each request
    assert len(stream.requests(3, 9_999)) == 10
