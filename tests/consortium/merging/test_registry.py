import math
import pkgutil
from dataclasses import fields

import consortium.merging.methods
import pytest
from consortium.common.errors import ScenarioError
from consortium.merging import registry
from consortium.merging.methods.ties import Ties
from consortium.merging.registry import METHODS, bounds_of, create, known


def test_the_known_methods():
    robust = ["norm_bound", "trimmed_mean", "median_of_means", "geometric_median"]
    related = ["dare", "dare_ties", "regmean", "fisher"]
    assert known() == ["global", "collabedit", "task_arithmetic", "simple_average", "ties", *related, *robust]


@pytest.mark.parametrize("name", known())
def test_every_method_says_what_it_is(name):
    method = METHODS[name]
    assert method.name == name
    assert method.title
    assert "arXiv" in method.reference
    assert isinstance(method.needs_solver, bool)
    assert list(bounds_of(name)) == [field.name.rstrip("_") for field in fields(method)]
    assert all(bounds.description for bounds in bounds_of(name).values())


def test_every_file_with_a_method_is_registered():
    files = {module.name for module in pkgutil.iter_modules(consortium.merging.methods.__path__)}
    assert files == {method.__module__.rpartition(".")[2] for method in METHODS.values()}


@pytest.mark.parametrize("name", known())
def test_defaults_lie_within_bounds(name):
    method = create(name, {})
    for field in fields(method):
        assert bounds_of(name)[field.name.rstrip("_")].allow(getattr(method, field.name))


def test_parameters_reach_their_fields():
    assert create("task_arithmetic", {"alpha": 0.4}).alpha == 0.4
    assert create("ties", {"density": 1, "lambda": 0.5}) == Ties(density=1.0, lambda_=0.5)
    assert type(create("ties", {"density": 1}).density) is float


@pytest.mark.parametrize("name", ["Ties", "tie", "", "collab", "global_edit"])
def test_unknown_methods_are_refused_with_the_known_ones(name):
    with pytest.raises(ScenarioError, match=r"unknown merge method .*\n.*global, collabedit, task_arithmetic"):
        create(name, {})


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("ties", {"lambda_": 1.0}, r"unknown parameter 'lambda_'\nExpected: density \(a number > 0 and <= 1\), lambda"),
        ("ties", {"alpha": 1.0}, "ties: unknown parameter 'alpha'"),
        ("collabedit", {"alpha": 1.0}, "no parameters: collabedit has none"),
        ("ties", {"density": 0}, r"density is 0\nExpected: a number > 0 and <= 1 \(share of"),
        ("ties", {"density": 1.5}, "density is 1.5"),
        ("ties", {"density": True}, "density is True"),
        ("ties", {"lambda": "big"}, "lambda is 'big'"),
        ("ties", {"lambda": None}, "lambda is None"),
        ("dare", {"drop": 1}, r"drop is 1\nExpected: a number >= 0 and < 1 \(probability"),
        ("regmean", {"alpha": 1.1}, r"alpha is 1.1\nExpected: a number >= 0 and <= 1 \(what is left"),
        ("fisher", {"alpha": 0}, "no parameters: fisher has none"),
        ("task_arithmetic", {"alpha": math.nan}, "alpha is nan"),
        ("task_arithmetic", {"alpha": math.inf}, "alpha is inf"),
        ("task_arithmetic", {"alpha": -1}, r"alpha is -1\nExpected: a number > 0 \(coefficient"),
    ],
)
def test_wrong_parameters_are_refused(name, parameters, message):
    with pytest.raises(ScenarioError, match=message):
        create(name, parameters)


def test_the_registry_is_explicit():
    assert set(METHODS) == {method.name for method in registry.METHODS.values()}
