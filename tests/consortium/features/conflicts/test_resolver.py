"""Policies over all rounds, against a twin that keeps every request of every round and looks at all of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from consortium.features.conflicts.keyed_digests import KeyedDigests
from consortium.features.conflicts.resolution import resolve_conflicts
from consortium.features.conflicts.resolver import ConflictResolver
from consortium.scenario.schema import ConflictsSpec
from hypothesis import given
from hypothesis import strategies as st

POLICIES = ("latest", "priority", "majority")
#: Party, slot and answer of a request; a round is a list of them, in the order of parties.
Asked = tuple[int, str, str]


def keyed_digests_of(asked: Sequence[Asked]) -> KeyedDigests:
    return KeyedDigests(
        tuple(party for party, _, _ in asked),
        tuple(slot.encode() for _, slot, _ in asked),
        tuple(answer.encode() for _, _, answer in asked),
    )


def conflicts(policy: str, priorities: tuple[int, ...] = (), scope: str = "run") -> ConflictsSpec:
    return ConflictsSpec(policy=policy, priorities=priorities, scope=scope)


def statuses(resolver: ConflictResolver, number: int, asked: Sequence[Asked]) -> list[str]:
    (found,) = resolver.resolve(number, [keyed_digests_of(asked)])
    index: dict[int, int] = {}
    told = []
    for party, _, _ in asked:
        told.append(found.of(party, index.setdefault(party, 0)).status)
        index[party] += 1
    return told


def statuses_of_rounds(
    policy: str, rounds: Sequence[Sequence[Asked]], priorities: tuple[int, ...] = ()
) -> list[list[str]]:
    resolver = ConflictResolver(conflicts(policy, priorities))
    return [statuses(resolver, number, asked) for number, asked in enumerate(rounds, start=1)]


class NaiveStanding:
    """All requests of all rounds, in order; who wants what, and what stands, follows from the whole list each time."""

    def __init__(self, policy: str, priorities: tuple[int, ...]) -> None:
        self.policy, self.priorities = policy, priorities
        self.requests: list[Asked] = []
        self.stands: dict[str, str] = {}

    def rank(self, party: int) -> int:
        return self.priorities.index(party) if party in self.priorities else 1000 + party

    def resolve(self, asked: Sequence[Asked]) -> dict[str, tuple[set[str], str]]:
        """Slot → its candidates, and which of them stands now."""
        self.requests += asked
        found = {}
        for slot in dict.fromkeys(slot for _, slot, _ in asked):
            now = [answer for _, each, answer in asked if each == slot]
            wants = {party: answer for party, each, answer in self.requests if each == slot}
            before = [self.stands[slot]] if slot in self.stands else []
            candidates = list(dict.fromkeys(before + now))
            if self.policy == "latest":
                winner = now[-1]
            elif self.policy == "priority":
                winner = wants[min((party for party in wants if wants[party] in candidates), key=self.rank)]
            else:
                votes = list(wants.values())
                winner = max(candidates, key=votes.count)
            self.stands[slot] = winner
            found[slot] = set(candidates), winner
        return found


@st.composite
def runs(draw: st.DrawFn) -> list[list[Asked]]:
    """Up to five rounds of five parties that ask about each of two slots once a round at most."""
    rounds = []
    for _ in range(draw(st.integers(1, 5))):
        asked = [(party, slot, draw(st.sampled_from("-xyz"))) for party in range(5) for slot in ("a", "b")]
        rounds.append([each for each in asked if each[2] != "-"])
    return rounds


@given(runs(), st.sampled_from(POLICIES), st.sampled_from([(), (3,), (4, 1)]))
def test_what_is_kept_is_enough(rounds: list[list[Asked]], policy: str, priorities: tuple[int, ...]) -> None:
    priorities = priorities if policy == "priority" else ()
    naive = NaiveStanding(policy, priorities)
    resolver = ConflictResolver(conflicts(policy, priorities))
    for number, asked in enumerate(rounds, start=1):
        expected = naive.resolve(asked)
        for (_, slot, answer), status in zip(asked, statuses(resolver, number, asked), strict=True):
            candidates, winner = expected[slot]
            alone = "duplicate" if [each[1:] for each in asked].count((slot, answer)) > 1 else "unique"
            assert status == (alone if len(candidates) == 1 else "accepted" if answer == winner else "rejected")
            assert resolver.answer(slot.encode()) == winner.encode()


@given(runs(), st.sampled_from(POLICIES), st.integers(1, 5))
def test_grouping_does_not_matter(rounds: list[list[Asked]], policy: str, size: int) -> None:
    together, apart = ConflictResolver(conflicts(policy)), ConflictResolver(conflicts(policy))
    for number, asked in enumerate(rounds, start=1):
        groups = [keyed_digests_of([each for each in asked if each[0] // size == group]) for group in range(5)]
        (all_of_them,) = together.resolve(number, [keyed_digests_of(asked)])
        merged = [entry for each in apart.resolve(number, groups) for entry in each.decisions.items()]
        assert dict(merged) == dict(all_of_them.decisions)


@given(runs(), st.sampled_from(POLICIES))
def test_a_first_round_is_settled_as_by_itself(rounds: list[list[Asked]], policy: str) -> None:
    groups = [keyed_digests_of(rounds[0])]
    assert ConflictResolver(conflicts(policy)).resolve(1, groups) == resolve_conflicts(
        groups, conflicts(policy, scope="round")
    )


@given(runs(), st.sampled_from(POLICIES))
def test_without_reach_every_round_is_settled_by_itself(rounds: list[list[Asked]], policy: str) -> None:
    spec = conflicts(policy, scope="round")
    resolver = ConflictResolver(spec)
    for number, asked in enumerate(rounds, start=1):
        assert resolver.missing(number) == range(number, number + 1)
        assert resolver.resolve(number, [keyed_digests_of(asked)]) == resolve_conflicts([keyed_digests_of(asked)], spec)


@pytest.mark.parametrize(
    ("policy", "later"), [("latest", "accepted"), ("priority", "rejected"), ("majority", "rejected")]
)
def test_a_later_request_against_an_earlier_one(policy: str, later: str) -> None:
    """Party 0 ranks before 1, and of two votes that are equal the standing answer's counts."""
    assert statuses_of_rounds(policy, [[(0, "a", "x")], [(1, "a", "y")]]) == [["unique"], [later]]


def test_a_party_that_ranks_higher_overrules_an_earlier_round() -> None:
    assert statuses_of_rounds("priority", [[(0, "a", "x")], [(1, "a", "y")]], (1,)) == [["unique"], ["accepted"]]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_party_may_change_its_mind(policy: str) -> None:
    assert statuses_of_rounds(policy, [[(0, "a", "x")], [(0, "a", "y")]]) == [["unique"], ["accepted"]]


def test_votes_of_all_rounds_count_together() -> None:
    """One for x, then one for y, which loses, then another for y, which makes a majority with the one rejected."""
    rounds = [[(0, "a", "x")], [(1, "a", "y")], [(2, "a", "y")], [(3, "a", "x")]]
    assert statuses_of_rounds("majority", rounds) == [["unique"], ["rejected"], ["accepted"], ["rejected"]]


def test_an_answer_that_nobody_asks_for_now_and_that_does_not_stand_cannot_win() -> None:
    """By votes w would win in round 2, 2 against 1 each; but it is in no model, and nobody sends it."""
    first = [(0, "a", "w"), (1, "a", "x"), (2, "a", "x"), (3, "a", "x"), (4, "a", "w")]
    told = statuses_of_rounds("majority", [first, [(1, "a", "y"), (2, "a", "z")]])
    assert told[1] == ["rejected", "rejected"]


def test_rounds_are_settled_in_their_order() -> None:
    resolver = ConflictResolver(conflicts("majority"))
    assert resolver.missing(3) == range(1, 4)
    resolver.resolve(1, [])
    assert resolver.missing(3) == range(2, 4)
    with pytest.raises(AssertionError, match="round 3 after round 1"):
        resolver.resolve(3, [])
