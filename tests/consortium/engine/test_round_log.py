"""The journal: what happened in a round becomes its rows, once."""

import pytest
from consortium.data.stream import Stream
from consortium.engine.round_log import Journal
from consortium.loading.prepare import open_facts
from consortium.merging.layer_update import Distances
from consortium.records.rows import MetricRow
from support.scenarios import associative_scenario

DISTANCES = dict.fromkeys(("global", "ties"), Distances(None, None, 0.5))


@pytest.fixture
def scenario():
    return associative_scenario(merge={"methods": ["global", "ties"]}, parties={"count": 3, "edits_per_round": 2})


@pytest.fixture
def close(scenario):
    facts = open_facts(scenario)
    stream = Stream(scenario.seed, scenario.parties, scenario.stream, facts.relations())
    return lambda journal, number: journal.close_round(number, stream, facts, DISTANCES)


def test_seconds_are_shared_between_lanes(scenario, close):
    journal = Journal(scenario)
    journal.event("targets", 1, lanes=["global", "ties"], seconds=3.0)
    journal.event("targets", 1, lanes=["ties"], seconds=1.0)
    rows = close(journal, 1)
    assert {row.lane: row.targets_s for row in rows.rounds} == {"global": 1.5, "ties": 2.5}
    assert [row.lane for row in rows.events] == [None, "ties"]


def test_bytes_are_of_each_party_and_lane(scenario, close):
    journal = Journal(scenario)
    journal.sent("ties", 0, [10, 20], [0, 0])
    journal.sent("ties", 1, [5], [0])
    journal.sent("ties", 0, [1, 2], [0, 0])
    rows = close(journal, 1)
    assert {row.lane: row.bytes_sent for row in rows.rounds} == {"global": 0, "ties": 38}
    assert [(row.party, row.cohort, row.bytes_sent) for row in rows.parties if row.lane == "ties"] == [
        (0, 0, 11),
        (1, 0, 22),
        (2, 1, 5),
    ]


def test_a_cohort_answers_for_exactly_its_parties(scenario):
    with pytest.raises(ValueError, match="zip"):
        Journal(scenario).sent("ties", 1, [5, 5], [0])


def test_every_request_is_a_row_once(scenario, close):
    rows = close(Journal(scenario), 1)
    assert [(row.party, row.index) for row in rows.edits] == [(party, index) for party in range(3) for index in (0, 1)]
    assert {row.num_edits for row in rows.rounds} == {6}


def test_metrics_stand_in_the_scenarios_order(scenario, close):
    journal = Journal(scenario)
    for lane in ("ties", "unedited", "global"):
        journal.measured([MetricRow(1, lane, metric, 1, 0.0, None, 1, 1) for metric in ("efficacy", "paraphrase")])
    assert [(row.lane, row.metric) for row in close(journal, 1).metrics] == [
        (lane, metric) for lane in ("unedited", "global", "ties") for metric in ("efficacy", "paraphrase")
    ]


def test_closing_empties_the_journal(scenario, close):
    journal = Journal(scenario)
    journal.event("host-lost", 1, host="host-3", detail="why")
    journal.sent("ties", 1, [5], [0])
    assert [row.detail for row in close(journal, 1).events] == ["why"]
    second = close(journal, 2)
    assert second.events == []
    assert {row.bytes_sent for row in second.parties} == {0}


def test_round_0_has_events_only(scenario, close):
    journal = Journal(scenario, lambda: 4.5)
    with journal.timed("open-model", 0):
        pass
    rows = close(journal, 0)
    assert (rows.rounds, rows.edits, rows.parties) == ([], [], [])
    assert [(row.kind, row.time_s) for row in rows.events] == [("open-model", 4.5)]


def test_work_that_failed_is_not_recorded_as_done(scenario, close):
    journal = Journal(scenario)
    with pytest.raises(RuntimeError), journal.timed("merge", 1, lanes=["ties"]):
        raise RuntimeError
    assert close(journal, 1).events == []


def test_rows_of_parties_and_edits_are_made_when_they_are_written(scenario, close):
    """They can be gone through again, and what the journal hears of the next round does not get into them."""
    journal = Journal(scenario)
    journal.sent("ties", 1, [5], [0])
    rows = close(journal, 1)
    assert not isinstance(rows.edits, list)
    journal.sent("ties", 1, [7], [0])
    for _ in range(2):
        assert [row.bytes_sent for row in rows.parties if row.lane == "ties"] == [0, 0, 5]
        assert len(list(rows.edits)) == 6
