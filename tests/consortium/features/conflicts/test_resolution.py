"""What follows from slips, against the policies written out on plain names."""

from __future__ import annotations

import pytest
from consortium.features.conflicts.commitments import Slips
from consortium.features.conflicts.resolution import Settled, Verdict, settle
from consortium.scenario.schema import ConflictsSpec
from hypothesis import given
from hypothesis import strategies as st

#: A party's request: what it asks about, and the answer it wants.
Asked = tuple[str, str]


def slips(parties: dict[int, list[Asked]]) -> Slips:
    asked = [(party, *each) for party, requests in parties.items() for each in requests]
    return Slips(
        tuple(party for party, _, _ in asked),
        tuple(slot.encode() for _, slot, _ in asked),
        tuple(f"{slot}/{answer}".encode() for _, slot, answer in asked),
    )


def settled(parties: dict[int, list[Asked]], policy: str, priorities: tuple[int, ...] = ()) -> Settled:
    return settle([slips(parties)], ConflictsSpec(policy=policy, priorities=priorities))[0]


def fates(parties: dict[int, list[Asked]], policy: str, priorities: tuple[int, ...] = ()) -> list[str]:
    found = settled(parties, policy, priorities)
    return [found.of(party, index).fate for party, asked in parties.items() for index in range(len(asked))]


THREE = {
    0: [("tower", "Rome")],
    1: [("tower", "Oslo")],
    2: [("tower", "Oslo")],
    3: [("tower", "Bern"), ("ben", "York")],
}


@pytest.mark.parametrize(
    ("policy", "priorities", "expected"),
    [
        ("none", (), ["contested"] * 4 + ["alone"]),
        ("latest", (), ["withdrawn", "withdrawn", "withdrawn", "won", "alone"]),
        ("majority", (), ["withdrawn", "won", "won", "withdrawn", "alone"]),
        ("priority", (), ["won", "withdrawn", "withdrawn", "withdrawn", "alone"]),
        ("priority", (3, 1), ["withdrawn", "withdrawn", "withdrawn", "won", "alone"]),
        ("priority", (2,), ["withdrawn", "won", "won", "withdrawn", "alone"]),
    ],
)
def test_policies_by_hand(policy, priorities, expected):
    assert fates(THREE, policy, priorities) == expected


def test_a_majority_of_equals_is_the_first_partys():
    assert fates({0: [("a", "x")], 1: [("a", "y")]}, "majority") == ["won", "withdrawn"]
    assert fates({0: [("a", "y")], 1: [("a", "x")], 2: [("a", "x")], 3: [("a", "y")]}, "majority") == [
        "won", "withdrawn", "withdrawn", "won",
    ]  # fmt: skip


def test_a_party_has_one_vote_however_often_it_asks():
    asked = {0: [("a", "x"), ("a", "x"), ("a", "x")], 1: [("a", "y")], 2: [("a", "y")]}
    assert fates(asked, "majority") == ["withdrawn"] * 3 + ["won"] * 2


def test_a_party_that_contradicts_itself_means_what_it_asked_for_last():
    asked = {0: [("a", "x"), ("b", "u"), ("a", "y")], 1: [("b", "u")]}
    assert fates(asked, "latest") == fates(asked, "priority") == ["withdrawn", "shared", "won", "shared"]


def test_requests_for_the_same_are_counted():
    asked = {0: [("a", "x"), ("b", "u")], 1: [("a", "x")], 2: [("a", "x"), ("b", "v")]}
    found = settled(asked, "latest")
    assert found.verdicts == {
        (0, 0): Verdict(3, "shared"),
        (1, 0): Verdict(3, "shared"),
        (2, 0): Verdict(3, "shared"),
        (0, 1): Verdict(1, "withdrawn"),
        (2, 1): Verdict(1, "won"),
    }
    assert found.of(7, 7) == Verdict(1, "alone")


def test_nothing_announced_is_nothing_settled():
    assert settle([], ConflictsSpec()) == ()
    assert settle([slips({})], ConflictsSpec(policy="latest")) == (Settled({}),)


requests = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=4)
announced = st.lists(requests, min_size=1, max_size=6)


@given(announced, st.sampled_from(["none", "latest", "priority", "majority"]), st.integers(1, 6))
def test_how_parties_are_grouped_does_not_matter(asked, policy, size):
    parties = dict(enumerate(asked))
    together = settled(parties, policy).verdicts
    groups = [dict(list(parties.items())[start : start + size]) for start in range(0, len(parties), size)]
    apart = settle([slips(group) for group in groups], ConflictsSpec(policy=policy))
    assert {place: each for group in apart for place, each in group.verdicts.items()} == together
    assert sum(len(group.verdicts) for group in apart) == len(together)


@given(announced, st.sampled_from(["latest", "priority", "majority"]))
def test_one_answer_of_each_contested_slot_wins_and_all_who_want_it_are_told(asked, policy):
    found = settled(dict(enumerate(asked)), policy)
    places = [(party, index, *each) for party, mine in enumerate(asked) for index, each in enumerate(mine)]
    for slot in {slot for _, _, slot, _ in places}:
        here = [(answer, found.of(party, index)) for party, index, each, answer in places if each == slot]
        answers = {answer for answer, _ in here}
        won = {answer for answer, verdict in here if verdict.fate == "won"}
        assert len(won) == (len(answers) > 1)
        for answer, verdict in here:
            same = [each for each, _ in here if each == answer]
            assert verdict.num_asking == len(same)
            if len(answers) > 1:
                assert verdict.fate == ("won" if answer in won else "withdrawn")
            else:
                assert verdict.fate == ("shared" if len(same) > 1 else "alone")
