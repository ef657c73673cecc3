"""Rows of a run's tables. The types here are the tables' schema: columns, units and meaning.

A column's Parquet type follows from its annotation (int → int64, float → float64, str → string; ``| None`` → may be
null). Its unit and meaning travel in the Parquet file as field metadata. ``docs/run-directory.md`` lists the same
columns, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import pyarrow as pa  # type: ignore[import-untyped]

#: Rows that are turned into columns at once.
_BATCH_ROWS = 8192

"""Arm of the unedited model's metrics, at round 0."""


def _column(meaning: str, unit: str = "") -> dict[str, str]:
    return {"unit": unit, "meaning": meaning}


@dataclass(frozen=True)
class RoundRow:
    """What one arm did in one round; seconds are work, summed over party batches and the coordinator."""

    round: int = field(metadata=_column("round number, from 1"))
    arm: str = field(metadata=_column("arm"))
    num_parties: int = field(metadata=_column("parties whose edits were merged", "parties"))
    num_edits: int = field(metadata=_column("edits merged", "edits"))
    bytes_sent: int = field(metadata=_column("what all parties sent for the merge", "bytes"))
    targets_s: float = field(metadata=_column("work on targets", "s"))
    collect_s: float = field(metadata=_column("work on keys, residuals and statistics", "s"))
    merge_s: float = field(metadata=_column("work on the merge", "s"))
    evaluate_s: float = field(metadata=_column("work on the evaluation", "s"))
    weights_distance: float | None = field(
        metadata=_column("‖W_arm − W_global‖F / ‖W_global‖F over all edited layers; null without a global arm", "1")
    )
    update_distance: float | None = field(
        metadata=_column(
            "‖ΔW_arm − ΔW_global‖F / ‖ΔW_global‖F, ΔW against the unedited weights; null without a global arm", "1"
        )
    )
    update_norm: float = field(metadata=_column("‖ΔW‖F / ‖W₀‖F, ΔW against the unedited weights W₀", "1"))
    num_shared_keys: int | None = field(
        default=None,
        metadata=_column("edits whose keys others have too, from the sums; null if the sums do not tell", "edits"),
    )
    unresolvable_share: float | None = field(
        default=None,
        metadata=_column(
            "share of what was asked for that no update can give, from the sums; null if the sums do not tell", "1"
        ),
    )
    num_removed: int = field(default=0, metadata=_column("edits of earlier rounds that were removed", "edits"))
    num_parties_rejected: int = field(
        default=0, metadata=_column("parties that were rejected or still excluded", "parties")
    )
    max_norm_ratio: float | None = field(
        default=None,
        metadata=_column("largest norm of an accepted message, as a multiple of the typical norm", "1"),
    )


@dataclass(frozen=True)
class EditRow:
    """One request of one party."""

    round: int = field(metadata=_column("round number, from 1"))
    party: int = field(metadata=_column("party number, from 0"))
    index: int = field(metadata=_column("index among the party's requests of the round, from 0"))
    fact_id: str = field(metadata=_column("the fact's name in its source"))
    relation: str = field(metadata=_column("relation of the fact"))
    subject: str = field(metadata=_column("subject"))
    prompt: str = field(metadata=_column("prompt with {} for the subject"))
    target_new: str = field(metadata=_column("what the model should say"))
    target_old: str | None = field(metadata=_column("what it said before; null if the source has none"))
    kind: str = field(metadata=_column("fresh, overlap, conflict-party, conflict-round or repeat"))
    removed: int | None = field(
        default=None,
        metadata=_column("round at whose start it is removed, as the scenario says; null: never"),
    )
    status: str | None = field(
        default=None,
        metadata=_column(
            "unique, duplicate (others ask for the same), conflicting (others want another answer), accepted or "
            "rejected; null if nothing is resolved"
        ),
    )
    num_asking: int | None = field(
        default=None,
        metadata=_column(
            "requests of the round for the same answer, this one included; null if nothing is resolved", "edits"
        ),
    )
    weight: float | None = field(
        default=None,
        metadata=_column("weight of the edit in the merge, 0 if rejected; null if nothing is resolved", "1"),
    )
    num_paraphrases: int | None = field(
        default=None,
        metadata=_column("paraphrases merged beside it; null if nothing is resolved", "edits"),
    )
    asked_in: int | None = field(
        default=None,
        metadata=_column("round in which the party asked for it, at most `round`; null without virtual time"),
    )


@dataclass(frozen=True)
class PartyRow:
    """What one party gave to one arm in one round, in which it asked for edits or took some back."""

    round: int = field(metadata=_column("round number, from 1"))
    arm: str = field(metadata=_column("arm"))
    party: int = field(metadata=_column("party number, from 0"))
    party_batch: int = field(metadata=_column("party batch that the party belongs to, from 0"))
    num_edits: int = field(metadata=_column("edits of the party; 0 if it was rejected", "edits"))
    bytes_sent: int = field(metadata=_column("what the party sent for the merge", "bytes"))
    num_skipped: int | None = field(
        default=None,
        metadata=_column(
            "edits it skipped because the model knows them or something else; null if nobody checked", "edits"
        ),
    )
    num_removed: int = field(default=0, metadata=_column("edits of earlier rounds that it removed", "edits"))
    rejected: str | None = field(
        default=None,
        metadata=_column(
            "why its message was rejected, or excluded if that was in an earlier round; null: it was accepted"
        ),
    )
    num_not_finite: int | None = field(
        default=0,
        metadata=_column(
            "edits it left out: their targets, keys or residuals are not finite; null if nobody counted", "edits"
        ),
    )


@dataclass(frozen=True)
class MetricRow:
    """One measure of one arm after one round."""

    round: int = field(metadata=_column("round after which was measured"))
    arm: str = field(metadata=_column("arm; `unedited` for the unedited model on the same edits"))
    metric: str = field(
        metadata=_column(
            "metric, followed by what it was asked of or how, such as `_with_start`, if it has several columns"
        )
    )
    of_round: int | None = field(
        metadata=_column(
            "round whose edits were probed (of removed: in which they were removed); null: of several together, "
            "or of none"
        )
    )
    success: float | None = field(
        metadata=_column(
            "share of success; of a metric with a unit of its own, its value; null if no answer is finite", "percent"
        )
    )
    strict: float | None = field(
        metadata=_column("share in which every target token is the arg-max; null if not defined", "percent")
    )
    num_edits: int = field(metadata=_column("edits probed", "edits"))
    num_probes: int = field(
        metadata=_column("probes or questions whose answers count; tokens read for perplexity", "probes")
    )
    unit: str | None = field(
        default=None,
        metadata=_column(
            "unit of `success` if it is not percent: `1` for perplexity, `0.01 bit` for fluency; null for percent"
        ),
    )
    num_not_finite: int | None = field(
        default=0,
        metadata=_column(
            "further probes, questions or tokens, left out: their answers are not finite; null if nobody counted",
            "probes",
        ),
    )

    @property
    def value(self) -> float:
        """``success`` of a row that has any."""
        assert self.success is not None, "of a row without any finite answer nothing is shown"
        return self.success


@dataclass(frozen=True)
class AnswerRow:
    """What one probe of one edit was answered with; only with ``evaluate.per_edit``."""

    round: int = field(metadata=_column("round after which was measured"))
    arm: str = field(metadata=_column("arm; `unedited` for the unedited model"))
    party: int = field(metadata=_column("party that asked for the edit"))
    edit_round: int = field(metadata=_column("round in which the party asked for it"))
    index: int = field(metadata=_column("index among the party's requests of that round, as in the table of edits"))
    metric: str = field(metadata=_column("metric that the probe is for"))
    probe: int = field(metadata=_column("number of the probe among the edit's for the metric, from 0"))
    prompt: str = field(metadata=_column("what the model was given"))
    target: str = field(
        metadata=_column("answer that counts as right; for locality, what the unedited model says in as many tokens")
    )
    success: float | None = field(
        metadata=_column("1 or 0, for KnowEdit's metrics the share of right tokens; null if it is not finite", "1")
    )
    strict: bool | None = field(metadata=_column("every token of the target is the arg-max; null if it is not finite"))
    nll_target: float | None = field(
        metadata=_column("mean negative log likelihood of a token of the target; null if not measured", "nat")
    )
    nll_rival: float | None = field(metadata=_column("the same for the competing answer; null if there is none", "nat"))
    answer: str | None = field(
        metadata=_column(
            "what the model generates, 8 tokens; for KnowEdit's metrics, what was compared; null if it cannot"
            ", and after a document token"
        )
    )
    is_finite: bool = field(metadata=_column("whether the answer is finite and counts"))


@dataclass(frozen=True)
class ResidualRow:
    """What one arm's model was still wanting of a round's edits, when their targets were optimised."""

    round: int = field(metadata=_column("round number, from 1"))
    arm: str = field(metadata=_column("arm"))
    layer: int = field(metadata=_column("layer at which the targets are"))
    kind: str = field(metadata=_column("kind of the requests"))
    asked_before: int = field(metadata=_column("earlier rounds in which the same party asked for the same", "rounds"))
    num_edits: int = field(metadata=_column("such edits", "edits"))
    residual: float | None = field(
        metadata=_column("mean of ‖z − h‖ / ‖h‖, h the hidden state and z the target; null for no edit", "1")
    )
    num_known: int = field(metadata=_column("of them known already, by overlap.threshold, and skipped", "edits"))
    num_contradicting: int | None = field(
        default=None,
        metadata=_column("of them really contradicting an earlier round; null if nobody checked", "edits"),
    )
    num_detected: int | None = field(
        default=None,
        metadata=_column("of them detected by their party (conflicts.detect); null if nobody checked", "edits"),
    )
    num_correctly_detected: int | None = field(
        default=None, metadata=_column("of them both; null if nobody checked", "edits")
    )
    num_not_finite: int | None = field(
        default=0,
        metadata=_column(
            "further such edits, left out because their targets are not finite; null if nobody counted",
            "edits",
        ),
    )


@dataclass(frozen=True)
class AuditRow:
    """One party batch's edits in one merge."""

    round: int = field(metadata=_column("round number, from 1"))
    arm: str = field(metadata=_column("arm"))
    layer: int = field(metadata=_column("layer that was merged"))
    party_batch: int = field(metadata=_column("party batch, from 0"))
    kind: str = field(metadata=_column("merge; or unlearn, for edits of earlier rounds that were removed before it"))
    num_edits: int = field(metadata=_column("accepted edits that the party batch's answer covers", "edits"))
    num_summed: int = field(
        metadata=_column(
            "of them and their paraphrases, those in the sum; the rest was known already or not finite",
            "edits",
        )
    )
    digest: str = field(metadata=_column("of the accepted edits' positions and weights, as the worker computed it"))
    worker: str | None = field(metadata=_column("worker whose answer was merged; null in a serial run"))
    num_attempts: int = field(metadata=_column("how often workers were asked until an answer came", "calls"))
    num_dropped: int = field(metadata=_column("answers that arrived twice or too late, and were dropped", "answers"))


@dataclass(frozen=True)
class EventRow:
    """Something that happened; an event that took time is recorded when it ends."""

    time_s: float = field(metadata=_column("when it was recorded (its end), since the run's start", "s"))
    kind: str = field(
        metadata=_column(
            "open-model, key covariance, contexts, announce, targets, collect, unlearn, add, merge, evaluate, "
            "commit, records, "
            "worker-started, "
            "worker-lost, worker-stopped, taken-over, refused, resumed …"
        )
    )
    round: int = field(metadata=_column("round in whose commit it was written; 0 is before the first"))
    arm: str | None = field(metadata=_column("arm; null if it concerns none in particular"))
    layer: int | None = field(metadata=_column("layer; null if it concerns none in particular"))
    party_batch: int | None = field(metadata=_column("party batch; null if it concerns none in particular"))
    worker: str | None = field(metadata=_column("worker that did it or that was affected; null for the coordinator"))
    seconds: float | None = field(metadata=_column("how long it took; null for a moment", "s"))
    bytes: int | None = field(metadata=_column("bytes that it produced; null if none", "bytes"))
    detail: str | None = field(metadata=_column("details in words"))
    round_trip_s: float | None = field(
        default=None,
        metadata=_column("from handing the call to the worker until its answer was taken; null without a worker", "s"),
    )


@dataclass(frozen=True)
class ScheduleRow:
    """One round in virtual time; the same for all arms. Only of runs that have a virtual time."""

    round: int = field(metadata=_column("round number, from 1"))
    start_s: float = field(metadata=_column("when it begins, in virtual time from the run's beginning", "s"))
    end_s: float = field(metadata=_column("when it ends", "s"))
    num_available: int = field(metadata=_column("parties that are available when it begins", "parties"))
    num_wanted: int = field(metadata=_column("answers that it wants", "parties"))
    num_asked: int = field(metadata=_column("parties that are asked", "parties"))
    num_in_time: int = field(
        metadata=_column("of them those that answer before quorum or deadline close it", "parties")
    )
    num_late: int = field(metadata=_column("of them the others", "parties"))
    num_edits: int = field(metadata=_column("edits that come into the round, before any is rejected", "edits"))
    num_carried: int = field(metadata=_column("of them those asked for in an earlier round", "edits"))
    age_rounds: float | None = field(
        metadata=_column("mean number of rounds from asking to merging; null if nothing is merged", "rounds")
    )
    most_age_rounds: int | None = field(metadata=_column("the largest of these; null if nothing is merged", "rounds"))
    num_lost: int = field(metadata=_column("edits that are lost in this round", "edits"))
    num_waiting: int = field(
        metadata=_column("edits asked for up to this round that wait for a later one after it", "edits")
    )


@dataclass(frozen=True)
class ParticipationRow:
    """One party that is asked in one round of virtual time; the same for all arms."""

    round: int = field(metadata=_column("round number, from 1"))
    party: int = field(metadata=_column("party number, from 0"))
    device: str | None = field(metadata=_column("class of the party's device; null for none"))
    num_edits: int = field(metadata=_column("edits in its answer", "edits"))
    answer_s: float = field(metadata=_column("from the round's beginning to its answer, in virtual time", "s"))
    outcome: str = field(metadata=_column("merged in time; or late and waited for, carried or dropped"))


@dataclass(frozen=True)
class NodeRow:
    """One node of the cluster at one moment; all rows of a moment have the same ``time_s``. Serial runs have none."""

    round: int = field(metadata=_column("round in whose commit it was written; 0 is before the first"))
    time_s: float = field(metadata=_column("the moment, since the run's start", "s"))
    node: str = field(metadata=_column("start of its id in the cluster"))
    type: str = field(metadata=_column("type of the node; empty if the cluster has none"))
    cpus: float = field(metadata=_column("CPUs it says it has", "CPUs"))
    gpus: float = field(metadata=_column("GPUs it says it has", "GPUs"))
    cpus_reserved: float = field(metadata=_column("CPUs of it that this run's workers or others reserve", "CPUs"))
    gpus_reserved: float = field(metadata=_column("GPUs of it that this run's workers or others reserve", "GPUs"))
    cpus_busy: float = field(metadata=_column("CPUs reserved by workers that have a call", "CPUs"))
    gpus_busy: float = field(metadata=_column("GPUs reserved by workers that have a call", "GPUs"))
    workers: int = field(metadata=_column("workers on it that are ready or busy", "workers"))
    workers_starting: int = field(metadata=_column("workers on it that are starting", "workers"))
    workers_wanted: int = field(
        metadata=_column("workers that had work and were within the scenario's bounds, on all nodes", "workers")
    )
    workers_stopped: int = field(
        metadata=_column("workers stopped so far because they had no work, on all nodes", "workers")
    )


TableRow = (
    RoundRow
    | EditRow
    | PartyRow
    | MetricRow
    | AnswerRow
    | ResidualRow
    | AuditRow
    | EventRow
    | ScheduleRow
    | ParticipationRow
    | NodeRow
)

ROW_TYPES: dict[str, type[TableRow]] = {
    "rounds": RoundRow,
    "edits": EditRow,
    "parties": PartyRow,
    "metrics": MetricRow,
    "answers": AnswerRow,
    "residuals": ResidualRow,
    "audit": AuditRow,
    "events": EventRow,
    "schedule": ScheduleRow,
    "participation": ParticipationRow,
    "nodes": NodeRow,
}
"""Table name → type of its rows."""

FIRST_TABLES = ("rounds", "edits", "parties", "metrics", "residuals", "events")
"""The tables of runs whose manifest does not name any."""


_Made = TypeVar("_Made", bound=TableRow)


@dataclass(frozen=True)
class Streamed(Generic[_Made]):
    """Rows that are made anew whenever they are gone through: however many there are, a few are in memory.

    Attributes:
        make: begins to make them, each time the same.
    """

    make: Callable[[], Iterator[_Made]]

    def __iter__(self) -> Iterator[_Made]:
        return self.make()


@dataclass(frozen=True)
class RoundRows:
    """Everything that one round adds to the tables; what there is for each party or edit may be :class:`Streamed`."""

    rounds: Sequence[RoundRow] = ()
    edits: Iterable[EditRow] = ()
    parties: Iterable[PartyRow] = ()
    metrics: Sequence[MetricRow] = ()
    answers: Iterable[AnswerRow] = ()
    residuals: Sequence[ResidualRow] = ()
    audit: Sequence[AuditRow] = ()
    events: Sequence[EventRow] = ()
    schedule: Sequence[ScheduleRow] = ()
    participation: Sequence[ParticipationRow] = ()
    nodes: Sequence[NodeRow] = ()

    def of(self, table: str) -> Iterable[TableRow]:
        """The rows of a table by its name; they can be gone through more than once."""
        rows: Iterable[TableRow] = getattr(self, table)
        return rows


_ARROW_TYPES: dict[type, pa.DataType] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def _arrow_field(name: str, annotation: Any, metadata: dict[str, str]) -> pa.Field:
    nullable = get_origin(annotation) is Union or type(None) in get_args(annotation)
    kind = next(part for part in (*get_args(annotation), annotation) if part in _ARROW_TYPES)
    return pa.field(name, _ARROW_TYPES[kind], nullable=nullable, metadata=metadata)


def schema(table: str) -> pa.Schema:
    """Arrow schema of a table, with units and meanings as field metadata."""
    row_type = ROW_TYPES[table]
    hints = get_type_hints(row_type)
    return pa.schema([_arrow_field(each.name, hints[each.name], dict(each.metadata)) for each in fields(row_type)])


def to_arrow(table: str, rows: Iterable[TableRow]) -> pa.Table:
    """Rows as an Arrow table of the table's schema; raises pyarrow.ArrowInvalid on values of another type."""
    rows = list(rows)
    columns = schema(table)
    return pa.table(
        [pa.array([getattr(row, each.name) for row in rows], type=each.type) for each in columns], schema=columns
    )


def in_batches(table: str, rows: Iterable[TableRow], size: int = _BATCH_ROWS) -> Iterator[pa.Table]:
    """Rows as Arrow tables of at most ``size`` rows, one after the other; none for no rows."""
    remaining = iter(rows)
    while batch := list(islice(remaining, size)):
        yield to_arrow(table, batch)


def headline(rows: Iterable[MetricRow]) -> dict[tuple[int, str, str], MetricRow]:
    """The one row that stands for each (round, arm, metric).

    It is the row over several rounds together if there is one, else the only one, else (for example retention with one
    row for each earlier round) the mean over the rows, weighted by their edits.
    """
    groups: dict[tuple[int, str, str], list[MetricRow]] = {}
    for row in rows:
        groups.setdefault((row.round, row.arm, row.metric), []).append(row)
    return {key: _stand_in(group) for key, group in groups.items()}


def _stand_in(group: list[MetricRow]) -> MetricRow:
    for row in group:
        if row.of_round is None or len(group) == 1:
            return row
    num_edits = sum(row.num_edits for row in group)
    return MetricRow(
        round=group[0].round,
        arm=group[0].arm,
        metric=group[0].metric,
        of_round=None,
        success=_weighted([row.success for row in group], group),
        strict=_weighted([row.strict for row in group], group),
        num_edits=num_edits,
        num_probes=sum(row.num_probes for row in group),
        unit=group[0].unit,
        num_not_finite=sum(row.num_not_finite or 0 for row in group),
    )


def _weighted(values: Sequence[float | None], rows: Sequence[MetricRow]) -> float | None:
    """The mean of values, weighted by their rows' edits; rows without edits have none, and None is for others that do.

    Of rows that have no edits at all, the plain mean.
    """
    total = sum(row.num_edits for row in rows)
    known = [(value, row.num_edits) for value, row in zip(values, rows, strict=True) if row.num_edits or not total]
    if any(value is None for value, _ in known):
        return None
    return sum((weight / total if total else 1 / len(known)) * (value or 0.0) for value, weight in known)
