"""What a pool decides without Ray."""

import pytest
from consortium.errors import RunError
from consortium_ray.messages import Call
from consortium_ray.pool import ReplacePolicy


def test_losses_in_a_row_are_borne_up_to_a_limit():
    policy = ReplacePolicy(max_losses=2)
    policy.decide(2, "gone")
    with pytest.raises(RunError, match="3 hosts were lost one after another without an answer; the last: gone"):
        policy.decide(3, "gone")


def test_calls_are_named_in_words():
    assert str(Call(("collect", "ties", 1, 5, 3), "collect", (), 3)) == "collect of cohort 3"
    assert str(Call(("describe",), "describe")) == "describe"
