"""The round log: what happened in a round becomes its rows, once."""

import pytest
from consortium.data.stream import Stream
from consortium.engine.round_log import RoundLog
from consortium.loading.prepare import open_facts
from consortium.merging.layer_update import Distances
from consortium.party.worker import Collected
from consortium.records.rows import MetricRow
from support.scenarios import associative_scenario

DISTANCES = dict.fromkeys(("global", "ties"), Distances(None, None, 0.5))


def sent(*party_bytes):
    """What a batch says whose parties sent so many bytes each."""
    nothing = (0,) * len(party_bytes)
    return Collected(None, 0, party_bytes, nothing, nothing)


@pytest.fixture
def scenario():
    return associative_scenario(merge={"methods": ["global", "ties"]}, parties={"count": 3, "edits_per_round": 2})


@pytest.fixture
def close(scenario):
    facts = open_facts(scenario)
    stream = Stream(scenario.seed, scenario.parties, scenario.stream, facts.relations(), scenario.unlearn)
    return lambda round_log, number: round_log.close_round(number, stream, facts, DISTANCES)


def test_seconds_are_shared_between_arms(scenario, close):
    round_log = RoundLog(scenario)
    round_log.event("targets", 1, arms=["global", "ties"], seconds=3.0)
    round_log.event("targets", 1, arms=["ties"], seconds=1.0)
    rows = close(round_log, 1)
    assert {row.arm: row.targets_s for row in rows.rounds} == {"global": 1.5, "ties": 2.5}
    assert [row.arm for row in rows.events] == [None, "ties"]


def test_bytes_are_of_each_party_and_arm(scenario, close):
    round_log = RoundLog(scenario)
    round_log.sent("ties", 0, sent(10, 20))
    round_log.sent("ties", 1, sent(5))
    round_log.sent("ties", 0, sent(1, 2))
    rows = close(round_log, 1)
    assert {row.arm: row.bytes_sent for row in rows.rounds} == {"global": 0, "ties": 38}
    assert [(row.party, row.party_batch, row.bytes_sent) for row in rows.parties if row.arm == "ties"] == [
        (0, 0, 11),
        (1, 0, 22),
        (2, 1, 5),
    ]


def test_a_party_batch_answers_for_exactly_its_parties(scenario):
    with pytest.raises(ValueError, match="zip"):
        RoundLog(scenario).sent("ties", 1, sent(5, 5))


def test_every_request_is_a_row_once(scenario, close):
    rows = close(RoundLog(scenario), 1)
    assert [(row.party, row.index) for row in rows.edits] == [(party, index) for party in range(3) for index in (0, 1)]
    assert {row.num_edits for row in rows.rounds} == {6}


def test_metrics_stand_in_the_scenarios_order(scenario, close):
    round_log = RoundLog(scenario)
    for arm in ("ties", "unedited", "global"):
        round_log.measured([MetricRow(1, arm, metric, 1, 0.0, None, 1, 1) for metric in ("efficacy", "paraphrase")])
    assert [(row.arm, row.metric) for row in close(round_log, 1).metrics] == [
        (arm, metric) for arm in ("unedited", "global", "ties") for metric in ("efficacy", "paraphrase")
    ]


def test_closing_empties_the_round_log(scenario, close):
    round_log = RoundLog(scenario)
    round_log.event("worker-lost", 1, worker="worker-3", detail="why")
    round_log.sent("ties", 1, sent(5))
    assert [row.detail for row in close(round_log, 1).events] == ["why"]
    second = close(round_log, 2)
    assert second.events == []
    assert {row.bytes_sent for row in second.parties} == {0}


def test_round_0_has_events_only(scenario, close):
    round_log = RoundLog(scenario, lambda: 4.5)
    with round_log.timed("open-model", 0):
        pass
    rows = close(round_log, 0)
    assert (rows.rounds, rows.edits, rows.parties) == ([], [], [])
    assert [(row.kind, row.time_s) for row in rows.events] == [("open-model", 4.5)]


def test_work_that_failed_is_not_recorded_as_done(scenario, close):
    round_log = RoundLog(scenario)
    with pytest.raises(RuntimeError), round_log.timed("merge", 1, arms=["ties"]):
        raise RuntimeError
    assert close(round_log, 1).events == []


def test_rows_of_parties_and_edits_are_made_when_they_are_written(scenario, close):
    """They can be gone through again, and what the round log hears of the next round does not get into them."""
    round_log = RoundLog(scenario)
    round_log.sent("ties", 1, sent(5))
    rows = close(round_log, 1)
    assert not isinstance(rows.edits, list)
    round_log.sent("ties", 1, sent(7))
    for _ in range(2):
        assert [row.bytes_sent for row in rows.parties if row.arm == "ties"] == [0, 0, 5]
        assert len(list(rows.edits)) == 6
