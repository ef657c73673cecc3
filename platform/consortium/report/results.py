"""What a run's tables come to: plain numbers that the page, the pictures and the terminal share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from consortium.evaluation import registry
from consortium.records.directory import RunDirectory
from consortium.records.rows import EventRow, MetricRow, RoundRow, headline
from consortium.report.overhead import RunTime, run_time
from consortium.scenario.schema import UNEDITED

TIMED_PHASES = ("targets", "collect", "merge", "evaluate")


@dataclass(frozen=True)
class Traffic:
    """Bytes that one party sent for one arm in one round: over all parties and rounds of the arm."""

    smallest: float
    median: float
    largest: float
    total: int


@dataclass(frozen=True)
class ArmResult:
    """One arm of a run."""

    arm: str
    method: str  # name of its merge method
    rounds: tuple[RoundRow, ...]  # committed, in order
    measures: Mapping[tuple[int, str], MetricRow]  # (round, metric) → the row that stands for it
    traffic: Traffic | None  # bytes per party and round; None before the first round

    @property
    def last(self) -> RoundRow | None:
        """The last committed round; None before the first."""
        return self.rounds[-1] if self.rounds else None

    @property
    def final(self) -> dict[str, MetricRow]:
        """Metric → its measure after the last round in which it was measured."""
        return {metric: row for (_, metric), row in sorted(self.measures.items())}

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """(round, value) of a metric over the rounds in which it was measured."""
        return [(round, row.value) for (round, each), row in sorted(self.measures.items()) if each == metric]

    def seconds(self, phase: str) -> float:
        """Work on a phase over all rounds, in seconds."""
        return float(sum(getattr(row, f"{phase}_s") for row in self.rounds))


@dataclass(frozen=True)
class Results:
    """A whole run."""

    arms: tuple[ArmResult, ...]  # in the scenario's order
    unedited: Mapping[str, MetricRow]  # metric → measure of the unedited model
    metrics: tuple[str, ...]  # those measured, in the order to show them; without those with a section of their own
    #: Arm → metric → (round of the edits, percent) after the last round, for earlier rounds' edits.
    earlier: Mapping[str, Mapping[str, list[tuple[int, float]]]]
    held: Mapping[str, Mapping[tuple[int, int], float]]  # arm → (after which round, of which) → percent that holds
    events: tuple[EventRow, ...]  # in the order of time
    time: RunTime | None  # what the workers' time went into; None before a round was committed
    edit_kinds: Mapping[int, Mapping[str, int]]  # round → kind of request → number of requests
    num_edits: int

    def arm_of(self, method: str) -> ArmResult | None:
        """The first arm that runs a merge method, or None."""
        return next((arm for arm in self.arms if arm.method == method), None)


def is_in_tables(column: str) -> bool:
    """Whether a metric's column has a place in a table of a terminal's width."""
    metric = registry.of_column(column)
    return not metric.has_section and column not in metric.details


def read_results(directory: RunDirectory) -> Results:
    """Read the committed tables of a run."""
    rounds = [RoundRow(**row) for row in directory.table("rounds").to_pylist()]
    measured = [MetricRow(**row) for row in directory.table("metrics").to_pylist()]
    metrics = [row for row in measured if row.success is not None]
    events = [EventRow(**row) for row in directory.table("events").to_pylist()]
    chosen = headline(metrics)
    traffic = _traffic(directory.table("parties", ["arm", "bytes_sent"]))
    arms = tuple(
        ArmResult(
            arm=method.arm,
            method=method.name,
            rounds=tuple(sorted((row for row in rounds if row.arm == method.arm), key=lambda row: row.round)),
            measures={(round, metric): row for (round, arm, metric), row in chosen.items() if arm == method.arm},
            traffic=traffic.get(method.arm),
        )
        for method in directory.scenario.merge.methods
    )
    kinds = _edit_kinds(directory.table("edits", ["kind"]))
    found = [name for name in {row.metric for row in metrics} if not registry.of_column(name).has_section]
    return Results(
        arms=arms,
        unedited={metric: row for (_, arm, metric), row in chosen.items() if arm == UNEDITED},
        metrics=tuple(registry.in_order(found)),
        earlier={arm.arm: _earlier(metrics, arm.arm) for arm in arms},
        held={arm.arm: _held(metrics, arm.arm) for arm in arms},
        events=tuple(sorted(events, key=lambda event: event.time_s)),
        # The run's clock stopped when the last commit had been written, if nothing went wrong after it.
        time=run_time(events, directory.worked_s if directory.manifest.status == "done" else None),
        edit_kinds=kinds,
        num_edits=sum(sum(counts.values()) for counts in kinds.values()),
    )


def _traffic(parties: pa.Table) -> dict[str, Traffic]:
    found = {}
    for arm in pc.unique(parties["arm"]).to_pylist():
        sent = parties.filter(pc.field("arm") == arm)["bytes_sent"].to_numpy()
        found[arm] = Traffic(float(sent.min()), float(np.median(sent)), float(sent.max()), int(sent.sum()))
    return found


def _edit_kinds(edits: pa.Table) -> dict[int, dict[str, int]]:
    counts = edits.group_by(["round", "kind"]).aggregate([("kind", "count")]).sort_by([("round", "ascending")])
    found: dict[int, dict[str, int]] = {}
    for row in counts.to_pylist():
        found.setdefault(row["round"], {})[row["kind"]] = row["kind_count"]
    return found


def _earlier(metrics: list[MetricRow], arm: str) -> dict[str, list[tuple[int, float]]]:
    """Metric → (round of the edits, percent) of the arm's last measured round, where several rounds were probed."""
    mine = [row for row in metrics if row.arm == arm and row.of_round is not None]
    last = max((row.round for row in mine), default=0)
    found: dict[str, list[tuple[int, float]]] = {}
    for row in sorted(mine, key=lambda row: row.of_round or 0):
        if row.round == last and row.of_round is not None:
            found.setdefault(row.metric, []).append((row.of_round, row.value))
    return {metric: points for metric, points in found.items() if len(points) > 1}


def _held(metrics: list[MetricRow], arm: str) -> dict[tuple[int, int], float]:
    """(After, of) → percent: retention of earlier rounds' edits, and the efficacy of the round's own."""
    found = {}
    for row in metrics:
        is_own = row.metric == "efficacy" and row.of_round == row.round
        if row.arm == arm and row.of_round is not None and (is_own or row.metric == "retention"):
            found[row.round, row.of_round] = row.value
    return dict(sorted(found.items()))
