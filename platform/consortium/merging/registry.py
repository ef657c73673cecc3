"""From a merge method as a scenario names it to its mathematics."""

from __future__ import annotations

from pkgutil import resolve_name

from consortium.merging.method import MergeMethod
from consortium.scenario.methods import MethodSpec


def create_method(spec: MethodSpec) -> MergeMethod:
    """The merge method with these parameters; its module is imported now."""
    method: MergeMethod = resolve_name(spec.implementation)(spec)
    return method
