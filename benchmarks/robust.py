"""What robustness costs: screening for each message, and merges that bear bad parties beside plain CollabEdit.

Nothing naive compares; CollabEdit's own case is what the other merges are to be held against. Every merge begins with
the parties' keys and residuals and ends with Δ, each message clipped or put into its group on the way. Numbers are
drawn; what they are does not change the time, but for `geometric_median`, whose iteration stops when it moves no more.

Shapes: K key width, V value width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from consortium.features.screening.checks import UpdateValidator
from consortium.merging.method import Contribution, RunningSum
from consortium.merging.methods.norm_bound import NormBound
from consortium.merging.reference_norms import ReferenceNorms
from consortium.merging.registry import create_method
from consortium.merging.solver import CovarianceSolver
from consortium.scenario.methods import (
    CollabEditSpec,
    GeometricMedianSpec,
    MedianOfMeansSpec,
    MethodSpec,
    NormBoundSpec,
    TrimmedMeanSpec,
)

from benchmarks.harness.case import Case, Product, relative_difference
from benchmarks.harness.fixtures import Fixtures
from benchmarks.harness.measure import measure
from benchmarks.harness.record import Record
from benchmarks.merge import BASIS, EDITS, FORMS, Problem

_KEY_WIDTH = 1024
_NUM_PARTIES = 180
_GROUPS = 9
METHODS: dict[str, MethodSpec] = {
    spec.name: spec
    for spec in (
        CollabEditSpec(),
        NormBoundSpec(),
        TrimmedMeanSpec(buckets=_GROUPS),
        MedianOfMeansSpec(buckets=_GROUPS),
        GeometricMedianSpec(buckets=_GROUPS),
    )
}
#: Far above the size of what is drawn: a message within bounds costs screening most, as every check is made.
_MAX_NORM = 1e6


def records(bench: Fixtures) -> Iterator[Record]:
    """For each key width and number of parties: screening for each form of message, and every method."""
    for key_width in bench.options.sizes or (_KEY_WIDTH,):
        for num_parties in bench.options.parties or (_NUM_PARTIES,):
            problem = {form: Problem(key_width, num_parties, form, bench.device) for form in FORMS}
            works = [Judging(problem[form]) for form in FORMS] + [
                Merging(problem["factored"], name) for name in METHODS
            ]
            for work in works:
                yield measure("robust", case(work), bench.options.budget, bench.tell)


def case(work: Judging | Merging) -> Case:
    """Messages judged by screening, or one layer merged."""
    problem = work.problem
    width = problem.key_width
    return Case(
        label=f"K = {width}, {problem.num_parties} parties: {work.label}",
        unit="party",
        items=problem.num_parties,
        ours=work.done,
        naive=None,
        difference=relative_difference,
        product=Product(width, width, width, torch.float64, problem.device),
        prepare=work.prepare,
        parameters={
            "model": "drawn numbers",
            "dtype": "float64",
            "key_width": width,
            "value_width": problem.value_width,
            "edits_per_party": EDITS,
        },
    )


def _reference_norms(problem: Problem) -> ReferenceNorms:
    """Measures of a layer whose keys are as long as those that are drawn."""
    key_width, value_width = problem.key_width, problem.value_width
    return ReferenceNorms((value_width, key_width), math.sqrt(key_width), math.sqrt(key_width * value_width))


@dataclass(frozen=True)
class Judging:
    """Screening, and a message of each party.

    Attributes:
        problem: the parties, and the form of their messages.
    """

    problem: Problem

    @property
    def label(self) -> str:
        """In words."""
        return f"screening, {self.problem.form} messages"

    @cached_property
    def messages(self) -> list[Contribution]:
        """Message after message."""
        shares = [self.problem.share(party) for party in range(self.problem.num_parties)]
        return list(create_method(CollabEditSpec()).contribute(shares, None))

    def prepare(self) -> object:
        """Making messages is not screening's work."""
        return self.messages

    def done(self, count: int) -> torch.Tensor:
        """Sizes of the first so many messages, judged one by one."""
        validator = UpdateValidator(BASIS, _reference_norms(self.problem), _MAX_NORM, EDITS)
        found = [validator.screen([(party, message)]) for party, message in enumerate(self.messages[:count])]
        assert not any(each.rejections for each in found), "an honest message was refused"
        return torch.tensor([each.max_norm_ratio for each in found])


@dataclass(frozen=True)
class Merging:
    """A merge method, and the keys and residuals of parties.

    Attributes:
        problem: the parties and the key covariance.
        label: the method's name.
    """

    problem: Problem
    label: str

    def prepare(self) -> object:
        """Drawing numbers is not the merge's work."""
        return self.problem.covariance_KK, self.problem.edits

    def done(self, count: int) -> torch.Tensor:
        """Δ of the first so many parties."""
        method, total = create_method(METHODS[self.label]), RunningSum()
        reference_norms = _reference_norms(self.problem)
        for party in range(count):
            (message,) = method.contribute([self.problem.share(party)], None)
            total.add(method.clipped(message, reference_norms) if isinstance(method, NormBound) else message)
        return method.merge(
            total.total(), CovarianceSolver(self.problem.covariance_KK, device=self.problem.device)
        ).cpu()
