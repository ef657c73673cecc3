"""Devices: drawn once for each party, by class, and changed by a trace."""

import json
import os

import numpy as np
import pytest
from consortium.common.errors import ScenarioError
from consortium.features.registry import open_stream
from consortium.features.virtual_time.devices import Devices, Workload
from consortium.features.virtual_time.trace import read_trace
from consortium.scenario.schema import Scenario
from support.scenarios import associative_scenario

#: One edit, no bytes: the seconds of an answer are 1 / speed.
ONE_EDIT = Workload(np.ones(10_000, np.int64), np.zeros(10_000, np.int64), 0, 0)


def spec_of(**devices):
    return Scenario.model_validate_json(
        json.dumps({"name": "a", "virtual_time": {"devices": devices}})
    ).virtual_time.devices


def speeds(num_parties=10_000, seed=1, **devices):
    work = Workload(ONE_EDIT.num_edits_S[:num_parties], ONE_EDIT.upload_bytes_S[:num_parties], 0, 0)
    return 1 / Devices(seed, spec_of(**devices), num_parties).seconds(1, np.arange(num_parties), 0.0, work)


def test_distributions_are_what_they_are_called():
    even = speeds(speed={"uniform": [2, 6]})
    assert (even.min() >= 2, even.max() <= 6, even.mean()) == (True, True, pytest.approx(4, abs=0.05))
    skewed = speeds(speed={"lognormal": {"median": 3, "sigma": 0.5}})
    assert np.median(skewed) == pytest.approx(3, rel=0.03)
    assert np.log(skewed).std() == pytest.approx(0.5, rel=0.03)
    chosen, counts = np.unique(speeds(speed={"choice": [1, 2, 5]}).round(9), return_counts=True)
    assert chosen.tolist() == [1, 2, 5]
    assert counts.min() > 3100
    assert set(speeds(speed=2)) == {2.0}


@pytest.mark.parametrize(
    "devices",
    [
        {"speed": {"lognormal": {"median": 3, "sigma": 0.5}}},
        {"speed": {"uniform": [1, 2]}},
        {"speed": {"choice": [1, 2, 3]}, "classes": [{"name": "phone", "share": 0.4, "speed": {"uniform": [5, 9]}}]},
    ],
)
def test_a_party_added_at_the_end_changes_nobody_elses_device(devices):
    assert speeds(50, **devices).tolist() == speeds(51, **devices)[:50].tolist()
    assert speeds(50, **devices).tolist() != speeds(50, seed=2, **devices).tolist()


def test_classes_have_their_share_and_take_the_rest_from_all():
    classes = [{"name": "phone", "share": 0.3, "speed": 1}, {"name": "laptop", "share": 0.5}]
    devices = Devices(1, spec_of(speed=8, classes=classes), 10_000)
    shares = {name: devices.class_of.count(name) / 10_000 for name in ("phone", "laptop", None)}
    assert shares == {
        "phone": pytest.approx(0.3, abs=0.02),
        "laptop": pytest.approx(0.5, abs=0.02),
        None: pytest.approx(0.2, abs=0.02),
    }
    slow = speeds(speed=8, classes=classes) == 1
    assert slow.tolist() == [name == "phone" for name in devices.class_of]


def test_shares_of_a_third_leave_nobody_out():
    classes = [{"name": name, "share": 0.1} for name in "abcdefghij"]
    assert None not in Devices(1, spec_of(classes=classes), 10_000).class_of


def test_availability_is_drawn_anew_in_every_round():
    devices = Devices(1, spec_of(availability=0.25), 10_000)
    rounds = [devices.available(number, 0.0) for number in (1, 2)]
    assert [each.mean() for each in rounds] == [pytest.approx(0.25, abs=0.02)] * 2
    assert (rounds[0] & rounds[1]).mean() == pytest.approx(0.25**2, abs=0.02)


def test_jitter_makes_answers_longer_or_shorter_from_round_to_round():
    devices = Devices(1, spec_of(speed=1, jitter=0.3), 10_000)
    rounds = [devices.seconds(number, np.arange(10_000), 0.0, ONE_EDIT) for number in (1, 2)]
    logs = np.log(rounds)
    assert logs.std(axis=1) == pytest.approx([0.3, 0.3], rel=0.03)
    assert abs(np.corrcoef(logs)[0, 1]) < 0.05
    some = devices.seconds(
        1, np.array([7, 9]), 0.0, Workload(ONE_EDIT.num_edits_S[:2], ONE_EDIT.upload_bytes_S[:2], 0, 0)
    )
    assert some.tolist() == rounds[0][[7, 9]].tolist(), "a party's own, whoever else is asked"


CSV = """party,class,time_s,available,speed
0,,0,1,2
0,,10,0,
1,,0,false,4
1,,30,true,
,phone,0,1,5
,phone,20,1,10
"""
ROWS = [
    {"party": 0, "time_s": 0, "available": 1, "speed": 2},
    {"party": 0, "time_s": 10, "available": 0},
    {"party": 1, "time_s": 0, "available": False, "speed": 4},
    {"party": 1, "time_s": 30, "available": True},
    {"class": "phone", "time_s": 0, "available": 1, "speed": 5},
    {"class": "phone", "time_s": 20, "available": 1, "speed": 10},
]
PHONES = [{"name": "phone", "share": 1}]


@pytest.mark.parametrize("text", [CSV, "\n".join(json.dumps(row) for row in reversed(ROWS))])
def test_a_trace_says_what_holds_from_when_on(tmp_path, text):
    """Parties 0 and 1 have rows of their own, party 2 those of its class; what a row leaves out is drawn: speed 7."""
    path = tmp_path / "trace"
    path.write_text(text)
    devices = Devices(1, spec_of(speed=7, classes=PHONES, trace=str(path)), 3)
    work = Workload(np.full(3, 140), np.zeros(3, np.int64), 0, 0)
    seconds = [devices.seconds(1, np.arange(3), time_s, work).tolist() for time_s in (0, 9.9, 10, 30)]
    assert seconds == [[70, 35, 28], [70, 35, 28], [20, 35, 28], [20, 20, 14]]
    there = [devices.available(1, time_s).tolist() for time_s in (0, 15, 30)]
    assert there == [[True, False, True], [False, False, True], [False, True, True]]
    assert [devices.next_arrival(time_s) for time_s in (0, 20, 30)] == [20, 30, None]


def test_the_clock_waits_until_the_trace_lets_somebody_come(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("party,time_s,available\n0,0,0\n0,50,1\n0,60,0\n1,0,0\n1,90,1\n")
    fresh = {"rounds": 3, "overlap": 0, "conflict": 0, "repeat": 0}
    devices = {"speed": 0.2, "trace": str(path)}
    scenario = associative_scenario(parties={"count": 2}, stream=fresh, virtual_time={"devices": devices})
    stream = open_stream(scenario, ["r"] * 100)
    assert [(round_timeline.start_s, round_timeline.end_s) for round_timeline in stream.timeline.turns] == [
        (50, 70),
        (90, 130),
        (130, 150),
    ]
    # Party 1 comes in round 2, with the edits of two rounds.
    assert [[len(stream.requests(number, party)) for party in (0, 1)] for number in (1, 2, 3)] == [
        [4, 0],
        [0, 8],
        [0, 4],
    ]
    assert stream.timeline.turns[-1].num_waiting == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("party,time_s,power\n0,0,1\n", "a column 'power'"),
        ("party,time_s\nx,0\n", "line 2: party is 'x'"),
        ("party,time_s\n0.5,0\n", "line 2: party is '0.5'"),
        ("party,class,time_s\n0,phone,0\n", "line 2: found .*one of them"),
        ("party,speed\n0,1\n", "line 2: no time_s"),
        ("party,time_s,speed\n0,0,-1\n", "line 2: speed is '-1'"),
        ("party,time_s,speed\n0,0,nan\n", "line 2: speed is 'nan'"),
        ("party,time_s,available\n0,0,maybe\n", "line 2: available is 'maybe'.*true or false"),
        ("party,time_s\n0,5\n", "first row of party 0 is at 5 s"),
        ("class,time_s\nphone,0\nphone,3\nphone,3\n", "class 'phone' has two rows at 3 s"),
        ('{"party": 0, "time_s": 0}\n{"party": 1\n', "line 2: "),
        ('{"party": 0, "time_s": 0}\n[1]\n', "line 2: found"),
        ('{"party": 0, "time_s": 0, "power": 1}\n', "line 1: a column 'power'"),
        ("party,time_s\n" + "9" * 200_000 + ",0\n", "line 2: field larger than field limit"),
        ('{"party": ' + "[" * 100_000 + "\n", "line 1: lists and objects more than 64 deep"),
        ('{"party": ' + "9" * 5000 + ', "time_s": 0}\n', "line 1: a whole number of thousands of digits"),
        ('{"class": "\\ud800", "time_s": 0}\n', "line 1: class is .*half of a surrogate pair"),
        ('{"class": ["phone"], "time_s": 0}\n', r"line 1: class is \['phone'\]: no text"),
        ("class,time_s\np\0,0\n", r"line 2: class is .*a zero character"),
    ],
)
def test_a_trace_with_a_mistake_is_refused_by_its_line(tmp_path, text, message):
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=f"(?s){message}"):
        read_trace(path)


def test_a_trace_is_no_pipe_and_no_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ScenarioError, match="is a pipe"):
        read_trace(tmp_path / "pipe")
    with pytest.raises(ScenarioError, match="is a folder"):
        read_trace(tmp_path)


def test_a_trace_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ScenarioError, match="cannot be read"):
        read_trace(tmp_path / "none.csv")
