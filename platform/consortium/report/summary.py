"""A run's results as one JSON-able object, and as the table of the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from consortium.evaluation import registry
from consortium.records.directory import RunDirectory
from consortium.records.rows import MetricRow
from consortium.report.intervals import Interval, half_width, intervals
from consortium.report.no_edits import arms_without_edits
from consortium.report.not_finite import left_out
from consortium.report.overhead import RunTime
from consortium.report.results import TIMED_PHASES, ArmResult, is_in_tables, read_results
from consortium.report.words import distance, measured, metric_meaning, metric_name
from consortium.scenario.schema import UNEDITED

QUESTIONS, WITHIN = "questions", "+/- at most"
"""Names of a table's last two rows."""
_DISTANCE_MEANING = "How far the weights are from those of global edit, relative to their length; 0 is the same model."


@dataclass(frozen=True)
class ResultTable:
    """Text of a table: headings, one row for each arm and for the unedited model, and what the columns mean.

    The first column, which names the row, has no meaning.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    meanings: tuple[str, ...]


def summary(directory: RunDirectory) -> dict[str, Any]:
    """What came out of a run, for ``--format json``.

    Keys: status, name, seed, out, report (None until written), error, rounds (committed), num_rounds, num_parties,
    num_edits, wall_s (seconds of work, pauses left out), time (what the workers' seconds went into, as the report says:
    arithmetic, solving, waiting, calls, records, overhead_share, wall_s, startup_s; None before any work),
    virtual_s (virtual seconds of all committed rounds; None without virtual time),
    unedited (metric → measure) and arms: for each arm its method, metrics (metric → measure), weights_distance,
    update_distance, update_norm, bytes_sent (all parties and rounds), bytes_per_party (least, median, most of one party
    in one round) and seconds (phase → work). A measure is {success, strict} in percent, after_round, num_edits,
    num_probes and unit, which is null but for metrics with a unit of their own; then it is that of success;
    num_not_finite (probes besides, left out) and interval (both ends of the 95 % interval of success, in percent; None
    where there is none). not_finite lists what was left out since its numbers are not finite: arm, what (a metric, or
    edits), number, total. without_edits lists the arms in which no edit was merged.
    """
    results = read_results(directory)
    report = directory.report_path
    return {
        "status": directory.status,
        "name": directory.scenario.name,
        "seed": directory.scenario.seed,
        "out": str(directory.path),
        "report": str(report) if report.exists() else None,
        "error": directory.manifest.error,
        "rounds": directory.committed_round or 0,
        "num_rounds": directory.scenario.stream.rounds,
        "num_parties": directory.scenario.parties.count,
        "num_edits": results.num_edits,
        "wall_s": round(directory.worked_s, 3),
        "time": _time(results.time) if results.time else None,
        "virtual_s": max(directory.table("schedule")["end_s"].to_pylist(), default=None),
        "without_edits": arms_without_edits(directory),
        "not_finite": [asdict(each) for each in left_out(directory)],
        UNEDITED: _measures(results.unedited),
        "arms": {arm.arm: _arm(arm) for arm in results.arms},
    }


def result_table(found: dict[str, Any]) -> ResultTable:
    """A summary as the papers' table: a method a row, score first; metrics in percent but for those with a unit.

    Left out are parts of other metrics, and metrics with a section of their own in the report.
    """
    arms: dict[str, dict[str, Any]] = found["arms"]
    measures = [*(arm["metrics"] for arm in arms.values()), found[UNEDITED]]
    metrics = registry.in_order({name for each in measures for name in each if is_in_tables(name)})
    shown = [(name, arm["metrics"], _distance(arm)) for name, arm in arms.items()]
    shown += [(UNEDITED, found[UNEDITED], "–")] if found[UNEDITED] else []
    rows = [(name, *(_shown(of_row.get(each)) for each in metrics), away) for name, of_row, away in shown]
    if rows:
        by_metric = [[each[metric] for each in measures if metric in each] for metric in metrics]
        rows += [(QUESTIONS, *map(_num_questions, by_metric), "–"), (WITHIN, *map(_within, by_metric), "–")]
    columns = ("method", *map(metric_name, metrics), "distance from global")
    meanings = (*map(metric_meaning, metrics), _DISTANCE_MEANING)
    has_distance = any(arm["weights_distance"] is not None for arm in arms.values())
    end = None if has_distance else -1
    return ResultTable(columns[:end], tuple(row[:end] for row in rows), meanings[:end])


def _num_questions(measures: Sequence[dict[str, Any]]) -> str:
    """How many questions a column's numbers were measured on; where arms have more or fewer, from … to."""
    counts = {each["num_probes"] for each in measures}
    return "–".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))


def _within(measures: Sequence[dict[str, Any]]) -> str:
    """From a column's numbers to the farthest end of their intervals."""
    widths = [half_width(each["success"], each["interval"]) for each in measures if each["interval"] is not None]
    return f"{max(widths):.1f}" if widths else "–"


def _arm(arm: ArmResult) -> dict[str, Any]:
    last, traffic = arm.last, arm.traffic
    return {
        "method": arm.method,
        "metrics": _measures(arm.final),
        "weights_distance": last.weights_distance if last else None,
        "update_distance": last.update_distance if last else None,
        "update_norm": last.update_norm if last else None,
        "bytes_sent": sum(row.bytes_sent for row in arm.rounds),
        "bytes_per_party": (
            {"least": traffic.smallest, "median": traffic.median, "most": traffic.largest} if traffic else None
        ),
        "seconds": {phase: arm.seconds(phase) for phase in TIMED_PHASES},
    }


def _time(time: RunTime) -> dict[str, float]:
    seconds = {name: round(value, 3) for name, value in asdict(time.spent).items()}
    return seconds | {
        "overhead_share": round(time.spent.overhead_share, 4),
        "wall_s": round(time.wall_s, 3),
        "startup_s": round(time.startup_s, 3),
    }


def _measures(rows: Mapping[str, MetricRow]) -> dict[str, dict[str, Any]]:
    found = intervals(rows)
    return {metric: _measure(row, found.get(metric)) for metric, row in rows.items()}


def _measure(row: MetricRow, interval: Interval | None) -> dict[str, Any]:
    return {
        "success": row.success,
        "strict": row.strict,
        "after_round": row.round,
        "num_edits": row.num_edits,
        "num_probes": row.num_probes,
        "unit": row.unit,
        "num_not_finite": row.num_not_finite or 0,
        "interval": None if interval is None else [round(end, 2) for end in interval],
    }


def _shown(measure: dict[str, Any] | None) -> str:
    return "–" if measure is None else measured(measure["success"], measure["unit"])


def _distance(arm: dict[str, Any]) -> str:
    return "reference" if arm["method"] == "global" else distance(arm["weights_distance"])
