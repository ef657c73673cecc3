"""The bounded store: what was used last stays, within the limit, and weightless values are not held at all."""

from consortium.common.cache import Kept


def test_what_was_used_longest_ago_goes_first():
    kept = Kept(5, lambda value: value)
    for key in "abc":
        kept.get(key, lambda: 2)
    assert [kept.peek(key) for key in "abc"] == [None, 2, 2]
    kept.get("b", lambda: 9)  # used again, not made again
    kept.get("d", lambda: 3)
    assert [kept.peek(key) for key in "bcd"] == [2, None, 3]


def test_one_value_is_kept_however_heavy():
    kept = Kept(5, lambda value: value)
    kept.get("a", lambda: 2)
    kept.get("b", lambda: 70)
    assert list(kept.values) == ["b"]
    kept.get("c", lambda: 5)
    assert list(kept.values) == ["c"]


def test_what_weighs_nothing_is_made_again():
    made = []
    kept = Kept(5, lambda value: 0)
    assert [kept.get("a", lambda: made.append(1) or "value") for _ in range(2)] == ["value", "value"]
    assert (len(made), len(kept.values)) == (2, 0)
