"""The cluster's section of the report, and the rows that a run adds after its last commit."""

from dataclasses import replace

import pytest
from consortium.records.directory import RunDirectory
from consortium.report.page import run_of
from consortium.report.sections.cluster import section
from support.report import texts
from support.scenarios import associative_scenario, run_serially
from support.shared_runs import copy_of

from tests.consortium.report.sections.test_cluster_use import SERIES, row


@pytest.fixture(scope="module")
def finished(finished_run, tmp_path_factory):
    prices = [{"of": "cpu", "per_hour": 3600.0}]
    scenario = associative_scenario(stream={"rounds": 1}, cluster={"prices": prices})
    return copy_of(finished_run(scenario), tmp_path_factory.mktemp("run") / "run").path


def test_a_run_without_a_cluster_says_nothing_of_one(finished):
    assert section(run_of(RunDirectory.open(finished))) is None


def test_what_was_seen_after_the_last_commit_is_added_and_shown(finished):
    before = RunDirectory.open(finished).table("events")
    with RunDirectory.open(finished) as directory:
        directory.add_nodes(SERIES[:5])
        directory.add_nodes(SERIES[5:])
    found = RunDirectory.open(finished)
    assert found.table("nodes").num_rows == len(SERIES)
    assert found.table("nodes").column("time_s").to_pylist() == [each.time_s for each in SERIES]
    assert found.table("events").equals(before)
    said = section(run_of(found))
    measures = dict(texts(said.tables[0]))
    assert measures["of the nodes, reserved"] == "40.9 %"
    assert measures["of the nodes, at work"] == "18.2 %"
    assert measures["node-seconds without a worker"] == "6 of 22"
    assert measures["cost, by the scenario’s prices"] == "44", "22 node-seconds of two CPUs"
    (figure,) = said.figures
    assert "workers wanted" in figure.drawing.svg


def test_rows_of_another_round_are_not_added(finished):
    with (
        RunDirectory.open(finished) as directory,
        pytest.raises(AssertionError, match="row of nodes is not of round"),
    ):
        directory.add_nodes([replace(row(1), round=5)])


def test_one_node_that_stays_is_not_worth_a_section(tmp_path):
    path = run_serially(associative_scenario(stream={"rounds": 1}), tmp_path / "run").path
    with RunDirectory.open(path) as directory:
        directory.add_nodes([row(0, wanted=1), row(1, wanted=1)])
    assert section(run_of(RunDirectory.open(path))) is None
