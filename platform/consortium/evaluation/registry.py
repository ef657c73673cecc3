"""Which metrics there are: the files of the folders ``metrics``, of the evaluation and of each feature.

A metric's name is that of its file, so names are known without importing anything, and a run imports the metrics that
it asks for. A column of the results begins with its metric's name: ``efficacy_with_start`` is one of ``efficacy``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path

from consortium.common.errors import ScenarioError, closest
from consortium.evaluation.metric import Metric
from consortium.scenario.schema import EvaluateSpec

_PACKAGE = Path(__file__).parents[1]
_OWN = "evaluation/metrics/*.py"
_OF_FEATURES = "features/*/metrics/*.py"


@cache
def _modules(pattern: str) -> dict[str, str]:
    """Name of a metric → its module."""
    paths = [path for path in sorted(_PACKAGE.glob(pattern)) if path.stem != "__init__"]
    return {path.stem: ".".join(("consortium", *path.relative_to(_PACKAGE).with_suffix("").parts)) for path in paths}


def _all_modules() -> dict[str, str]:
    return _modules(_OWN) | _modules(_OF_FEATURES)


def get(name: str) -> Metric:
    """A metric by its name.

    Raises:
        ScenarioError: there is none.
    """
    module = _all_modules().get(name)
    if module is None:
        known = by_name()
        raise ScenarioError(f"unknown metric {name!r}", "one of " + ", ".join(known), closest(name, known))
    metric: Metric = import_module(module).METRIC
    return metric


def is_known(name: str) -> bool:
    """Whether ``evaluate.metrics`` may name it."""
    return name in _all_modules() and get(name).asked_by is None


def all_metrics() -> list[Metric]:
    """Every metric, in the order in which they are shown."""
    return sorted(map(get, _all_modules()), key=lambda metric: (metric.order, metric.name))


def by_name() -> list[str]:
    """Names that ``evaluate.metrics`` may have."""
    return [metric.name for metric in all_metrics() if metric.asked_by is None]


def asked(evaluate: EvaluateSpec) -> list[Metric]:
    """The metrics that a scenario asks for: those that it names, in its order, and what is asked for by other keys."""
    others = [get(name) for name in _modules(_OWN) if name not in evaluate.metrics]
    return [*map(get, evaluate.metrics), *(metric for metric in others if metric.is_asked(evaluate))]


def combined() -> list[Metric]:
    """The metrics that are made of others."""
    return [metric for metric in map(get, _modules(_OWN)) if metric.parts]


def of_column(column: str) -> Metric:
    """The metric of a column of the results; one of which nothing is known where nobody here has it."""
    names = [name for name in _all_modules() if column == name or column.startswith(f"{name}_")]
    return get(max(names, key=len)) if names else Metric(column, "")


def in_order(columns: Iterable[str]) -> list[str]:
    """Columns of the results as they are shown: metric by metric; of others, by name."""
    return sorted(columns, key=_place)


def _place(column: str) -> tuple[int, str, int, str]:
    metric = of_column(column)
    own = metric.columns_in_order()
    return metric.order, metric.name, own.index(column) if column in own else len(own), column
