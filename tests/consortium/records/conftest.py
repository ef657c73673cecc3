"""Rows and states that a small invented run would write."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from consortium.merging.arm_state import ArmState
from consortium.merging.history import GramHistory
from consortium.records.rows import (
    AnswerRow,
    AuditRow,
    EditRow,
    EventRow,
    MetricRow,
    NodeRow,
    ParticipationRow,
    PartyRow,
    ResidualRow,
    RoundRow,
    RoundRows,
    ScheduleRow,
)
from consortium.scenario.methods import GlobalSpec, TiesSpec
from consortium.scenario.schema import MergeSpec, PartiesSpec, Scenario, StreamSpec

ARMS = ("global", "ties-0.2")


@pytest.fixture
def scenario() -> Scenario:
    ties = TiesSpec(label="ties-0.2", density=0.2)
    return Scenario(
        name="pico",
        seed=7,
        description="ünïcode: 名",
        parties=PartiesSpec(count=2, edits_per_round=1),
        stream=StreamSpec(rounds=3),
        merge=MergeSpec(methods=(GlobalSpec(), ties)),
    )


@pytest.fixture
def states() -> Callable[[int], list[ArmState]]:
    return lambda round: [_state(arm, round) for arm in ARMS]


@pytest.fixture
def rows() -> Callable[[int], RoundRows]:
    return _rows


def _state(arm: str, round: int) -> ArmState:
    weight_VK = np.arange(6, dtype=np.float32).reshape(2, 3) + round + len(arm)
    columns = {10: np.full((3, 1), float(round)), 9: np.ones((3, 2))}
    history = {} if round == 0 else {5: GramHistory(arm, 8, np.eye(3) * round, dict(sorted(columns.items())))}
    return ArmState(arm, round, {5: weight_VK, 11: weight_VK + 0.5}, history)


def _rows(round: int) -> RoundRows:
    event = EventRow(10.0 * round, "commit", round, None, None, None, None, None, None, None)
    if round == 0:
        return RoundRows(metrics=[MetricRow(0, "unedited", "efficacy", None, 20.0, 1.5, 2, 2)], events=[event])
    return RoundRows(
        rounds=[RoundRow(round, arm, 2, 2, 1000 * round, 1.0, 2.0, 0.5, 3.0, 1e-9, 0.25, 0.01) for arm in ARMS],
        edits=[
            EditRow(round, p, 0, f"f{round}-{p}", "capital", "Ö", "{} is", "new", None if p else "old", "fresh")
            for p in range(2)
        ],
        parties=[PartyRow(round, arm, p, 0, 1, 500 * round) for arm in ARMS for p in range(2)],
        metrics=[
            MetricRow(round, arm, metric, round, 90.0 + round, None, 2, 4)
            for arm in ARMS
            for metric in ("efficacy", "paraphrase")
        ],
        nodes=[NodeRow(round, 10.0 * round, "0a1b", "worker", 2.0, 0.0, 1.0, 0.0, 0.5, 0.0, 1, 0, 1, round - 1)],
        answers=[
            AnswerRow(round, arm, 0, round, 0, "efficacy", 0, "A is", "B", 1.0, True, 0.1, 2.0, "B", is_finite=True)
            for arm in ARMS
        ],
        residuals=[ResidualRow(round, arm, 5, "repeat", round - 1, 2, 0.5 / round, round - 1) for arm in ARMS],
        audit=[AuditRow(round, arm, 5, 0, "merge", 2, 2, "0f" * 16, "worker-1", 2, 0) for arm in ARMS],
        events=[event],
        schedule=[ScheduleRow(round, 5.0 * round, 5.0 * round + 5, 2, 2, 2, 1, 1, 2, 0, 0.0, 0, 0, 1)],
        participation=[ParticipationRow(round, p, None if p else "phone", 1, 2.5 * p, "merged") for p in range(2)],
    )
