"""Which answer was chosen over which, and how far the losing one fell: by hand."""

import math
from dataclasses import dataclass
from fractions import Fraction

import pytest
from consortium.data.edit import Edit
from consortium.data.request import Request
from consortium.evaluation.measure import measure_of
from consortium.evaluation.metrics import add_sums
from consortium.features.conflicts.metrics import Case, case_of, fall, losing_nlls, magnitude
from consortium.features.conflicts.resolution import Verdict
from consortium.models.queries import Probe, Score


class Facts:
    """Variant v of any fact wants the answer ``v``."""

    def edit(self, fact, variant=0):
        return Edit(str(fact), "r", "Big Ben", "{} is in", f"v{variant}")


def case(kind, fate, rival=0):
    return case_of(Facts(), Request(2, 1, 0, 9, 1, kind, rival), Verdict(1, fate))


@pytest.mark.parametrize("kind", ["conflict-party", "conflict-round"])
@pytest.mark.parametrize("fate", ["alone", "contested", "won"])
def test_a_request_that_stands_is_chosen_over_what_it_contradicts(kind, fate):
    assert case(kind, fate) == Case(Facts().edit(9, 1), "v0")


def test_a_request_that_lost_to_its_rival_is_the_losing_side():
    assert case("conflict-party", "withdrawn") == Case(Facts().edit(9, 0), "v1")


def test_between_a_withdrawn_request_and_an_earlier_one_nothing_was_chosen():
    assert case("conflict-round", "withdrawn") is None


def test_a_request_that_contradicts_nobody_is_no_conflict():
    assert case("fresh", "won", rival=None) is None


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(0.8, 0.2, 0.75), (0.5, 0.5, 0.0), (0.2, 0.8, -0.75), (0.9, 1e-300, 1.0), (1e-300, 0.9, -1.0)],
)
def test_the_fall_of_a_probability(before, after, expected):
    """(0.8 - 0.2) / 0.8 = 0.75; a rise counts against what it rose to: (0.2 - 0.8) / 0.8 = -0.75."""
    assert fall(-math.log(before), -math.log(after)) == pytest.approx(expected, abs=1e-12)


def test_tiny_changes_keep_their_digits():
    assert fall(1.0, 1.0 + 1e-12) == pytest.approx(1e-12, rel=1e-3)
    assert fall(1.0 + 1e-12, 1.0) == pytest.approx(-1e-12, rel=1e-3)


def test_falls_are_summed_with_their_number():
    first = magnitude(3, [0.0, 0.0], [math.log(2), math.log(4)])
    second = magnitude(3, [math.log(2)], [0.0])
    total = add_sums([first, second])[("conflict_magnitude", 3)]
    assert total.fall == pytest.approx(float(Fraction(1, 2) + Fraction(3, 4) - Fraction(1, 2)))
    assert total.num_edits == 3
    assert measure_of(total).value == pytest.approx(25.0)
    assert magnitude(3, [], []) == {}


def test_the_losing_answer_is_asked_for_with_the_chosen_edits_prompt():
    @dataclass
    class Backend:
        def score(self, probes):
            assert probes == [Probe("Big Ben is in", "v1", None)]
            return [Score(2.5, None, strict=False)]

    assert losing_nlls(Backend(), [Case(Facts().edit(9, 0), "v1")]) == [2.5]
