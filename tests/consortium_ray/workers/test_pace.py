"""When an idle worker does what waits for another: seconds, by hand."""

import pytest
from consortium_ray.workers.pace import OVERLONG_S, Pace, is_overlong, takes_over
from consortium_ray.workers.patience import Patience


def test_what_is_typical_is_the_median_of_what_was_seen():
    pace = Pace()
    for seconds in (1.0, 1.0):
        pace.saw("collect", seconds)
    assert pace.typical("collect") is None
    pace.saw("collect", 45.0)
    assert pace.typical("collect") == 1.0
    assert pace.typical("evaluate") is None


@pytest.mark.parametrize(
    ("in_hand_s", "num_waiting", "typical_s", "make_s", "expected"),
    [
        (0.1, 1, 1.0, 1.0, False),  # free in 0.9 s, and then 1 s; the other needs 2 s
        (45.0, 1, 1.0, 1.0, True),  # stuck
        (0.1, 20, 1.0, 5.0, True),  # 20 s of work waits; the other is done with one in 6 s
        (0.1, 20, 1.0, 40.0, False),  # what they want takes longer to make than all of it
        (0.0, 30, 0.01, 0.01, False),  # a third of a second is not worth it
    ],
)
def test_work_is_taken_over_where_that_is_sooner(in_hand_s, num_waiting, typical_s, make_s, expected):
    assert takes_over(in_hand_s, num_waiting, typical_s, make_s) is expected


def test_a_call_is_overlong_by_what_is_typical_and_never_within_seconds():
    assert not is_overlong(100.0, None)
    assert not is_overlong(OVERLONG_S - 0.1, 0.01)
    assert is_overlong(OVERLONG_S + 0.1, 0.01)
    assert not is_overlong(39.0, 10.0)
    assert is_overlong(41.0, 10.0)


def test_patience_counts_listening_and_of_what_lies_between_little():
    now = [0.0]
    patience = Patience(0.5, lambda: now[0])
    with patience.listening():
        now[0] += 3.0
    assert patience.spent_s == 3.0
    now[0] += 100.0  # a merge
    assert patience.spent_s == 3.5
    with patience.listening():
        now[0] += 1.0
    now[0] += 0.25
    assert patience.spent_s == 4.75
