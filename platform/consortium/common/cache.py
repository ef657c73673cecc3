"""A store of bounded size for what can be computed again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The values used last, as many as fit; one is always kept, but nothing that weighs nothing.

    Args:
        limit: what all values may weigh together.
        weigh: what a value weighs.
    """

    def __init__(self, limit: int, weigh: Callable[[Value], int]) -> None:
        self.limit = limit
        self.weigh = weigh
        self.values: OrderedDict[Hashable, Value] = OrderedDict()
        self._weight = 0

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key; made now if it is not kept."""
        if key not in self.values:
            value = make()
            if not self.weigh(value):
                return value
            self.values[key] = value
            self._weight += self.weigh(value)
            while self._weight > self.limit and len(self.values) > 1:
                self._weight -= self.weigh(self.values.popitem(last=False)[1])
        self.values.move_to_end(key)
        return self.values[key]

    def peek(self, key: Hashable) -> Value | None:
        """The value if it is kept; this is no use of it."""
        return self.values.get(key)
