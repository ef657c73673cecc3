"""Devices and schedules that make no sense are refused before anything starts."""

import json

import pytest
from consortium.common.errors import ScenarioError
from consortium.loading.check import check_scenario
from consortium.loading.load import load_scenario

SPEED = {"speed": 2}


@pytest.fixture
def check(tmp_path):
    def checked(**sections):
        path = tmp_path / "s.yaml"
        timed = {key: sections.pop(key) for key in ("devices", "schedule") if key in sections}
        scenario = {"name": "a", "stream": {"rounds": 3}, "virtual_time": timed} | sections
        path.write_text(json.dumps(scenario))
        check_scenario(load_scenario(str(path)))

    return checked


@pytest.mark.parametrize(
    "sections",
    [
        {"devices": {"speed": {"uniform": [1, 2]}, "latency_s": 0, "availability": {"choice": [0, 0.5, 1]}}},
        {"devices": SPEED, "schedule": {"select": 0.5, "over_select": 2, "deadline_s": 3, "late": "drop"}},
        {"schedule": {"select": 0.5, "absent": "drop"}},
        {"devices": {"availability": 0.5}, "schedule": {"absent": "drop", "late": "wait"}},
        {"devices": {"classes": [{"name": "a", "share": 0.5, "speed": 1}]}, "schedule": {"quorum": 0.9}},
    ],
)
def test_what_can_run_is_accepted(check, sections):
    check(**sections)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"devices": {"speed": {}}}, "devices.speed .*: found an empty mapping(.|\n)*exactly one of"),
        ({"devices": {"speed": {"uniform": [1, 2], "choice": [3]}}}, "devices.speed .*: found uniform and choice"),
        ({"devices": {"speed": {"uniform": [2, 1]}}}, r"devices.speed.uniform .*found \[2, 1\](.|\n)*write \[1, 2\]"),
        ({"devices": {"speed": {"uniform": [1]}}}, "devices.speed.uniform"),
        ({"devices": {"speed": {"normal": 1}}}, "devices.speed.normal .*: unknown key"),
        ({"devices": {"speed": 0}}, "devices.speed .*above 0"),
        ({"devices": {"upload": {"choice": [5, -1]}}}, "devices.upload .*above 0"),
        ({"devices": {"latency_s": -1}}, "devices.latency_s .*0 or more"),
        ({"devices": {"availability": {"uniform": [0.5, 1.5]}}}, "devices.availability .*probabilities"),
        ({"devices": {"availability": {"lognormal": {"median": 1, "sigma": 1}}}}, "found a lognormal distribution"),
        ({"devices": {"classes": [{"name": "a", "share": 0.5}] * 2}}, "devices.classes .*each name once"),
        ({"devices": {"classes": [{"name": n, "share": 0.6} for n in "ab"]}}, "add up to 1.2"),
        ({"devices": {"classes": [{"name": "a", "share": 0.6, "speed": -1}]}}, "devices.classes.0.speed"),
        ({"devices": SPEED, "schedule": {"over_select": 1.2}}, "more than there are parties(.|\n)*at most 1 "),
        ({"devices": {"jitter": 0.5}}, "devices.jitter .*found 0.5, and answers take no time"),
        ({"schedule": {"deadline_s": 3}}, "schedule.deadline_s .*found 3, and answers take no time"),
        ({"schedule": {"quorum": 0.5}, "devices": {"availability": 0.5}}, "schedule.quorum .*take no time"),
        ({"schedule": {"quorum": 1.5}, "devices": SPEED}, "schedule.quorum .*above 0 and at most 1"),
        ({"schedule": {"late": "drop"}, "devices": SPEED}, "schedule.late .*nobody is ever late"),
        ({"schedule": {"absent": "drop"}, "devices": SPEED}, "schedule.absent .*everybody is asked"),
        (
            {
                "devices": SPEED,
                "unlearn": {"parties": [{"round": 2, "parties": [0]}]},
                "merge": {"reference": "initial", "exchange": "round"},
            },
            "unlearn.parties .*removed in a run with virtual time",
        ),
        ({"devices": {"trace": "none.csv"}}, "devices.trace .*no file 'none.csv'"),
    ],
)
def test_what_makes_no_sense_is_refused(check, sections, message):
    with pytest.raises(ScenarioError, match=message.replace(".*", "(.|\n)*")):
        check(**sections)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0,,0\n1,,0\n", "no row for party 2 and 1 other"),
        ("0,,0\n1,,0\n2,,0\n,tablet,0\n", "rows of the class 'tablet'"),
        ("0,,1\n", "first row of party 0 is at 1 s"),
    ],
)
def test_a_trace_that_does_not_fit_is_refused(check, tmp_path, rows, message):
    (tmp_path / "trace.csv").write_text("party,class,time_s\n" + rows)
    with pytest.raises(ScenarioError, match=message):
        check(devices={"trace": "trace.csv"})


def test_a_trace_lies_beside_the_scenario_and_may_speak_of_classes(check, tmp_path):
    (tmp_path / "trace.csv").write_text("class,time_s,available\nphone,0,1\n")
    check(devices={"trace": "trace.csv", "classes": [{"name": "phone", "share": 1}]})
