"""Batches: answers in any order, taken in one."""

import pytest
from consortium_ray.coordinator.batches import LOOK_AHEAD, CallBatch
from consortium_ray.messages import Call, Reply
from hypothesis import given
from hypothesis import strategies as st


def make(number):
    taken = []
    calls = [Call(("work", place), "work", (), place) for place in range(number)]
    return calls, CallBatch("work", calls, lambda place, answer: taken.append((place, answer.value))), taken


def anything(call):
    return True


@given(st.permutations(range(8)))
def test_answers_are_taken_in_the_order_of_calls(arrival):
    calls, batch, taken = make(8)
    for place in arrival:
        assert not batch.is_done
        batch.receive(calls[place], Reply(0, 10 * place, 0.0))
    assert taken == [(place, 10 * place) for place in range(8)]
    assert batch.is_done
    assert batch.num_left == 0


@pytest.mark.parametrize("first", [0, 1])
def test_a_second_answer_changes_nothing(first):
    """Neither when the first was taken (0) nor when it waits for its turn (1)."""
    calls, batch, taken = make(3)
    assert batch.receive(calls[first], Reply(0, "first", 0.0))
    assert not batch.receive(calls[first], Reply(1, "second", 0.0))
    for place in {0, 1, 2} - {first}:
        batch.receive(calls[place], Reply(0, "other", 0.0))
    assert [value for _, value in taken].count("first") == 1
    assert "second" not in [value for _, value in taken]


def test_calls_are_handed_out_once_in_order():
    calls, batch, _ = make(3)
    assert [batch.choose(anything) for _ in range(4)] == [*calls, None]


def test_only_acceptable_calls_are_handed_out():
    calls, batch, _ = make(3)
    assert batch.choose(lambda call: call.party_batch == 2) is calls[2]
    assert batch.choose(lambda call: call.party_batch == 2) is None
    assert batch.choose(anything) is calls[0]


def test_a_call_that_is_given_back_comes_first_again():
    calls, batch, _ = make(4)
    for _ in range(3):
        batch.choose(anything)
    batch.give_back(calls[1])
    assert batch.choose(anything) is calls[1]
    assert batch.choose(anything) is calls[3]


def test_a_call_that_was_given_back_and_then_answered_is_not_handed_out():
    calls, batch, _ = make(2)
    batch.choose(anything)
    batch.give_back(calls[0])
    batch.receive(calls[0], Reply(0, "late", 0.0))
    assert batch.choose(anything) is calls[1]


def test_nobody_runs_far_ahead_of_a_missing_answer():
    """The first call is slow: at most LOOK_AHEAD - 1 answers wait for it, however many calls there are."""
    calls, batch, taken = make(3 * LOOK_AHEAD)
    slow = batch.choose(anything)
    while (call := batch.choose(anything)) is not None:
        batch.receive(call, Reply(0, None, 0.0))
    assert taken == []
    assert len(batch._early) == LOOK_AHEAD - 1
    batch.receive(slow, Reply(0, None, 0.0))
    assert len(taken) == LOOK_AHEAD
    assert batch.choose(anything) is calls[LOOK_AHEAD]


def test_strangers_are_known():
    calls, batch, _ = make(1)
    assert batch.has(calls[0])
    assert not batch.has(Call(("other", 0), "work"))
