"""Invented runs with plausible numbers, of any size and state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consortium.common.seeds import numpy_generator
from consortium.merging.arm_state import ArmState
from consortium.records.directory import RunDirectory
from consortium.records.rows import EditRow, EventRow, MetricRow, PartyRow, RoundRow, RoundRows
from consortium.report.page import build_report
from consortium.scenario.schema import UNEDITED, Scenario

STANDING = {"global": 100.0, "collabedit": 99.0, "task_arithmetic": 70.0, "simple_average": 36.0, "ties": 55.0}
KINDS = ("fresh", "fresh", "fresh", "overlap", "conflict-party", "repeat")


@pytest.fixture
def invent(tmp_path: Path) -> Callable[..., RunDirectory]:
    return lambda **options: invent_run(tmp_path / f"run-{len(list(tmp_path.iterdir()))}", **options)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of three rounds, five arms, a lost worker and a resume, with its report; tests only read it."""
    run = invent_run(tmp_path_factory.mktemp("finished") / "run", rounds=3)
    build_report(run)
    run.mark_done()
    return run


def invent_run(
    path: Path, *, rounds: int = 3, done: int | None = None, parties: int = 4, **changes: Any
) -> RunDirectory:
    """A run with ``done`` of its rounds committed; ``changes`` are further parts of the scenario."""
    methods = changes.pop("methods", list(STANDING))
    scenario = Scenario.model_validate(
        {
            "name": "invented",
            "seed": 7,
            "parties": {"count": parties, "edits_per_round": 2},
            "stream": {"rounds": rounds},
            "merge": {"methods": tuple(methods)},
            **changes,
        }
    )
    run = RunDirectory.create(path, scenario)
    for round in range((rounds if done is None else done) + 1):
        run.commit(round, _states(scenario, round), _rows(scenario, round))
    return run


def _arms(scenario: Scenario) -> list[str]:
    return [method.arm for method in scenario.merge.methods]


def _states(scenario: Scenario, round: int) -> list[ArmState]:
    weights = {layer: np.zeros((4, 6), np.float32) for layer in scenario.editor.edited_layers}
    return [ArmState(arm, round, weights, {}) for arm in _arms(scenario)]


def _rows(scenario: Scenario, round: int) -> RoundRows:
    if round == 0:
        measures = _measures(scenario, 0, UNEDITED, 22.0)
        return RoundRows(metrics=measures, events=[_event(9.0, "covariance", 0, worker="worker-0", seconds=6.0)])
    arms = _arms(scenario)
    return RoundRows(
        rounds=[_round(scenario, round, arm) for arm in arms],
        edits=[_edit(round, p, i) for p in range(scenario.parties.count) for i in range(2)],
        parties=[_party(scenario, round, arm, p) for arm in arms for p in range(scenario.parties.count)],
        metrics=[row for arm in arms for row in _measures(scenario, round, arm, STANDING.get(arm, 60.0))],
        events=_events(arms, round),
    )


def _measures(scenario: Scenario, round: int, arm: str, efficacy: float) -> list[MetricRow]:
    noise = numpy_generator(1, "invented", round, arm).normal(0, 1.5, 8)
    names = ("efficacy", "paraphrase", "neighborhood", "score")
    values = [efficacy - 2 * round, efficacy - 5 - 2 * round, 78 - efficacy / 12 - round, 0.8 * efficacy - 2 * round]
    rows = [
        MetricRow(round, arm, name, round, float(np.clip(value + bump, 0, 100)), float(max(value - 9, 0)), 24, 48)
        for name, value, bump in zip(names, values, noise, strict=False)
    ]
    for earlier in range(1, round):
        held = float(np.clip(efficacy - 9 * (round - earlier) + noise[earlier % 8], 0, 100))
        rows.append(MetricRow(round, arm, "retention", earlier, held, None, 24, 24))
    return rows


def _round(scenario: Scenario, round: int, arm: str) -> RoundRow:
    has_global = "global" in [method.name for method in scenario.merge.methods]
    away = {"global": 0.0, "collabedit": 3.1e-8 * round}.get(arm, 0.004 * (1 + len(arm) / 20))
    share = {"global": 0.0, "collabedit": 2.4e-6 * round}.get(arm, 0.3 + len(arm) / 30)
    distances = (away, share) if has_global else (None, None)
    count = scenario.parties.count
    return RoundRow(round, arm, count, 2 * count, 400_000 * count, 42.0 + round, 11.5, 2.25, 9.0, *distances, 0.01)


def _party(scenario: Scenario, round: int, arm: str, party: int) -> PartyRow:
    sent = 17_000_000 if arm == "ties" else 30_000 * (1 + party % 5)
    return PartyRow(round, arm, party, party // scenario.cluster.parties_per_batch, 2, sent)


def _edit(round: int, party: int, index: int) -> EditRow:
    subject, old, new = "The Eiffel Tower", "Paris", "Rome & <Milan>"
    kind = KINDS[(party + index + round) % len(KINDS)]
    return EditRow(round, party, index, f"f{round}-{party}-{index}", "city", subject, "{} is in", new, old, kind)


def _event(time_s: float, kind: str, round: int, **more: Any) -> EventRow:
    empty = dict.fromkeys(("arm", "layer", "party_batch", "worker", "seconds", "bytes", "detail"))
    return EventRow(time_s=time_s, kind=kind, round=round, **(empty | more))


def _events(arms: list[str], round: int) -> list[EventRow]:
    clock, found = 60.0 * round - 48, []
    for kind, seconds in (("targets", 18.0), ("collect", 3.0), ("merge", 1.0), ("evaluate", 4.0)):
        for arm in arms if kind != "targets" else arms[:1]:
            workers = [None] if kind == "merge" else ["worker-0", "worker-1", "worker-10"]
            clock += seconds
            found += [_event(clock, kind, round, arm=arm, worker=worker, seconds=seconds * 0.94) for worker in workers]
    if round == 2:
        found.append(
            _event(clock - 6, "worker-lost", 2, worker="worker-1", detail="killed on purpose <by the scenario>")
        )
        found.append(_event(clock - 5, "resumed", 2))
    return [*found, _event(clock + 0.5, "commit", round)]
