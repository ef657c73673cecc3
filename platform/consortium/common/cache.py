"""Caches of bounded size for what can be computed again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

Value = TypeVar("Value")


class BoundedCache(Generic[Value]):
    """The values used last, as many as fit; of larger ones one, and none that has no size.

    Args:
        limit: size of all values together.
        size_of: size of a value.
    """

    def __init__(self, limit: int, size_of: Callable[[Value], int]) -> None:
        self._size_of = size_of
        # A value that is larger than the whole cache counts as all of it, so that it is cached alone.
        self.values: LRUCache[Hashable, Value] = LRUCache(limit, getsizeof=lambda value: min(size_of(value), limit))

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key; made now if it is not cached."""
        if key in self.values:
            return self.values[key]
        value = make()
        if self._size_of(value):
            self.values[key] = value
        return value

    def peek(self, key: Hashable) -> Value | None:
        """The value if it is cached."""
        return self.values.get(key)
