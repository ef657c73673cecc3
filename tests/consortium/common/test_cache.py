"""The bounded cache: what was used last stays, within the limit, and values without size are not cached at all."""

from consortium.common.cache import BoundedCache


def test_what_was_used_longest_ago_goes_first():
    cache = BoundedCache(5, lambda value: value)
    for key in "abc":
        cache.get(key, lambda: 2)
    assert list(cache.values) == ["b", "c"]
    cache.get("b", lambda: 9)  # used again, not made again
    cache.get("d", lambda: 3)
    assert [cache.peek(key) for key in "bcd"] == [2, None, 3]


def test_one_value_is_cached_however_large():
    cache = BoundedCache(5, lambda value: value)
    cache.get("a", lambda: 2)
    cache.get("b", lambda: 70)
    assert dict(cache.values) == {"b": 70}
    cache.get("c", lambda: 5)
    assert dict(cache.values) == {"c": 5}


def test_what_has_no_size_is_made_again():
    made = []
    cache = BoundedCache(5, lambda value: 0)
    assert [cache.get("a", lambda: made.append(1) or "value") for _ in range(2)] == ["value", "value"]
    assert (len(made), len(cache.values)) == (2, 0)
