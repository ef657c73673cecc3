"""Merge methods as a scenario names them: names, references, parameters, and their mathematics."""

import math
import pkgutil

import consortium.merging.methods
import pytest
from consortium.merging.methods.ties import Ties
from consortium.merging.registry import create_method
from consortium.scenario.methods import METHODS, TiesSpec
from pydantic import ValidationError


def test_the_known_methods():
    robust = ["norm_bound", "trimmed_mean", "median_of_means", "geometric_median"]
    related = ["dare", "dare_ties", "regmean", "fisher"]
    assert list(METHODS) == ["global", "collabedit", "task_arithmetic", "simple_average", "ties", *related, *robust]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_is(name):
    spec = METHODS[name]()
    assert (spec.name, spec.arm) == (name, name)
    assert spec.title
    assert "arXiv" in spec.paper
    own = set(METHODS[name].model_fields) - {"name"}
    assert all(METHODS[name].model_fields[key].description for key in own)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_mathematics(name):
    spec = METHODS[name]()
    assert create_method(spec).spec is spec


def test_every_file_of_mathematics_belongs_to_a_method():
    files = {module.name for module in pkgutil.iter_modules(consortium.merging.methods.__path__)}
    assert files == {spec.implementation.partition(":")[0].rpartition(".")[2] for spec in METHODS.values()}


def test_methods_are_equal_where_parameters_are():
    assert create_method(TiesSpec(density=1)) == Ties(TiesSpec(density=1.0)) != Ties(TiesSpec(density=0.5))


def test_a_parameter_may_have_a_name_that_python_keeps_for_itself():
    spec = TiesSpec(**{"lambda": 0.5})
    assert spec.lambda_ == 0.5
    assert spec.model_dump()["lambda"] == 0.5
    assert TiesSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("ties", {"lambda_": 1.0}),
        ("ties", {"alpha": 1.0}),
        ("collabedit", {"alpha": 1.0}),
        ("ties", {"density": 0}),
        ("ties", {"density": 1.5}),
        ("ties", {"density": True}),
        ("ties", {"lambda": "big"}),
        ("ties", {"lambda": None}),
        ("dare", {"drop": 1}),
        ("dare", {"density": 0.5}),
        ("regmean", {"alpha": 1.1}),
        ("fisher", {"alpha": 0}),
        ("task_arithmetic", {"alpha": math.nan}),
        ("task_arithmetic", {"alpha": math.inf}),
        ("task_arithmetic", {"alpha": -1}),
        ("trimmed_mean", {"buckets": 0}),
        ("trimmed_mean", {"buckets": 65}),
        ("trimmed_mean", {"buckets": 2.5}),
        ("trimmed_mean", {"trim": 0.5}),
    ],
)
def test_wrong_parameters_are_refused(name, parameters):
    with pytest.raises(ValidationError) as caught:
        METHODS[name](**parameters)
    (error,) = caught.value.errors()
    assert error["loc"] == tuple(parameters)
