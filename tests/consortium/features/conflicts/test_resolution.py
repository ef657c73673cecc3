"""What follows from keyed digests, against the policies written out on plain names."""

from __future__ import annotations

import pytest
from consortium.features.conflicts.keyed_digests import KeyedDigests
from consortium.features.conflicts.resolution import Decision, Resolution, resolve_conflicts
from consortium.scenario.schema import ConflictsSpec
from hypothesis import given
from hypothesis import strategies as st

#: A party's request: what it asks about, and the answer it wants.
Asked = tuple[str, str]


def keyed_digests(parties: dict[int, list[Asked]]) -> KeyedDigests:
    asked = [(party, *each) for party, requests in parties.items() for each in requests]
    return KeyedDigests(
        tuple(party for party, _, _ in asked),
        tuple(slot.encode() for _, slot, _ in asked),
        tuple(f"{slot}/{answer}".encode() for _, slot, answer in asked),
    )


def resolution(parties: dict[int, list[Asked]], policy: str, priorities: tuple[int, ...] = ()) -> Resolution:
    return resolve_conflicts([keyed_digests(parties)], ConflictsSpec(policy=policy, priorities=priorities))[0]


def statuses(parties: dict[int, list[Asked]], policy: str, priorities: tuple[int, ...] = ()) -> list[str]:
    found = resolution(parties, policy, priorities)
    return [found.of(party, index).status for party, asked in parties.items() for index in range(len(asked))]


THREE = {
    0: [("tower", "Rome")],
    1: [("tower", "Oslo")],
    2: [("tower", "Oslo")],
    3: [("tower", "Bern"), ("ben", "York")],
}


@pytest.mark.parametrize(
    ("policy", "priorities", "expected"),
    [
        ("none", (), ["conflicting"] * 4 + ["unique"]),
        ("latest", (), ["rejected", "rejected", "rejected", "accepted", "unique"]),
        ("majority", (), ["rejected", "accepted", "accepted", "rejected", "unique"]),
        ("priority", (), ["accepted", "rejected", "rejected", "rejected", "unique"]),
        ("priority", (3, 1), ["rejected", "rejected", "rejected", "accepted", "unique"]),
        ("priority", (2,), ["rejected", "accepted", "accepted", "rejected", "unique"]),
    ],
)
def test_policies_by_hand(policy, priorities, expected):
    assert statuses(THREE, policy, priorities) == expected


def test_a_majority_of_equals_is_the_first_partys():
    assert statuses({0: [("a", "x")], 1: [("a", "y")]}, "majority") == ["accepted", "rejected"]
    assert statuses({0: [("a", "y")], 1: [("a", "x")], 2: [("a", "x")], 3: [("a", "y")]}, "majority") == [
        "accepted", "rejected", "rejected", "accepted",
    ]  # fmt: skip


def test_a_party_has_one_vote_however_often_it_asks():
    asked = {0: [("a", "x"), ("a", "x"), ("a", "x")], 1: [("a", "y")], 2: [("a", "y")]}
    assert statuses(asked, "majority") == ["rejected"] * 3 + ["accepted"] * 2


def test_a_party_that_contradicts_itself_means_what_it_asked_for_last():
    asked = {0: [("a", "x"), ("b", "u"), ("a", "y")], 1: [("b", "u")]}
    assert (
        statuses(asked, "latest") == statuses(asked, "priority") == ["rejected", "duplicate", "accepted", "duplicate"]
    )


def test_requests_for_the_same_are_counted():
    asked = {0: [("a", "x"), ("b", "u")], 1: [("a", "x")], 2: [("a", "x"), ("b", "v")]}
    found = resolution(asked, "latest")
    assert found.decisions == {
        (0, 0): Decision(3, "duplicate"),
        (1, 0): Decision(3, "duplicate"),
        (2, 0): Decision(3, "duplicate"),
        (0, 1): Decision(1, "rejected"),
        (2, 1): Decision(1, "accepted"),
    }
    assert found.of(7, 7) == Decision(1, "unique")


def test_nothing_announced_is_nothing_settled():
    assert resolve_conflicts([], ConflictsSpec()) == ()
    assert resolve_conflicts([keyed_digests({})], ConflictsSpec(policy="latest")) == (Resolution({}),)


requests = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=4)
announced = st.lists(requests, min_size=1, max_size=6)


@given(announced, st.sampled_from(["none", "latest", "priority", "majority"]), st.integers(1, 6))
def test_how_parties_are_grouped_does_not_matter(asked, policy, size):
    parties = dict(enumerate(asked))
    together = resolution(parties, policy).decisions
    groups = [dict(list(parties.items())[start : start + size]) for start in range(0, len(parties), size)]
    apart = resolve_conflicts([keyed_digests(group) for group in groups], ConflictsSpec(policy=policy))
    assert {place: each for group in apart for place, each in group.decisions.items()} == together
    assert sum(len(group.decisions) for group in apart) == len(together)


@given(announced, st.sampled_from(["latest", "priority", "majority"]))
def test_one_answer_of_each_contested_slot_wins_and_all_who_want_it_are_told(asked, policy):
    found = resolution(dict(enumerate(asked)), policy)
    places = [(party, index, *each) for party, mine in enumerate(asked) for index, each in enumerate(mine)]
    for slot in {slot for _, _, slot, _ in places}:
        here = [(answer, found.of(party, index)) for party, index, each, answer in places if each == slot]
        answers = {answer for answer, _ in here}
        won = {answer for answer, decision in here if decision.status == "accepted"}
        assert len(won) == (len(answers) > 1)
        for answer, decision in here:
            same = [each for each, _ in here if each == answer]
            assert decision.num_asking == len(same)
            if len(answers) > 1:
                assert decision.status == ("accepted" if answer in won else "rejected")
            else:
                assert decision.status == ("duplicate" if len(same) > 1 else "unique")
