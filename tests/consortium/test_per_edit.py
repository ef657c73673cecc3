"""``evaluate.per_edit``: what each probe of each edit was answered with."""

import pytest
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium.records.spool import Spool
from consortium.report.page import run_of
from consortium.report.sections.edits import MOST_LISTED, section
from consortium.report.words import plain
from support.pico import pico_folder
from support.pools import LocalPool, run_on
from support.report import texts
from support.scenarios import ALL_METHODS, associative_scenario, difference, pico_scenario, run_serially

METRICS = ["efficacy", "paraphrase", "neighborhood", "retention", "edit_success", "locality"]


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    folder = pico_folder(tmp_path_factory.mktemp("model") / "pico", "llama", num_layers=4)
    evaluate = {"metrics": METRICS, "decoding": ["teacher_forcing", "greedy"], "per_edit": True}
    return pico_scenario(folder, evaluate=evaluate, stream={"rounds": 2})


@pytest.fixture(scope="module")
def serial(scenario, finished_run):
    return finished_run(scenario)


@pytest.mark.slow
def test_its_rows_come_to_the_metrics(serial):
    """An edit's probes are averaged first, then edits."""
    answers, edits = serial.table("answers").to_pylist(), {}
    for row in answers:
        key = row["round"], row["arm"], row["metric"], row["edit_round"]
        edits.setdefault(key, {}).setdefault((row["party"], row["index"]), []).append(row)
    measured = {
        (row["round"], row["arm"], row["metric"], row["of_round"]): row
        for row in serial.table("metrics").to_pylist()
        if not row["metric"].startswith("score")
    }
    assert edits.keys() == measured.keys()
    for key, row in measured.items():
        for name in ("success", "strict"):
            shares = [sum(each[name] for each in probes) / len(probes) for probes in edits[key].values()]
            assert 100 * sum(shares) / len(shares) == pytest.approx(row[name])
        assert sum(map(len, edits[key].values())) == row["num_probes"]


@pytest.mark.slow
def test_a_row_says_what_was_asked_and_answered(serial):
    named = {(row["party"], row["round"], row["index"]): row for row in serial.table("edits").to_pylist()}
    for row in serial.table("answers").to_pylist():
        edit = named[row["party"], row["edit_round"], row["index"]]
        assert row["is_finite"]
        assert isinstance(row["answer"], str) or "with_start" in row["metric"]
        if row["metric"] == "efficacy":
            assert row["prompt"] == edit["prompt"].replace("{}", edit["subject"])
            assert row["target"] == edit["target_new"]
            assert row["success"] == float(row["nll_target"] < row["nll_rival"])
        if row["metric"] in METRICS[-2:]:
            assert row["nll_target"] is None


@pytest.mark.slow
def test_workers_tell_the_same_in_the_same_order(scenario, serial, tmp_path):
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        run_on(LocalPool(scenario, open_facts(scenario), 3), directory)
    hosted = RunDirectory.open(tmp_path / "run")
    assert hosted.table("answers").equals(serial.table("answers"))
    arms = list(dict.fromkeys(row["arm"] for row in serial.table("answers").to_pylist()))
    assert arms == ["unedited", "global", "collabedit"]


def test_without_it_nothing_is_written_and_nothing_else_changes(tmp_path):
    told, untold = (
        run_serially(associative_scenario(evaluate={"per_edit": per_edit}), tmp_path / str(per_edit))
        for per_edit in (True, False)
    )
    assert len(untold.table("answers")) == 0 < len(told.table("answers"))
    assert difference(told.arm_states(), untold.arm_states()) == []
    assert told.table("metrics").equals(untold.table("metrics"))
    assert section(run_of(untold)) is None


def test_the_report_lists_what_failed_arm_by_arm(tmp_path):
    metrics = ["efficacy", "neighborhood"]
    run = run_serially(associative_scenario(evaluate={"per_edit": True, "metrics": metrics}), tmp_path / "run")
    _, *folded = section(run_of(run)).parts
    rows = [row for row in run.table("answers").to_pylist() if row["round"] == 2]
    for arm, part in zip(ALL_METHODS, folded, strict=True):
        mine = [row for row in rows if row["arm"] == arm]
        failed = [row for row in mine if row["success"] < 1]
        assert plain(part.summary) == f"{arm}: {len(failed)} of {len(mine)} probes failed"
        assert [row[2] for row in texts(part.parts[0])] == [row["prompt"] for row in failed[:MOST_LISTED]]


def test_a_spool_gives_its_rows_as_often_as_they_are_asked_for():
    spool = Spool()
    for start in range(0, 300_000, 1000):
        spool.add(list(range(start, start + 1000)))
    assert list(spool) == list(spool) == list(range(300_000))
    spool.add([-1])
    assert list(spool)[-1] == -1
