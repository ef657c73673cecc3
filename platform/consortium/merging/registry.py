"""All merge methods by name. To add one: write its file, add it to METHODS, write its test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from consortium.common.errors import ScenarioError
from consortium.merging.method import Bounds, MergeMethod
from consortium.merging.methods.collabedit import CollabEdit
from consortium.merging.methods.dare import Dare
from consortium.merging.methods.dare_ties import DareTies
from consortium.merging.methods.fisher import Fisher
from consortium.merging.methods.geometric_median import GeometricMedian
from consortium.merging.methods.global_edit import GlobalEdit
from consortium.merging.methods.median_of_means import MedianOfMeans
from consortium.merging.methods.norm_bound import NormBound
from consortium.merging.methods.regmean import RegMean
from consortium.merging.methods.simple_average import SimpleAverage
from consortium.merging.methods.task_arithmetic import TaskArithmetic
from consortium.merging.methods.ties import Ties
from consortium.merging.methods.trimmed_mean import TrimmedMean

METHODS: dict[str, type[MergeMethod]] = {
    "global": GlobalEdit,
    "collabedit": CollabEdit,
    "task_arithmetic": TaskArithmetic,
    "simple_average": SimpleAverage,
    "ties": Ties,
    "dare": Dare,
    "dare_ties": DareTies,
    "regmean": RegMean,
    "fisher": Fisher,
    "norm_bound": NormBound,
    "trimmed_mean": TrimmedMean,
    "median_of_means": MedianOfMeans,
    "geometric_median": GeometricMedian,
}


def known() -> list[str]:
    """Names of all methods, in the order of the registry."""
    return list(METHODS)


def bounds_of(name: str) -> dict[str, Bounds]:
    """A method's parameters as a scenario writes them (``lambda``, not ``lambda_``), with their bounds."""
    method: Any = METHODS[name]
    hints = get_type_hints(method, include_extras=True)
    return {field.name.rstrip("_"): hints[field.name].__metadata__[0] for field in fields(method)}


def create(name: str, parameters: Mapping[str, Any]) -> MergeMethod:
    """The method with these parameters, as written in a scenario; others keep their defaults.

    Raises:
        ScenarioError: unknown method or parameter, or a value of the wrong type or out of bounds.
    """
    if name not in METHODS:
        raise ScenarioError(
            f"unknown merge method {name!r}", f"one of {', '.join(known())}", "write one of these names"
        )
    bounds = bounds_of(name)
    for key, value in parameters.items():
        _check_parameter(name, key, value, bounds)
    by_name = {field.name.rstrip("_"): field.name for field in fields(METHODS[name])}  # type: ignore[arg-type]
    return METHODS[name](**{by_name[key]: float(value) for key, value in parameters.items()})


def _check_parameter(name: str, key: str, value: Any, bounds: Mapping[str, Bounds]) -> None:
    if key not in bounds:
        takes = ", ".join(f"{known_key} (a number {bound})" for known_key, bound in bounds.items())
        raise ScenarioError(
            f"merge method {name}: unknown parameter {key!r}",
            f"{takes}" if takes else f"no parameters: {name} has none",
            "correct the parameter's name or leave it out",
        )
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not bounds[key].allow(value):
        raise ScenarioError(
            f"merge method {name}: {key} is {value!r}",
            f"a number {bounds[key]} ({bounds[key].description})",
            f"give {key} such a number or leave it out",
        )
