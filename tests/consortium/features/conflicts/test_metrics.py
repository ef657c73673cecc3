"""Which answer was chosen over which, and how far the losing one fell: by hand."""

import math
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from consortium.data.edit import Edit
from consortium.data.request import Request
from consortium.evaluation.asking import AnsweredItem, reduced
from consortium.evaluation.item import AskedEdit, Item, Scored
from consortium.evaluation.sums import ProbeSum
from consortium.features.conflicts.cases import Case, case_of
from consortium.features.conflicts.metrics import conflict_magnitude, conflict_score
from consortium.features.conflicts.metrics.conflict_magnitude import METRIC, fall
from consortium.models.queries import Probe, Score
from support.scenarios import associative_scenario


class Facts:
    """Variant v of any fact wants the answer ``v``."""

    def edit(self, fact, variant=0):
        return Edit(str(fact), "r", "Big Ben", "{} is in", f"v{variant}")


def case(kind, status, rival=0):
    return case_of(Facts(), Request(2, 1, 0, 9, 1, kind, rival), status == "rejected")


@pytest.mark.parametrize("kind", ["conflict-party", "conflict-round"])
@pytest.mark.parametrize("status", ["unique", "conflicting", "accepted"])
def test_a_request_that_stands_is_chosen_over_what_it_contradicts(kind, status):
    assert case(kind, status) == Case(Facts().edit(9, 1), "v0")


def test_a_request_that_lost_to_its_rival_is_the_losing_side():
    assert case("conflict-party", "rejected") == Case(Facts().edit(9, 0), "v1")


def test_between_a_rejected_request_and_an_earlier_one_nothing_was_chosen():
    assert case("conflict-round", "rejected") is None


def test_a_request_that_contradicts_nobody_is_no_conflict():
    assert case("fresh", "accepted", rival=None) is None


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


def falls(before, after):
    """The sum over cases, from the losing answers' negative log likelihoods."""
    item = Item("conflict_magnitude", 3, (Probe("p", "t"),), Scored())
    pairs = [([Score(now, None, False)], [Score(was, None, False)]) for was, now in zip(before, after, strict=True)]
    return reduced([AnsweredItem(METRIC, item, *pair) for pair in pairs])["conflict_magnitude", 3]


def test_falls_are_summed_with_their_number():
    total = falls([0.0, 0.0], [math.log(2), math.log(4)]) + falls([math.log(2)], [0.0])
    assert total.value == pytest.approx(float(Fraction(1, 2) + Fraction(3, 4) - Fraction(1, 2)))
    assert total.num_edits == total.num_probes == 3
    assert (METRIC.value(total), METRIC.strict(total)) == (pytest.approx(25.0), None)


@pytest.mark.parametrize("pair", [(math.nan, 1.0), (1.0, math.inf)])
def test_a_likelihood_that_is_not_finite_is_no_fall(pair):
    assert falls([0.0, pair[0]], [math.log(2), pair[1]]) == ProbeSum(0.5, None, 1, 1, 1)


@dataclass
class CallBatch:
    """Round 2 of a run: a conflict of the round, one that was withdrawn, one of round 1, and a fresh request."""

    has_start: bool = True
    round_number: int = 2
    facts: Facts = field(default_factory=Facts)
    scenario: object = field(default_factory=associative_scenario)

    def sampled(self):
        kinds = [(2, "conflict-party", False), (2, "conflict-party", True), (1, "conflict-round", False)]
        asked = [(Request(number, 1, 0, 9, 1, kind, 0), is_rejected) for number, kind, is_rejected in kinds]
        asked.append((Request(2, 1, 0, 9, 1, "fresh", None), False))
        edit = self.facts.edit(9, 1)
        return [AskedEdit(edit, request.round, request, is_rejected) for request, is_rejected in asked]


def test_the_chosen_answer_is_asked_against_the_losing_one():
    found = [(item.of_round, *item.texts) for item in conflict_score.items(CallBatch())]
    ours, theirs = Probe("Big Ben is in", "v1", "v0"), Probe("Big Ben is in", "v0", "v1")
    assert found == [(2, ours), (2, theirs), (1, ours)]


def test_the_losing_answer_of_the_round_is_asked_for_with_the_chosen_edits_prompt():
    found = list(conflict_magnitude.items(CallBatch()))
    assert [(item.of_round, *item.texts) for item in found] == [
        (2, Probe("Big Ben is in", "v0")),
        (2, Probe("Big Ben is in", "v1")),
    ]
    assert len({item.way for item in found}) == 1
    assert found[0].way != Scored()
    assert list(conflict_magnitude.items(CallBatch(has_start=False))) == []
