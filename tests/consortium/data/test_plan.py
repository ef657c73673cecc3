"""How shares become whole numbers of edits."""

from __future__ import annotations

from fractions import Fraction

import pytest
from consortium.common.errors import ScenarioError
from consortium.data.plan import RoundCounts, plan, round_shares
from consortium.scenario.schema import ConflictSpec, PartiesSpec, PhaseSpec, StreamSpec
from hypothesis import given, settings
from hypothesis import strategies as st

TWO = PartiesSpec(count=2, edits_per_round=10)


def test_shares_that_come_out_even_need_no_rounding() -> None:
    stream = StreamSpec(rounds=2, overlap=0.2, conflict=ConflictSpec(party=0.1, round=0.3), repeat=0.1)
    # Round 1 has no earlier round to contradict or repeat: those four edits are fresh.
    assert plan(TWO, stream) == (RoundCounts(10, 2, 1, 0, 0), RoundCounts(10, 2, 1, 3, 1))


def test_counts_of_leader_and_follower_follow_from_the_kinds() -> None:
    counts = RoundCounts(10, overlap=2, conflict_party=1, conflict_round=3, repeat=1)
    assert (counts.num_shared, counts.num_revisits, counts.num_new, counts.num_fresh_of_follower) == (3, 4, 6, 3)


def test_one_number_for_conflict_is_all_between_parties_in_round_1_and_split_later() -> None:
    counts = plan(TWO, StreamSpec(rounds=2, conflict=0.4))
    assert [(each.conflict_party, each.conflict_round) for each in counts] == [(4, 0), (2, 2)]


def test_an_odd_number_of_conflicts_gives_the_larger_half_to_parties_first_and_evens_out() -> None:
    counts = plan(TWO, StreamSpec(rounds=5, conflict=0.1))
    # 0.5 each a round from round 2 on: rounded up for one, then owed to the other.
    assert [(each.conflict_party, each.conflict_round) for each in counts] == [(1, 0), (1, 0), (0, 1), (1, 0), (0, 1)]


def test_what_is_rounded_off_is_carried_over() -> None:
    counts = plan(PartiesSpec(count=2, edits_per_round=2), StreamSpec(rounds=10, overlap=0.1))
    assert sum(each.overlap for each in counts) == 2
    assert max(each.overlap for each in counts) == 1


def test_shares_are_taken_as_written_not_as_binary_fractions() -> None:
    (counts,) = plan(PartiesSpec(count=2, edits_per_round=100), StreamSpec(overlap=0.29))
    assert counts.overlap == 29


def test_no_more_is_repeated_or_contradicted_than_was_asked_before() -> None:
    burst = PhaseSpec(rounds=(2, 2), edits_per_round=12, conflict=ConflictSpec(round=0.25), repeat=0.75)
    second = plan(PartiesSpec(count=1, edits_per_round=4), StreamSpec(rounds=2, phases=(burst,)))[1]
    # 3 + 9 are wanted of the 4 facts of round 1; conflicts come first, the other eight edits are fresh.
    assert (second.conflict_round, second.repeat, second.num_new) == (3, 1, 8)


def test_phases_override_what_they_name_in_the_rounds_they_cover() -> None:
    phases = (PhaseSpec(rounds=(2, 3), edits_per_round=4, conflict=0.5), PhaseSpec(rounds=(3, 3), overlap=0.25))
    stream = StreamSpec(rounds=4, repeat=0.1, overlap=0.0, phases=phases)
    shares = [round_shares(TWO, stream, number) for number in (1, 2, 3, 4)]
    assert [each.num_edits for each in shares] == [10, 4, 4, 10]
    assert [each.conflict_party for each in shares] == [0, Fraction(1, 4), Fraction(1, 4), 0]
    assert [each.overlap for each in shares] == [0, 0, Fraction(1, 4), 0]
    assert {each.repeat for each in shares} == {Fraction(1, 10)}


def test_shares_above_1_are_refused_with_the_round_and_the_sum() -> None:
    phase = PhaseSpec(rounds=(2, 2), overlap=0.7)
    with pytest.raises(ScenarioError, match=r"round 2, overlap \+ conflict \+ repeat = 1\.2"):
        plan(TWO, StreamSpec(rounds=3, conflict=0.5, phases=(phase,)))


@settings(max_examples=60, deadline=None)
@given(
    num_edits=st.integers(1, 30),
    rounds=st.integers(1, 12),
    percents=st.tuples(*[st.integers(0, 25)] * 4),
)
def test_every_round_is_within_one_edit_of_its_shares_and_the_whole_run_too(
    num_edits: int, rounds: int, percents: tuple[int, int, int, int]
) -> None:
    overlap, party, earlier, repeat = (percent / 100 for percent in percents)
    stream = StreamSpec(
        rounds=rounds, overlap=overlap, conflict=ConflictSpec(party=party, round=earlier), repeat=repeat
    )
    counts = plan(PartiesSpec(count=2, edits_per_round=num_edits), stream)
    wanted = [percent * num_edits / 100 for percent in percents]
    for each in counts[1:]:
        asked = (each.overlap, each.conflict_party, each.conflict_round, each.repeat)
        assert sum(asked) <= each.num_edits == num_edits
        assert all(abs(count - want) < 1 for count, want in zip(asked, wanted, strict=True))
    for name, want in zip(("overlap", "conflict_party"), wanted, strict=False):
        assert abs(sum(getattr(each, name) for each in counts) - rounds * want) < 1.5
