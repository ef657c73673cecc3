"""What a party puts into a merge after a round was decided."""

import pytest
from consortium.data.edit import Edit
from consortium.data.request import Request
from consortium.features.conflicts.resolution import UNRESOLVED, Decision, Resolution
from consortium.features.conflicts.selected import accepted
from support.scenarios import associative_scenario

EDITS = [Edit(f"f{n}", "r", f"s{n}", "{} is", "x", augmentations=("{} says", "{} means", "{} wants")) for n in range(4)]
KINDS = ["fresh", "overlap", "conflict-party", "conflict-round"]
REQUESTS = [Request(2, 5, place, place, 0, kind) for place, kind in enumerate(KINDS)]


def taken(decisions, duplicates="count_all", policy="latest", num_paraphrases=0):
    scenario = associative_scenario(
        overlap={"duplicates": duplicates}, conflicts={"policy": policy, "num_paraphrases": num_paraphrases}
    )
    resolution = Resolution({(5, place): decision for place, decision in decisions.items()})
    found = accepted(scenario, resolution, REQUESTS, edit_of)
    edits = [each.copy or edit_of(each.request) for each in found]
    return [(edit.subject, edit.prompt, each.weight) for edit, each in zip(edits, found, strict=True)]


def edit_of(request):
    return EDITS[request.fact]


def test_where_nothing_was_settled_every_edit_counts_as_it_is():
    found = accepted(associative_scenario(), UNRESOLVED, REQUESTS, edit_of)
    assert [(each.request, each.weight, each.copy) for each in found] == [(each, 1.0, None) for each in REQUESTS]


def test_edits_are_made_only_where_they_are_asked_again():
    made = []
    scenario = associative_scenario(conflicts={"policy": "latest", "num_paraphrases": 1})
    resolution = Resolution({(5, 1): Decision(1, "accepted"), (5, 3): Decision(1, "rejected")})
    accepted(
        scenario,
        resolution,
        REQUESTS,
        lambda request: made.append(request) or edit_of(request),
    )
    assert made == [REQUESTS[1]]


def test_a_withdrawn_edit_is_left_out_and_the_others_keep_their_order():
    found = taken({0: Decision(1, "rejected"), 2: Decision(3, "rejected")}, duplicates="count_once")
    assert [subject for subject, _, _ in found] == ["s1", "s3"]


@pytest.mark.parametrize(("duplicates", "weights"), [("count_all", [1, 1, 1, 1]), ("count_once", [1, 1 / 3, 1 / 2, 1])])
def test_what_m_parties_ask_for_weighs_m_times_or_once(duplicates, weights):
    found = taken({1: Decision(3, "duplicate"), 2: Decision(2, "accepted")}, duplicates)
    assert [weight for _, _, weight in found] == weights


def test_an_edit_that_won_or_overrules_an_earlier_one_is_asked_again_with_its_weight():
    found = taken({1: Decision(2, "duplicate"), 2: Decision(2, "accepted")}, "count_once", num_paraphrases=2)
    assert found == [
        ("s0", "{} is", 1.0),
        ("s1", "{} is", 0.5),
        ("s2", "{} is", 0.5),
        ("s2", "{} says", 0.5),
        ("s2", "{} means", 0.5),
        ("s3", "{} is", 1.0),
        ("s3", "{} says", 1.0),
        ("s3", "{} means", 1.0),
    ]


def test_an_edit_that_lost_is_not_asked_again_even_if_it_overrules_an_earlier_one():
    assert [subject for subject, _, _ in taken({3: Decision(1, "rejected")}, num_paraphrases=2)] == ["s0", "s1", "s2"]
