"""Virtual time decides in which round an edit is merged: each once, in its party's order, by the scenario alone."""

from collections import Counter

import numpy as np
import pytest
from consortium.data.stream import Stream
from consortium.evaluation.schedule import sampled_requests
from consortium.features.registry import open_stream
from consortium.features.virtual_time.hook import schedule_row
from consortium.features.virtual_time.stream import message_sizes
from support.scenarios import associative_scenario

RELATIONS = [f"r{number % 7}" for number in range(13_000)]
SPREAD = {"speed": {"lognormal": {"median": 1, "sigma": 1}}, "availability": {"uniform": [0.4, 1]}}
ROUNDS = range(1, 7)


def scenario_of(devices=SPREAD, schedule=None, **changes):
    stream = {"rounds": 6, **changes.pop("stream", {})}
    return associative_scenario(
        virtual_time={"devices": devices, "schedule": {"deadline_s": 6} if schedule is None else schedule},
        stream=stream,
        **changes,
    )


def opened(*arguments, **changes):
    return open_stream(scenario_of(*arguments, **changes), RELATIONS)


def plain(**changes):
    scenario = scenario_of(**changes)
    return Stream(scenario.seed, scenario.parties, scenario.stream, RELATIONS)


def merged(stream, rounds=ROUNDS, parties=range(7)):
    """All requests that are merged, as the stream had them when they were asked for: (asked in, party, fact, …)."""
    requests = [each for number in rounds for party in parties for each in stream.requests(number, party)]
    return [(each.asked_in or each.round, each.party, each.fact, each.variant, each.kind) for each in requests]


POLICIES = [
    {"deadline_s": 6, "late": "carry"},
    {"deadline_s": 6, "late": "wait"},
    {"select": 0.5, "over_select": 1.5, "quorum": 0.8},
    {"select": 0.6, "over_select": 1.3, "edits_per_answer": 3},
]


@pytest.mark.parametrize("schedule", POLICIES)
def test_every_edit_is_merged_once_or_still_waits(schedule):
    stream = opened(SPREAD, schedule)
    asked, came = Counter(merged(plain())), Counter(merged(stream))
    assert came <= asked, "nothing is invented, and nothing twice"
    assert sum((asked - came).values()) == stream.timeline.turns[-1].num_waiting > 0
    assert sum(round_timeline.num_lost for round_timeline in stream.timeline.turns) == 0
    assert any(number < each.round for each, number in _with_asked(stream)), (
        "something came later than it was asked for"
    )


def _with_asked(stream):
    requests = [each for number in ROUNDS for party in range(7) for each in stream.requests(number, party)]
    return [(each, each.asked_in or each.round) for each in requests]


@pytest.mark.parametrize("schedule", [{"deadline_s": 6, "late": "drop"}, {"select": 0.5, "absent": "drop"}])
def test_what_is_dropped_is_merged_at_most_once_and_counted(schedule):
    stream = opened(SPREAD, schedule)
    asked, came = Counter(merged(plain())), Counter(merged(stream))
    lost = sum(round_timeline.num_lost for round_timeline in stream.timeline.turns)
    assert came <= asked
    assert sum((asked - came).values()) == lost + stream.timeline.turns[-1].num_waiting
    assert lost > 0


@pytest.mark.parametrize(
    ("devices", "schedule"),
    [
        ({"speed": {"lognormal": {"median": 1, "sigma": 1}}}, {"late": "wait", "deadline_s": 0.1}),
        ({"speed": {"lognormal": {"median": 1, "sigma": 1}}}, {"deadline_s": 1e9}),
        ({"latency_s": 3, "availability": 1}, {"quorum": 0.5}),
    ],
)
def test_who_is_waited_for_puts_in_what_it_asks_for(devices, schedule):
    """Waiting, a deadline that nobody misses, and equal devices: the very requests of a stream without virtual time."""
    timed, whole = opened(devices, schedule), plain()
    for number in ROUNDS:
        assert [timed.requests(number, party) for party in range(7)] == [
            whole.requests(number, party) for party in range(7)
        ]
        assert timed.present(number).tolist() == whole.present(number).tolist()
        assert timed.num_requests(number) == whole.num_requests(number)


def test_a_party_asks_for_a_fact_once_in_a_round_and_in_its_order():
    """A late edit and a later one for the same fact do not meet: the later one waits, else it would be undone."""
    stream = opened(stream={"conflict": {"party": 0, "round": 0.4}, "repeat": 0.3, "overlap": 0.0})
    for number in ROUNDS:
        for party in range(7):
            facts = [each.fact for each in stream.requests(number, party)]
            assert len(set(facts)) == len(facts)
    came = _with_asked(stream)
    assert any(number < each.round for each, number in came)
    for party in range(7):
        for fact in {each.fact for each, _ in came if each.party == party}:
            order = [number for each, number in came if (each.party, each.fact) == (party, fact)]
            assert order == sorted(order)


def test_numbers_and_places_are_those_of_the_requests():
    stream = opened(SPREAD, POLICIES[3])
    for number in ROUNDS:
        counts = [len(stream.requests(number, party)) for party in range(7)]
        assert stream.num_requests(number) == sum(counts)
        assert stream.num_requests(number, range(2, 5)) == sum(counts[2:5])
        assert stream.present(number).tolist() == [party for party, count in enumerate(counts) if count]
        places = [(party, index) for party, count in enumerate(counts) for index in range(count)]
        assert stream.places(number, np.arange(sum(counts))) == places
        assert [(each.round, each.index) for party in range(7) for each in stream.requests(number, party)] == [
            (number, index) for _, index in places
        ]


def test_what_is_probed_was_merged():
    scenario = scenario_of(SPREAD, POLICIES[0], evaluate={"sample": 5})
    stream = open_stream(scenario, RELATIONS)
    for number in ROUNDS:
        halves = [sampled_requests(scenario, stream, number, each) for each in (range(3), range(3, 7))]
        drawn = [*halves[0], *halves[1]]
        assert len(drawn) == min(5, stream.num_requests(number))
        assert all(each in stream.requests(number, each.party) for each in drawn)


def test_the_course_follows_from_the_seed():
    ends = [[round_timeline.end_s for round_timeline in opened(seed=seed).timeline.turns] for seed in (1, 1, 2)]
    assert ends[0] == ends[1] != ends[2]


def test_a_party_more_changes_nobody_elses_course():
    """With everybody asked and a deadline, no party depends on the others: neither its lots nor what it puts in."""
    few, many = opened(), opened(parties={"count": 8})
    assert merged(few) == merged(many)
    for own, other in zip(few.timeline.turns, many.timeline.turns, strict=True):
        known = other.asked_S < 7
        assert own.asked_S.tolist() == other.asked_S[known].tolist()
        assert own.answer_s_S.tolist() == other.answer_s_S[known].tolist()


def test_virtual_time_by_hand():
    """Two parties with 4 edits a round, 1 and 4 edits a second, links of 1,000 and 2,000 bytes a second.

    K = 24, V = 10, three layers, one exchange for each: a party receives 4·3·24·10 = 2,880 bytes and sends
    8·3·4·(24 + 10) = 3,264 bytes, in 6 messages of 0.5 s. So an answer takes 3 + 4/speed + 2.88 + 1.632 s.
    """
    devices = {
        "speed": {"choice": [1, 4]},
        "download": 1000,
        "upload": 2000,
        "latency_s": 0.5,
    }
    fresh = {"overlap": 0, "conflict": 0, "repeat": 0}
    for seed in range(9):  # of nine seeds at least one gives each party another speed
        scenario = scenario_of(devices, {"deadline_s": 9}, parties={"count": 2}, stream=fresh, seed=seed)
        timeline = open_stream(scenario, RELATIONS).timeline
        slow, quick = 3 + 4 / 1 + 2.88 + 1.632, 3 + 4 / 4 + 2.88 + 1.632
        if sorted(timeline.turns[0].answer_s_S) == pytest.approx([quick, slow]):
            break
    assert sorted(timeline.turns[0].answer_s_S) == pytest.approx([quick, slow])
    first, second = (schedule_row(timeline, number) for number in (1, 2))
    assert (first.start_s, first.end_s) == (0.0, 9.0), "the deadline"
    assert (first.num_in_time, first.num_late, first.num_edits, first.num_waiting) == (1, 1, 4, 4)
    assert (second.start_s, second.end_s, second.num_waiting) == (9.0, 18.0, 8)
    late = int(timeline.turns[0].asked_S[timeline.turns[0].is_late_S][0])
    # In round 2 the late party has eight edits: twice the work and twice the bytes to send.
    again = timeline.turns[1].answer_s_S[late]
    assert again == pytest.approx(3 + 8 / 1 + 2.88 + 3.264)


def test_a_quorum_closes_a_round_and_waiting_holds_it_open():
    closes = opened({"speed": {"uniform": [1, 9]}}, {"quorum": 0.5}).timeline.turns[0]
    holds = opened({"speed": {"uniform": [1, 9]}}, {"quorum": 0.5, "late": "wait"}).timeline.turns[0]
    answers = sorted(closes.answer_s_S)
    assert closes.end_s == answers[3], "the fourth of seven: half of them, rounded up"
    assert holds.end_s == answers[6]
    assert closes.is_late_S.sum() == holds.is_late_S.sum() == 3


def test_over_selection_asks_more_than_it_wants():
    round_timeline = opened({"speed": {"uniform": [1, 9]}}, {"select": 0.4, "over_select": 1.7}).timeline.turns[0]
    assert (round_timeline.num_wanted, len(round_timeline.asked_S), int((~round_timeline.is_late_S).sum())) == (3, 6, 3)


def test_who_is_asked_is_drawn_and_no_party_is_favoured():
    """2,000 parties, half of them asked in each of six rounds: a party is asked in three of them on average."""
    stream = opened({}, {"select": 0.5}, parties={"count": 2000, "edits_per_round": 1}, stream={"overlap": 0})
    times_asked = np.bincount(
        np.concatenate([round_timeline.asked_S for round_timeline in stream.timeline.turns]), minlength=2000
    )
    assert (times_asked[:1000].mean(), times_asked[1000:].mean()) == pytest.approx((3, 3), abs=0.15)
    assert times_asked.std() == pytest.approx((6 * 0.25) ** 0.5, rel=0.1), "each round draws for itself"


def test_an_answer_holds_so_many_edits_at_most_and_the_oldest_first():
    stream = opened(SPREAD, {"edits_per_answer": 3}, stream={"overlap": 0, "conflict": 0, "repeat": 0})
    for party in range(7):
        numbers = [[each.asked_in or number for each in stream.requests(number, party)] for number in ROUNDS]
        assert {len(own) for own in numbers} <= {0, 3}
        in_order = [number for own in numbers for number in own]
        assert in_order == [1 + place // 4 for place in range(len(in_order))]


def test_rounds_in_which_nobody_is_there_are_empty():
    stream = opened({"speed": 1, "availability": 0}, {"deadline_s": 5})
    assert [stream.num_requests(number) for number in ROUNDS] == [0] * 6
    assert [round_timeline.end_s for round_timeline in stream.timeline.turns] == [5, 10, 15, 20, 25, 30]
    assert sampled_requests(scenario_of({"speed": 1, "availability": 0}), stream, 1, range(7)) == []


@pytest.mark.parametrize("statistics", ["auto", "dense", "factored"])
def test_more_edits_than_a_key_is_wide_weigh_no_more(statistics):
    sizes = message_sizes(scenario_of(merge={"statistics": statistics}))
    few, many = sizes.upload_bytes(np.array([4, 400])).tolist()
    dense = 8 * 3 * 24 * (24 + 10)
    assert many == dense
    assert few == (dense if statistics == "dense" else dense // 6)


def test_ten_thousand_parties_are_gone_through_at_once():
    """A second with arrays over all parties; one party after the other, this would hold up the whole suite."""
    scenario = scenario_of(SPREAD, POLICIES[2], parties={"count": 10_000, "edits_per_round": 10})
    stream = open_stream(scenario, [f"r{number % 7}" for number in range(500_000)])
    num_merged = sum(stream.num_requests(number) for number in ROUNDS)
    assert num_merged + stream.timeline.turns[-1].num_waiting == 10_000 * 10 * len(ROUNDS)
