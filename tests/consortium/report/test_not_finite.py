"""What was left out since it is not finite is told: in the terminal, on the page, and in the JSON."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from consortium.cli.table import write_results
from consortium.merging.arm_state import ArmState
from consortium.records.directory import RunDirectory
from consortium.records.rows import MetricRow, PartyRow, RoundRows
from consortium.report.not_finite import LeftOut, left_out, lines
from consortium.report.page import run_of
from consortium.report.sections import not_finite
from consortium.report.summary import summary
from consortium.report.words import plain
from consortium.scenario.schema import UNEDITED, Scenario
from support.report import texts

ARMS = ("global", "ties")


def measured(arm: str, metric: str, missing: int, of_round: int | None = 1) -> MetricRow:
    return MetricRow(1, arm, metric, of_round, 50.0, None, 4, 8 - missing, num_not_finite=missing)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Paraphrases of all arms, portability by kind and perplexity of one, and an edit of the other are missing."""
    scenario = Scenario.model_validate({"name": "holes", "merge": {"methods": ARMS}})
    found = RunDirectory.create(tmp_path / "run", scenario)
    found.commit(0, [ArmState(arm, 0, {}, {}) for arm in ARMS], RoundRows())
    metrics = [measured(arm, metric, 2) for arm in (*ARMS, UNEDITED) for metric in ("paraphrase", "efficacy_greedy")]
    metrics += [measured("ties", metric, 1) for metric in ("portability_greedy", "portability_reasoning_greedy")]
    metrics += [measured("ties", "perplexity", 4, None), measured("global", "efficacy", 0)]
    parties = [PartyRow(1, arm, 0, 0, 3, 0, num_not_finite=int(arm == "ties")) for arm in ARMS]
    found.commit(1, [ArmState(arm, 1, {}, {}) for arm in ARMS], RoundRows(metrics=metrics, parties=parties))
    return found


def test_arms_of_which_the_same_is_missing_share_a_line(run: RunDirectory) -> None:
    both = "paraphrase 2 of 8, efficacy greedy 2 of 8"
    assert lines(left_out(run)) == [
        f"Not finite and left out in ties: edits 1 of 3, {both}, portability greedy 1 of 8, perplexity 4 of 8.",
        f"Not finite and left out in global, unedited: {both}.",
    ]


def test_the_terminal_tells_it_in_lines_that_fit(run: RunDirectory) -> None:
    stream = io.StringIO()
    write_results(run, stream)
    text = stream.getvalue()
    assert all(line in re.sub(r"\n\s+", " ", text) for line in lines(left_out(run)))
    assert max(map(len, text.splitlines())) <= 120


def test_the_page_has_one_row_for_each_measure_and_one_column_for_each_arm(run: RunDirectory) -> None:
    (table,) = not_finite.section(run_of(run)).tables
    columns = [plain(each) for each in table.columns]
    assert sorted(columns) == ["global", "ties", "unedited", "what"]
    found = {row[0]: dict(zip(columns[1:], row[1:], strict=True)) for row in texts(table)}
    assert found["paraphrase"] == {"ties": "2 of 8", "global": "2 of 8", "unedited": "2 of 8"}
    assert found["perplexity"] == {"ties": "4 of 8", "global": "–", "unedited": "–"}
    assert set(found) == {
        *("edits", "paraphrase", "efficacy greedy", "perplexity"),
        *("portability greedy", "portability reasoning greedy"),
    }


def test_the_json_has_it_too(run: RunDirectory) -> None:
    assert [LeftOut(**each) for each in summary(run)["not_finite"]] == left_out(run)
