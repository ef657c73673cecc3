"""Tables that commands print: as many as it takes for every word and number to stay whole."""

from __future__ import annotations

import io

import pytest
from consortium.cli.table import PLAIN_WIDTH, write_results
from consortium.merging.arm_state import ArmState
from consortium.records.directory import RunDirectory
from consortium.records.rows import MetricRow, RoundRow, RoundRows
from consortium.report.summary import result_table, summary
from consortium.scenario.schema import UNEDITED, Scenario

MANY = (
    *("score", "efficacy", "paraphrase", "neighborhood", "retention", "conflict_score", "edit_success"),
    *("edit_success_greedy", "portability", "portability_greedy", "locality", "locality_greedy", "fluency"),
)


def run_with(path, metrics):
    scenario = Scenario.model_validate({"name": "wide", "merge": {"methods": ("global", "simple_average")}})
    run = RunDirectory.create(path, scenario)
    run.commit(0, [ArmState(arm, 0, {}, {}) for arm in ("global", "simple_average")], RoundRows())
    rows = RoundRows(
        rounds=[
            RoundRow(1, arm, 4, 16, 1000, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.1) for arm in ("global", "simple_average")
        ],
        metrics=[
            MetricRow(1, arm, metric, 1, 100.0 - place, None, 16, 16)
            for arm in ("global", "simple_average", UNEDITED)
            for place, metric in enumerate(metrics)
        ],
    )
    run.commit(1, [ArmState(arm, 1, {}, {}) for arm in ("global", "simple_average")], rows)
    return run


@pytest.mark.parametrize(("metrics", "num_tables"), [(MANY[1:2], 1), (MANY[:4], 1), (MANY, 2)])
def test_no_word_and_no_number_is_broken(metrics, num_tables, tmp_path):
    run, stream = run_with(tmp_path / "run", metrics), io.StringIO()
    write_results(run, stream)
    lines = stream.getvalue().splitlines()
    drawn = [line for line in lines if line.startswith("|")]
    cells = [cell.strip() for line in drawn for cell in line.strip("|").split("|")]
    table = result_table(summary(run))
    assert sum(line.split("|")[1].strip() == "global" for line in drawn) == num_tables
    assert max(map(len, drawn)) <= PLAIN_WIDTH
    words = {word for cell in cells for word in cell.split()}
    assert words >= {word for heading in table.columns for word in heading.split()}
    assert {cell.replace("–", "-") for row in table.rows for cell in row} <= set(cells)
    assert lines[0] == "wide: 0 edits of 4 parties in 1 round; percent unless said otherwise"


def test_no_heading_has_more_than_two_lines(tmp_path):
    metrics = [f"{each}_with_start" for each in ("efficacy", "edit_success", "portability_reasoning")]
    run, stream = run_with(tmp_path / "run", (*MANY, *metrics)), io.StringIO()
    write_results(run, stream)
    starts = [place for place, line in enumerate(stream.getvalue().splitlines()) if line.startswith("+--")]
    assert max(below - above - 1 for above, below in zip(starts[::3], starts[1::3], strict=True)) == 2
