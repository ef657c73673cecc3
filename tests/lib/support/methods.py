"""Merge methods by name and parameters, as a scenario writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consortium.merging import registry
from consortium.merging.method import MergeMethod
from consortium.scenario.methods import METHODS


def create(name: str, parameters: Mapping[str, Any]) -> MergeMethod:
    """The merge method of that name."""
    return registry.create_method(METHODS[name](**parameters))
