"""Who leaves and what is removed: by the scenario alone, each edit once, and without a trace in others' streams."""

from collections import Counter

import pytest
from consortium.data.num_facts import facts_needed
from consortium.data.removals import removals
from consortium.data.stream import Stream
from consortium.scenario.schema import (
    PartiesSpec,
    PartitionSpec,
    Scenario,
    StreamSpec,
)
from consortium.scenario.unlearning import EditRemovalSpec, PartyRemovalSpec, UnlearnSpec

RELATIONS = [f"r{number % 7}" for number in range(600)]
SHARES = {"overlap": 0.25, "conflict": 0.25, "repeat": 0.25}


def stream_of(leave=(), unlearn=(), seed=1, kind="iid", rounds=4, **shares):
    parties = PartiesSpec(count=5, edits_per_round=8, partition=PartitionSpec(kind=kind))
    spec = StreamSpec(rounds=rounds, **shares)
    return Stream(seed, parties, spec, RELATIONS, UnlearnSpec(parties=tuple(leave), edits=tuple(unlearn)))


def leaves(round_number, *parties):
    return PartyRemovalSpec(round=round_number, parties=parties)


def requests_of(stream, parties=range(5)):
    return [request for number in range(1, 5) for party in parties for request in stream.requests(number, party)]


@pytest.mark.parametrize("kind", ["iid", "dirichlet"])
@pytest.mark.parametrize("party", [0, 3, 4])
def test_who_leaves_changes_nobody_elses_stream_but_the_followers(kind, party):
    whole, left = stream_of(kind=kind, **SHARES), stream_of([leaves(3, party)], kind=kind, **SHARES)
    others = [other for other in range(5) if other not in (party, party + 1 if party % 2 == 0 else party)]
    assert requests_of(left, others) == requests_of(whole, others)
    assert all(left.requests(number, party) == whole.requests(number, party) for number in (1, 2))
    assert left.requests(3, party) == left.requests(4, party) == ()


def test_what_a_follower_would_have_shared_with_a_leader_who_left_is_fresh():
    """Facts stay the same: they were the leader's, whom nobody else can ask for them."""
    whole, left = stream_of(**SHARES), stream_of([leaves(3, 0)], **SHARES)
    for number in (3, 4):
        before, after = whole.requests(number, 1), left.requests(number, 1)
        assert [each.fact for each in after] == [each.fact for each in before]
        assert {"overlap", "conflict-party"} <= {each.kind for each in before}
        for then, now in zip(before, after, strict=True):
            if then.kind in ("overlap", "conflict-party"):
                assert (now.kind, now.variant, now.rival_variant) == ("fresh", 0, None)
            else:
                assert now.kind == then.kind
    assert left.requests(2, 1) == whole.requests(2, 1)


def test_later_rounds_know_that_nobody_was_contradicted():
    """A follower that comes back to such a fact contradicts or repeats what it really asked for."""
    left = stream_of([leaves(1, 0, 2)], rounds=4, **SHARES)
    latest = {}
    for request in requests_of(left, (1, 3)):
        before = latest.get((request.party, request.fact))
        expected = {"fresh": 0, "repeat": before, "conflict-round": None if before is None else before + 1}
        assert request.variant == expected[request.kind]
        latest[request.party, request.fact] = request.variant


def test_what_leaves_is_taken_back_once():
    stream = stream_of([leaves(3, 1), leaves(4, 2)])
    assert stream.removed(3, 1) == stream.requests(1, 1) + stream.requests(2, 1)
    assert stream.removed(4, 2) == sum((stream.requests(number, 2) for number in (1, 2, 3)), ())
    assert stream.removed(4, 1) == stream.removed(3, 0) == ()
    assert stream.removals.rounds() == [3, 4]
    first = stream.requests(1, 1)[0]
    assert [stream.is_live(first, number) for number in (1, 2, 3, 4)] == [True, True, False, False]
    assert stream.removed_in(first) == 3
    assert stream.removed_in(stream.requests(1, 0)[0]) is None


def test_numbers_of_those_who_are_there():
    stream = stream_of([leaves(1, 4), leaves(3, 1)])
    assert [stream.num_requests(number) for number in (1, 2, 3, 4)] == [32, 32, 24, 24]
    assert stream.present(3).tolist() == [0, 2, 3]
    assert [stream.num_requests(3, range(first, first + 2)) for first in (0, 2, 4)] == [8, 16, 0]
    assert stream.removals.removed.keys() == {1}, "who never took part takes nothing back"


@pytest.mark.parametrize(("share", "number"), [(0.5, 4), (0.51, 5), (0.01, 1), (1.0, 8), (0.125, 1)])
def test_a_share_is_rounded_up(share, number):
    stream = stream_of(unlearn=[EditRemovalSpec(round=3, parties=(2,), of_round=1, share=share)])
    taken = stream.removed(3, 2)
    assert len(taken) == len({request.index for request in taken}) == number
    assert {request.round for request in taken} == {1}


def test_nothing_is_taken_back_twice():
    half = [EditRemovalSpec(round=number, parties=(2,), share=0.5) for number in (3, 3, 4)]
    stream = stream_of([leaves(4, 3)], [EditRemovalSpec(round=3, parties=(3,), share=0.5), *half])
    taken = [each for number in (3, 4) for party in (2, 3) for each in stream.removed(number, party)]
    assert max(Counter((each.party, each.round, each.index) for each in taken).values()) == 1
    # Party 2 has 16 edits in round 3: 8 and half of the other 8; in round 4, half of the 4 + 8 that are left.
    assert [len(stream.removed(number, 2)) for number in (3, 4)] == [8 + 4, 6]
    assert len(stream.removed(4, 3)) == 3 * 8 - len(stream.removed(3, 3))


def test_what_is_taken_back_is_drawn_from_the_seed():
    unlearn = UnlearnSpec(edits=(EditRemovalSpec(round=3, parties=(0, 1), share=0.3),))
    drawn = [removals(seed, unlearn, [20, 20, 20]).removed for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][0] != drawn[0][1], "each party draws for itself"
    indices = [index for own in drawn[0].values() for _, index in own]
    assert max(indices) > 12, "not the first ones"


def test_the_demand_counts_what_is_dealt_to_those_who_leave():
    """A party's facts are its own, whether or not it stays to ask for them: so nobody else's change."""
    for leave in ([], [leaves(2, 0, 3)]):
        spec = StreamSpec(rounds=4, **SHARES)
        unlearn = UnlearnSpec(parties=tuple(leave))
        scenario = Scenario(name="x", parties=PartiesSpec(count=5, edits_per_round=8), stream=spec, unlearn=unlearn)
        drawn = {each.fact for each in requests_of(stream_of(**SHARES))}
        assert facts_needed(scenario) == len(drawn)


@pytest.mark.parametrize("until", [2, 3, 4])
def test_contradictions_are_those_of_the_requests_that_stand(until):
    """The tables and the requests made from them say the same, removals and what is removed included."""
    removed = EditRemovalSpec(round=4, parties=(0, 3), share=0.6)
    stream = stream_of([leaves(3, 1)], [removed], **{**SHARES, "conflict": 0.5})
    expected = [
        request.fact
        for party in range(5)
        for request in stream.requests(2, party)
        if request.kind == "conflict-round" and stream.is_live(request, until)
    ]
    assert stream.contradicted(2, until) == expected
    assert stream.contradicted(1, until) == []


def test_a_round_without_parties_contradicts_nothing():
    assert stream_of([leaves(1, 0, 1, 2, 3, 4)], **SHARES).contradicted(2, 4) == []
