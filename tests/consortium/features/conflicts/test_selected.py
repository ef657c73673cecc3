"""What a party puts into a merge after a round was settled."""

import pytest
from consortium.data.edit import Edit
from consortium.data.party_batch import PartyBatch
from consortium.data.request import Request
from consortium.features.conflicts.resolution import Settled, Verdict
from consortium.features.conflicts.selected import accepted
from support.scenarios import associative_scenario

EDITS = [Edit(f"f{n}", "r", f"s{n}", "{} is", "x", augmentations=("{} says", "{} means", "{} wants")) for n in range(4)]
KINDS = ["fresh", "overlap", "conflict-party", "conflict-round"]
REQUESTS = [Request(2, 5, place, place, 0, kind) for place, kind in enumerate(KINDS)]
BATCH = PartyBatch(2, 2)


def taken(verdicts, weigh="each", policy="latest", augment=0):
    scenario = associative_scenario(overlap={"weigh": weigh}, conflicts={"policy": policy, "augment": augment})
    settled = Settled({(5, place): verdict for place, verdict in verdicts.items()})
    found = accepted(scenario, BATCH.decided("conflicts", settled), REQUESTS, edit_of)
    edits = [each.copy or edit_of(each.request) for each in found]
    return [(edit.subject, edit.prompt, each.weight) for edit, each in zip(edits, found, strict=True)]


def edit_of(request):
    return EDITS[request.fact]


def test_where_nothing_was_settled_every_edit_counts_as_it_is():
    found = accepted(associative_scenario(), BATCH, REQUESTS, edit_of)
    assert [(each.request, each.weight, each.copy) for each in found] == [(each, 1.0, None) for each in REQUESTS]


def test_edits_are_made_only_where_they_are_asked_again():
    made = []
    scenario = associative_scenario(conflicts={"policy": "latest", "augment": 1})
    settled = Settled({(5, 1): Verdict(1, "won"), (5, 3): Verdict(1, "withdrawn")})
    accepted(
        scenario,
        BATCH.decided("conflicts", settled),
        REQUESTS,
        lambda request: made.append(request) or edit_of(request),
    )
    assert made == [REQUESTS[1]]


def test_a_withdrawn_edit_is_left_out_and_the_others_keep_their_order():
    found = taken({0: Verdict(1, "withdrawn"), 2: Verdict(3, "withdrawn")}, weigh="once")
    assert [subject for subject, _, _ in found] == ["s1", "s3"]


@pytest.mark.parametrize(("weigh", "weights"), [("each", [1, 1, 1, 1]), ("once", [1, 1 / 3, 1 / 2, 1])])
def test_what_m_parties_ask_for_weighs_m_times_or_once(weigh, weights):
    found = taken({1: Verdict(3, "shared"), 2: Verdict(2, "won")}, weigh)
    assert [weight for _, _, weight in found] == weights


def test_an_edit_that_won_or_overrules_an_earlier_one_is_asked_again_with_its_weight():
    found = taken({1: Verdict(2, "shared"), 2: Verdict(2, "won")}, "once", augment=2)
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
    assert [subject for subject, _, _ in taken({3: Verdict(1, "withdrawn")}, augment=2)] == ["s0", "s1", "s2"]
