"""TensorBoard scalars: one folder per lane, one event file per round, so that a round can be taken back."""

from __future__ import annotations

from pathlib import Path

from consortium.records.rows import MetricRow, RoundRow, Rows, headline

FOLDER = "tensorboard"


def scalars(rows: Rows) -> dict[str, dict[str, float]]:
    """Lane → tag → value of one round's rows; values that are null are left out."""
    found: dict[str, dict[str, float | None]] = {}
    for row in rows.rounds:
        found.setdefault(row.lane, {}).update(_of_round(row) | _of_virtual_time(rows))
    for (_, lane, metric), measured in headline(rows.metrics).items():
        values = found.setdefault(lane, {})
        values[f"metrics/{metric}"] = measured.success
        values[f"strict/{metric}"] = measured.strict
    for each in rows.metrics:
        if _is_of_earlier(each):
            found[each.lane][f"{each.metric}/of_round_{each.of_round:04d}"] = each.success
    return {lane: {tag: v for tag, v in values.items() if v is not None} for lane, values in found.items()}


def write(folder: Path, rows: Rows, round: int) -> None:
    """Write a round's scalars of every lane."""
    from torch.utils.tensorboard import SummaryWriter  # slow to import, and readers of a run do not need it

    for lane, values in scalars(rows).items():
        log_dir = str(folder / FOLDER / lane)
        # purge_step tells a TensorBoard that is already open to forget what an interrupted commit showed it.
        writer = SummaryWriter(log_dir, purge_step=round, filename_suffix=_suffix(round))
        try:
            for tag, value in sorted(values.items()):
                writer.add_scalar(tag, value, round)
        finally:
            writer.close()
        _name_by_round(Path(log_dir), round)


def drop_from(folder: Path, round: int) -> None:
    """Remove the event files of ``round`` and later."""
    for path in (folder / FOLDER).glob("*/*tfevents*.round-*"):
        if int(path.name.rpartition("-")[2]) >= round:
            path.unlink()


def _name_by_round(log_dir: Path, round: int) -> None:
    """Name a round's file after its second and its round.

    TensorBoard reads files in the order of their names and throws away what seems to go back in steps. The writer's
    own names end in a counter without leading zeros: of two rounds in one second, the tenth file came before the ninth.
    """
    for path in log_dir.glob(f"*{_suffix(round)}"):
        seconds = path.name.removeprefix("events.out.tfevents.").partition(".")[0]
        path.rename(path.with_name(f"events.out.tfevents.{seconds}{_suffix(round)}"))


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


def _of_virtual_time(rows: Rows) -> dict[str, float | None]:
    """The same in every lane; nothing without virtual time."""
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
