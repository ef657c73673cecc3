"""Who attacks, and what targeted attackers ask for: by the scenario and the seed alone."""

import pytest
from consortium.data.attackers import attackers, attacks_of, really_asked, victim_of
from consortium.evaluation.schedule import sampled_requests
from consortium.loading.prepare import open_facts
from consortium.party.data import PartyDataset
from support.scenarios import associative_scenario


def scenario_of(*attacks, **changes):
    return associative_scenario(attacks=list(attacks), evaluate={"sample": None}, **changes)


def test_a_share_is_of_all_parties_and_grows_with_itself():
    few, many = (attackers(scenario_of({"kind": "sign_flip", "share": share})) for share in (0.3, 0.6))
    assert (len(few), len(many)) == (2, 4)
    assert few < many
    assert len(attackers(scenario_of({"kind": "sign_flip", "share": 0.01}))) == 1
    assert attackers(scenario_of({"kind": "sign_flip", "share": 0.3}, seed=4)) != few


def test_attacks_are_of_their_rounds_and_in_their_order():
    scenario = scenario_of(
        {"kind": "sign_flip", "parties": [1], "rounds": [2, 3]},
        {"kind": "scale", "parties": [1, 2]},
        stream={"rounds": 4},
    )
    assert [[each.kind for each in attacks_of(scenario, number, 1)] for number in (1, 2, 3, 4)] == [
        ["scale"],
        ["sign_flip", "scale"],
        ["sign_flip", "scale"],
        ["scale"],
    ]
    assert attacks_of(scenario, 1, 0) == []


@pytest.mark.parametrize("bad", [[1], [0], [0, 1]])
def test_a_targeted_attacker_contradicts_an_honest_party(bad):
    """Its partner's facts where that is honest, else those of a party that is drawn."""
    scenario = scenario_of({"kind": "targeted", "parties": bad}, stream={"overlap": 0, "conflict": 0, "repeat": 0})
    private = PartyDataset(scenario, open_facts(scenario))
    for party in bad:
        victim = victim_of(scenario, 1, party)
        assert victim not in bad
        assert victim == party ^ 1 or len(bad) == 2
        theirs = [private.edit(request) for request in private.stream.requests(1, victim)]
        wanted = [private.edit(request) for request in private.stream.requests(1, party)]
        assert [edit.text for edit in wanted] == [edit.text for edit in theirs]
        assert all(one.target_new != other.target_new for one, other in zip(wanted, theirs, strict=True))


def test_honest_requests_are_as_they_are():
    scenario = scenario_of({"kind": "targeted", "parties": [1]})
    stream = PartyDataset(scenario, open_facts(scenario)).stream
    assert all(really_asked(scenario, stream, each) is each for party in (0, 2) for each in stream.requests(1, party))


def test_what_attackers_ask_for_is_not_probed():
    scenario = scenario_of({"kind": "sign_flip", "parties": [1, 5], "rounds": [2, 2]})
    stream = PartyDataset(scenario, open_facts(scenario)).stream
    probed = sampled_requests(scenario, stream, 1, range(7))
    assert {request.party for request in probed} == {0, 2, 3, 4, 6}
