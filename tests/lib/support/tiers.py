"""Parameters of which some are in the quick tier of tests (CONTRIBUTING.md).

@pytest.mark.parametrize("seed", one_quick(range(3)))
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def one_quick(values: Iterable[Any]) -> list[Any]:
    """The first value as it is, and all others marked as slow."""
    first, *others = values
    parts = (value if isinstance(value, tuple) else (value,) for value in others)
    return [first, *(pytest.param(*each, marks=pytest.mark.slow) for each in parts)]
