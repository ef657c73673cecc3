"""Edits that a model holds already: how short their residuals are, who leaves them out, and what that changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from consortium.editing.known_facts import Residuals, add_residuals, is_already_known, residual_sums
from consortium.records.directory import RunDirectory
from consortium.scenario.schema import OverlapSpec, Scenario
from support.scenarios import associative_scenario, difference
from support.shared_runs import SharedRuns

LOOKS = {"skip_known": "residual", "threshold": 0.2}
METHODS = ["global", "collabedit", "simple_average"]


def repeating(**changes: Any) -> Scenario:
    """Four rounds; from the second on half of what a party asks for it asked for before. Room for all, little key
    covariance."""
    roomy = {
        "model": {"key_width": 256, "value_width": 32},
        "stream": {"rounds": 4, "overlap": 0, "conflict": 0, "repeat": 0.5},
        "merge": {"methods": METHODS},
        "editor": {"covariance_weight": 0.01},
    }
    return associative_scenario(**roomy | changes)


def rows(run: RunDirectory, table: str, **wanted: Any) -> list[dict[str, Any]]:
    found = run.table(table).to_pylist()
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]


def test_an_edit_is_held_when_its_residual_is_short() -> None:
    looks = OverlapSpec(skip_known="residual", threshold=0.2)
    assert is_already_known(looks, 0.19)
    assert not is_already_known(looks, 0.2)


def test_sums_are_kept_by_how_an_edit_was_asked_for() -> None:
    """By hand: two fresh edits with residuals 0.5 and 0.1, one repeated with 0.05; 0.2 is the threshold."""
    asked = [("fresh", 0), ("repeat", 1), ("fresh", 0)]
    sums = residual_sums(asked, [0.5, 0.05, 0.1], OverlapSpec(skip_known="residual", threshold=0.2))
    assert sums == {("fresh", 0): Residuals(2, 0.6, 1), ("repeat", 1): Residuals(1, 0.05, 1)}
    assert add_residuals([sums, {("fresh", 0): Residuals(1, 1.0, 0)}])["fresh", 0] == Residuals(3, 1.6, 1)


def test_the_residual_falls_as_a_fact_is_held(finished_run: SharedRuns) -> None:
    run = finished_run(repeating())
    for row in rows(run, "residuals", arm="collabedit", kind="repeat"):
        fresh = rows(run, "residuals", arm="collabedit", kind="fresh", round=row["round"])[0]
        assert row["residual"] < 0.25 * fresh["residual"]
    assert {row["asked_before"] for row in rows(run, "residuals", kind="repeat")} >= {1, 2}
    assert all(row["num_skipped"] is None for row in rows(run, "parties"))


def test_what_is_held_is_left_out_and_nothing_else(finished_run: SharedRuns) -> None:
    """Seven parties ask for 2 repeated edits of 4 in rounds 2 to 4; a merge by averages leaves most to be desired."""
    run = finished_run(repeating(overlap=LOOKS))
    for arm in METHODS:
        for number in range(1, 5):
            left_out = [row["num_skipped"] for row in rows(run, "parties", arm=arm, round=number)]
            held = sum(row["num_known"] for row in rows(run, "residuals", arm=arm, round=number))
            assert sum(left_out) == held
    counts = {arm: sum(row["num_skipped"] for row in rows(run, "parties", arm=arm)) for arm in METHODS}
    assert counts["collabedit"] == counts["global"] == 42
    assert counts["simple_average"] < 21


def test_bytes_are_saved_and_the_model_hardly_differs(finished_run: SharedRuns) -> None:
    plain = finished_run(repeating())
    spared = finished_run(repeating(overlap=LOOKS))
    sent = [sum(row["bytes_sent"] for row in rows(run, "rounds", arm="collabedit")) for run in (plain, spared)]
    assert sent[1] == pytest.approx(sent[0] * (112 - 42) / 112)
    for metric in ("efficacy", "retention"):
        last = [rows(run, "metrics", arm="collabedit", metric=metric, round=4) for run in (plain, spared)]
        assert np.mean([row["success"] for row in last[1]]) >= np.mean([row["success"] for row in last[0]]) - 3


def test_it_is_decided_before_anything_of_the_round_is_merged(finished_run: SharedRuns) -> None:
    """Layer by layer the residual of a fresh edit shrinks; yet it is sent to every layer, or to none."""
    run = finished_run(repeating(overlap=LOOKS, editor={"residual_schedule": "spread", "covariance_weight": 0.01}))
    fresh = rows(run, "parties", arm="collabedit", round=1)
    assert all(row["num_skipped"] == 0 for row in fresh)
    widths = 256 + 32
    assert {row["bytes_sent"] for row in fresh} == {3 * 8 * 4 * widths}


def test_where_nobody_looks_nothing_changes(finished_run: SharedRuns) -> None:
    """A threshold under which no residual lies gives the bits of a run in which nobody looks."""
    plain = finished_run(repeating())
    looked = finished_run(repeating(overlap={"skip_known": "residual", "threshold": 1e-12}))
    assert difference(plain.arm_states(), looked.arm_states()) == []


@pytest.mark.slow
def test_arms_of_one_run_look_or_do_not(finished_run: SharedRuns) -> None:
    """Each arm ends with the bits that it has in a run in which all arms do as it does."""
    methods = ["collabedit", {"name": "collabedit", "label": "sends-all", "skip_known": "none"}]
    common = [{key: each[key] for key in ("name", "label")} if isinstance(each, dict) else each for each in methods]
    mixed = finished_run(repeating(overlap=LOOKS, merge={"methods": methods}))
    looking = finished_run(repeating(overlap=LOOKS, merge={"methods": common}))
    plain = finished_run(repeating(merge={"methods": common}))
    for arm, other in (("collabedit", looking), ("sends-all", plain)):
        assert difference({arm: mixed.arm_states()[arm]}, {arm: other.arm_states()[arm]}) == []
        for table in ("parties", "residuals", "metrics"):
            assert rows(mixed, table, arm=arm) == rows(other, table, arm=arm), table
    assert {row["num_skipped"] for row in rows(mixed, "parties", arm="sends-all")} == {None}
    assert sum(row["num_skipped"] for row in rows(mixed, "parties", arm="collabedit")) == 42
