"""TensorBoard scalars: one folder per arm, one event file per round, so that a round can be removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from consortium.records import entries
from consortium.records.rows import MetricRow, RoundRow, RoundRows, ScheduleRow, headline

TENSORBOARD_FOLDER = "tensorboard"


def scalars(rows: RoundRows) -> dict[str, dict[str, float]]:
    """Arm → tag → value of one round's rows; values that are null are left out."""
    found: dict[str, dict[str, float | None]] = {}
    for row in rows.rounds:
        found.setdefault(row.arm, {}).update(_of_round(row) | _of_virtual_time(rows))
    for (_, arm, metric), measured in headline(rows.metrics).items():
        values = found.setdefault(arm, {})
        values[f"metrics/{metric}"] = measured.success
        values[f"strict/{metric}"] = measured.strict
    for each in rows.metrics:
        if _is_of_earlier(each):
            found[each.arm][f"{each.metric}/of_round_{each.of_round:04d}"] = each.success
    return {arm: {tag: v for tag, v in values.items() if v is not None} for arm, values in found.items()}


def write_scalars(folder: Path, rows: RoundRows, round: int) -> None:
    """Write a round's scalars of every arm."""
    now = time.time()
    # TensorBoard reads files in the order of their names and throws away what seems to go back in steps.
    name = f"events.out.tfevents.{int(now):010}{_suffix(round)}"
    for arm, values in scalars(rows).items():
        with (
            entries.replacing_entry(folder, f"{TENSORBOARD_FOLDER}/{arm}/{name}") as temporary,
            temporary.open("wb") as file,
        ):
            for record in _records(values, round, now):
                file.write(record)


def _records(values: Mapping[str, float], round: int, now: float) -> Iterator[bytes]:
    """A round's scalars as the records of an event file.

    They are written here rather than by TensorBoard's writer, which opens files by itself, and from a thread in which
    a full disk would be nobody's error.
    """
    # Slow to import, and readers of a run do without them.
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
    from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

    events = [Event(wall_time=now, file_version="brain.Event:2")]
    # A TensorBoard that is already open forgets what an interrupted commit showed it from this step on.
    events.append(Event(wall_time=now, step=round, session_log=SessionLog(status=SessionLog.START)))
    for tag, value in sorted(values.items()):
        scalar = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        events.append(Event(wall_time=now, step=round, summary=scalar))
    for event in events:
        buffer = BytesIO()
        RecordWriter(buffer).write(event.SerializeToString())
        yield buffer.getvalue()


def files_of(folder: Path, round: int) -> list[str]:
    """The event files of a round, all arms', relative to the run directory."""
    return [path for path in _event_files(folder) if round_of(path) == round]


def round_of(path: str) -> int | None:
    """The round that an event file is of, by its path relative to the run directory; None for another file."""
    last = path.rpartition(".round-")[2]
    return int(last) if path.startswith(f"{TENSORBOARD_FOLDER}/") and last.isdigit() else None


def until(files: Mapping[str, str], round: int | None) -> dict[str, str]:
    """Those of some files that are no event files, or of rounds up to ``round``; None comes before all."""
    last = -1 if round is None else round
    return {path: digest for path, digest in files.items() if (round_of(path) or 0) <= last or round_of(path) is None}


def source(round: int, table: Callable[[str], pa.Table]) -> RoundRows:
    """What a round's scalars are made of, from the tables."""

    def of_round(name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = table(name).filter(pc.field("round") == round).to_pylist()
        return found

    return RoundRows(
        rounds=[RoundRow(**row) for row in of_round("rounds")],
        metrics=[MetricRow(**row) for row in of_round("metrics")],
        schedule=[ScheduleRow(**row) for row in of_round("schedule")],
    )


def drop_from(folder: Path, round: int) -> None:
    """Remove the event files of ``round`` and later."""
    for path in _event_files(folder):
        if (round_of(path) or 0) >= round:
            entries.remove_entry(folder, path)


def _event_files(folder: Path) -> list[str]:
    """The event files of all rounds and arms, relative to the run directory."""
    found = []
    for arm in entries.names(folder, TENSORBOARD_FOLDER):
        if entries.is_entry_folder(folder, f"{TENSORBOARD_FOLDER}/{arm}"):
            names = entries.names(folder, f"{TENSORBOARD_FOLDER}/{arm}")
            paths = [f"{TENSORBOARD_FOLDER}/{arm}/{name}" for name in names if "tfevents" in name]
            found += [path for path in paths if round_of(path) is not None]
    return found


def _suffix(round: int) -> str:
    return f".round-{round:04d}"


def _is_of_earlier(row: MetricRow) -> bool:
    return row.of_round is not None and row.of_round != row.round


def _of_round(row: RoundRow) -> dict[str, float | None]:
    return {
        "edits/num_edits": row.num_edits,
        "traffic/bytes_sent": row.bytes_sent,
        "time/targets_s": row.targets_s,
        "time/collect_s": row.collect_s,
        "time/merge_s": row.merge_s,
        "time/evaluate_s": row.evaluate_s,
        "merge/weights_distance": row.weights_distance,
        "merge/update_distance": row.update_distance,
        "merge/update_norm": row.update_norm,
    }


def _of_virtual_time(rows: RoundRows) -> dict[str, float | None]:
    """The same in every arm; nothing without virtual time."""
    found: dict[str, float | None] = {}
    for row in rows.schedule:
        found = {
            "virtual_time/end_s": row.end_s,
            "virtual_time/in_time": row.num_in_time,
            "virtual_time/late": row.num_late,
            "virtual_time/age_rounds": row.age_rounds,
            "virtual_time/waiting": row.num_waiting,
        }
    return found
