"""What happened in a round, gathered while it happens and turned into table rows when it is committed."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from consortium.common.counting import count
from consortium.data.attackers import really_asked
from consortium.data.edit import FactSet
from consortium.data.party_batch import PartyBatch
from consortium.data.stream import Stream
from consortium.editing.known_facts import RequestGroup, Residuals
from consortium.engine.metric_rows import not_finite
from consortium.evaluation.registry import of_column
from consortium.evaluation.telling import ProbeAnswer
from consortium.features.hooks import MergedSum, Rejection, RoundHook, RoundRecord
from consortium.merging.layer_update import Distances
from consortium.party.worker import Collected
from consortium.records.manifest import Note
from consortium.records.rows import (
    AnswerRow,
    EditRow,
    EventRow,
    MetricRow,
    PartyRow,
    ResidualRow,
    RoundRow,
    RoundRows,
    Streamed,
)
from consortium.records.spool import Spool
from consortium.scenario.schema import Scenario

PHASES = ("targets", "collect", "merge", "evaluate")
NOT_FINITE = "not-finite"
"""Kind of the events that tell what was left out since its numbers are not finite."""

Counts = NDArray[np.int64]


@dataclass
class EventNote:
    """What there is to say about an event that is still going on."""

    detail: str | None = None


class RoundLog:
    """Events, times and traffic of the round that is being worked on.

    Args:
        scenario: the scenario.
        clock: seconds since the run's start, pauses left out.
        hooks: features that have columns or tables of their own.
    """

    def __init__(
        self, scenario: Scenario, clock: Callable[[], float] = time.monotonic, hooks: Sequence[RoundHook] = ()
    ) -> None:
        self.scenario = scenario
        self.clock = clock
        self.hooks = hooks
        self._clear()

    def _clear(self) -> None:
        self._events: list[EventRow] = []
        self._seconds: dict[tuple[str, str], float] = defaultdict(float)
        # Arm → a number for each party [P].
        self._party_bytes: dict[str, Counts] = defaultdict(self._zeros)
        self._left_out: dict[str, Counts] = defaultdict(self._zeros)
        self._not_finite: dict[str, Counts] = defaultdict(self._zeros)
        self._residuals: list[tuple[str, int, Mapping[RequestGroup, Residuals]]] = []
        self._metrics: list[MetricRow] = []
        self._answers: dict[str, Spool[AnswerRow]] = {}
        # Features make their rows of this when these are written, perhaps while the next round is worked on.
        self._record = RoundRecord()

    def _zeros(self) -> Counts:
        return np.zeros(self.scenario.parties.count, np.int64)

    def event(  # noqa: PLR0913  (the columns of the table)
        self,
        kind: str,
        round_number: int,
        *,
        arms: Sequence[str] = (),
        layer: int | None = None,
        party_batch: int | None = None,
        worker: str | None = None,
        seconds: float | None = None,
        num_bytes: int | None = None,
        detail: str | None = None,
        round_trip_s: float | None = None,
    ) -> None:
        """Record something that happened now; its seconds are shared evenly between ``arms``."""
        arm = arms[0] if len(arms) == 1 else None
        now = self.clock()
        row = EventRow(
            now, kind, round_number, arm, layer, party_batch, worker, seconds, num_bytes, detail, round_trip_s
        )
        self._events.append(row)
        # The same work, on edits of earlier rounds; and what a machine's workers add up for the coordinator.
        phase = "collect" if kind in ("unlearn", "add") else kind
        for each in arms:
            self._seconds[each, phase] += (seconds or 0.0) / len(arms)

    def notes(self, notes: Sequence[Note], round_number: int) -> None:
        """Tell of what befell the run while no round was worked on."""
        for note in notes:
            self.event(note.kind, round_number, detail=note.detail)

    @contextmanager
    def timed(
        self, kind: str, round_number: int, *, arms: Sequence[str] = (), layer: int | None = None
    ) -> Iterator[EventNote]:
        """Record an event that takes as long as the block; what is yielded takes a remark on it."""
        start = time.monotonic()
        note = EventNote()
        yield note
        seconds = time.monotonic() - start
        self.event(kind, round_number, arms=arms, layer=layer, seconds=seconds, detail=note.detail)

    def begun(
        self,
        arm: str,
        excluded: Iterable[int],
        before: Mapping[int, frozenset[int]],
        round_number: int = 0,
        rejections: Sequence[Rejection] = (),
    ) -> None:
        """Record that an arm's round begins without some parties; once more, where it was begun with some refused.

        ``before`` maps earlier rounds to the parties that were excluded in them.
        What was sent and wanted before is forgotten, since nothing of it was merged; the time it took is not.
        """
        for each in rejections:
            self._record.excluded[arm, each.party] = each.reason
            self.event("rejected", round_number, arms=[arm], detail=f"party {each.party}: {each.reason}: {each.detail}")
        for party in excluded:
            self._record.excluded.setdefault((arm, party), "excluded")
        self._record.excluded_before[arm] = before
        self._party_bytes.pop(arm, None)
        self._not_finite.pop(arm, None)
        self._residuals = [each for each in self._residuals if each[0] != arm]
        self._record.merged = [each for each in self._record.merged if each.arm != arm]

    def sent(self, arm: str, number: int, collected: Collected) -> None:
        """Record what each party of a batch sent to an arm, and how many edits it left out at every layer."""
        for party, num_bad in zip(self.scenario.party_batch(number), collected.num_not_finite, strict=True):
            self._not_finite[arm][party] = max(num_bad, self._not_finite[arm][party])
        each_party = zip(self.scenario.party_batch(number), collected.party_bytes, collected.num_skipped, strict=True)
        for party, num_bytes, num_skipped in each_party:
            self._party_bytes[arm][party] += num_bytes
            self._left_out[arm][party] = num_skipped

    def check_finite(self, arm: str, round_number: int, num_edits: int) -> None:
        """Before a merge: no more of an arm's edits were left out, their numbers not being finite, than may.

        Raises:
            NotFiniteError: more were.
        """
        bad = int(self._not_finite[arm].sum())
        if bad > self.scenario.evaluate.max_not_finite * num_edits:
            found = f"{bad} of {count(num_edits, 'edit')} have targets, keys or residuals that are not finite"
            raise not_finite(f"{found} in arm {arm}, round {round_number}", self.scenario.evaluate.max_not_finite)

    @property
    def num_bytes(self) -> int:
        """Bytes that parties sent in this round, to all arms."""
        return sum(int(bytes_P.sum()) for bytes_P in self._party_bytes.values())

    @property
    def num_parties_rejected(self) -> int:
        """Parties that the arms' screening kept out of this round."""
        return len(self._record.excluded)

    def wanted(self, arm: str, layer: int, residuals: Mapping[RequestGroup, Residuals]) -> None:
        """Record what an arm's model was wanting of the edits when their targets were optimised."""
        self._residuals.append((arm, layer, residuals))

    def decided(self, batches: Sequence[PartyBatch]) -> None:
        """Record what features decided about the round's batches."""
        self._record.batches = batches

    def merged(self, parts: Iterable[MergedSum]) -> None:
        """Record that batches' answers went into (or out of) an arm's layer."""
        self._record.merged.extend(parts)

    def asked_again(self, key: Hashable) -> None:
        """Record that a call's worker was lost, or its answer refused; the key of a call names kind, arm and party
        batch."""
        self._record.lost_calls[key] += 1

    def dropped(self, key: Hashable) -> None:
        """Record that an answer to a call came twice, or too late, and was dropped."""
        self._record.dropped[key] += 1

    def measured(self, rows: Sequence[MetricRow]) -> None:
        """Record metrics, and as an event what of an arm's answers was not finite."""
        self._metrics.extend(rows)
        bad = [row for row in rows if row.num_not_finite and not of_column(row.metric).parts]
        if bad:
            parts = (
                f"{row.metric}{'' if row.of_round is None else f' of round {row.of_round}'}: {row.num_not_finite} of "
                f"{(row.num_not_finite or 0) + row.num_probes}"
                for row in bad
            )
            arms = [bad[0].arm]
            self.event(NOT_FINITE, bad[0].round, arms=arms, detail=f"answers left out: {', '.join(parts)}")

    def told(self, arm: str, round_number: int, told: Sequence[ProbeAnswer]) -> None:
        """Record what some probes of an arm were answered with, party batch after party batch."""
        if not told:
            return
        rows = [AnswerRow(round_number, arm, **vars(each)) for each in told]
        self._answers.setdefault(arm, Spool()).add(rows)

    def close_round(
        self, round_number: int, stream: Stream, facts: FactSet, distances: dict[str, Distances]
    ) -> RoundRows:
        """All rows of the round; the round log is empty afterwards. Round 0 has events and nothing else.

        Those of parties and edits are made when they are written: they are too many to be held.
        """
        arms = [spec.arm for spec in self.scenario.merge.methods] if round_number else []
        for arm in arms:
            if bad := int(self._not_finite[arm].sum()):
                detail = f"edits left out: {bad}, whose targets, keys or residuals are not finite"
                self.event(NOT_FINITE, round_number, arms=[arm], detail=detail)
        record, withdrawn = self._record, self._num_withdrawn()
        sent = {arm: (self._party_bytes[arm], self._left_out[arm], self._not_finite[arm]) for arm in arms}
        edits = partial(self._edit_rows, round_number, stream, facts, record)
        parties = partial(self._party_rows, round_number, stream, sent, withdrawn, record)
        rows = RoundRows(
            rounds=[self._round_row(round_number, arm, stream, distances[arm], withdrawn) for arm in arms],
            edits=Streamed(edits) if round_number else [],
            parties=Streamed(parties) if round_number else [],
            metrics=self._metrics_in_order(),
            answers=Streamed(partial(_chained, self._in_order_of_arms(self._answers))),
            residuals=list(self._residual_rows(round_number)),
            events=self._events,
        )
        for hook in self.hooks if round_number else ():
            rows = replace(rows, **hook.tables(round_number, record))
        self._clear()
        return rows

    def _num_withdrawn(self) -> Counter[int]:
        """Party → its edits that no arm merges."""
        return sum((hook.num_withdrawn(self._record) for hook in self.hooks), Counter[int]())

    def _in_order_of_arms(self, spools: Mapping[str, Spool[AnswerRow]]) -> list[Spool[AnswerRow]]:
        """As the scenario has the arms; the unedited model comes before all."""
        places = {spec.arm: place for place, spec in enumerate(self.scenario.merge.methods)}
        return [spools[arm] for arm in sorted(spools, key=lambda arm: places.get(arm, -1))]

    def _metrics_in_order(self) -> list[MetricRow]:
        """Arm after arm as in the scenario, whichever was measured first; the unedited model comes before all."""
        places = {spec.arm: place for place, spec in enumerate(self.scenario.merge.methods)}
        return sorted(self._metrics, key=lambda row: places.get(row.arm, -1))

    def _round_row(
        self, round_number: int, arm: str, stream: Stream, found: Distances, withdrawn: Counter[int]
    ) -> RoundRow:
        record, present = self._record, stream.present(round_number)
        out = [party for each, party in record.excluded if each == arm and party in present]
        asked = (stream.num_requests(round_number, range(party, party + 1)) - withdrawn[party] for party in out)
        removing = stream.removals.parties(round_number)
        row = RoundRow(
            round=round_number,
            arm=arm,
            num_parties=len(present) - len(out),
            num_edits=stream.num_requests(round_number) - withdrawn.total() - sum(asked),
            num_parties_rejected=len(out),
            num_removed=stream.removals.num_edits(round_number, removing, record.excluded_before.get(arm)),
            bytes_sent=int(self._party_bytes[arm].sum()),
            **{f"{phase}_s": self._seconds[arm, phase] for phase in PHASES},
            weights_distance=found.weights_distance,
            update_distance=found.update_distance,
            update_norm=found.update_norm,
            num_shared_keys=found.key_overlap.num_shared_keys if found.key_overlap else None,
            unresolvable_share=found.key_overlap.unresolvable_share if found.key_overlap else None,
        )
        for hook in self.hooks:
            row = hook.round_row(row, record)
        return row

    def _party_rows(
        self,
        round_number: int,
        stream: Stream,
        sent: Mapping[str, tuple[Counts, Counts, Counts]],
        withdrawn: Counter[int],
        record: RoundRecord,
    ) -> Iterator[PartyRow]:
        """Arm after arm; ``sent`` gives each arm's bytes and numbers of edits left out and not finite, by party."""
        size, looking = self.scenario.cluster.parties_per_batch, self.scenario.arms_that_skip
        for arm, (bytes_P, left_out_P, not_finite_P) in sent.items():
            before = record.excluded_before.get(arm)
            for party in range(self.scenario.parties.count):
                asked = stream.num_requests(round_number, range(party, party + 1))
                gone = stream.removals.num_edits(round_number, [party], before)
                if asked or gone:
                    left_out = int(left_out_P[party]) if arm in looking else None
                    reason = record.excluded.get((arm, party))
                    num_edits = 0 if reason else asked - withdrawn[party]
                    of_party = num_edits, int(bytes_P[party]), left_out, gone, reason, int(not_finite_P[party])
                    yield PartyRow(round_number, arm, party, party // size, *of_party)

    def _residual_rows(self, round_number: int) -> Iterator[ResidualRow]:
        places = {spec.arm: place for place, spec in enumerate(self.scenario.merge.methods)}
        for arm, layer, sums in sorted(self._residuals, key=lambda each: places[each[0]]):
            for (kind, asked_before), found in sorted(sums.items()):
                mean = found.shift / found.num_edits if found.num_edits else None
                num_known = found.num_known if arm in self.scenario.arms_that_check else 0
                row = ResidualRow(round_number, arm, layer, kind, asked_before, found.num_edits, mean, num_known)
                for hook in self.hooks:
                    row = hook.residual_row(row, found)
                yield replace(row, num_not_finite=found.num_not_finite)

    def _edit_rows(self, round_number: int, stream: Stream, facts: FactSet, record: RoundRecord) -> Iterator[EditRow]:
        for party in range(self.scenario.parties.count):
            for request in stream.requests(round_number, party):
                asked = really_asked(self.scenario, stream, request)
                edit = facts.edit(asked.fact, asked.variant)
                row = EditRow(
                    round=request.round,
                    party=request.party,
                    index=request.index,
                    fact_id=edit.fact_id,
                    relation=edit.relation,
                    subject=edit.subject,
                    prompt=edit.prompt,
                    target_new=edit.target_new,
                    target_old=edit.target_old,
                    kind=request.kind,
                    removed=stream.removed_in(request),
                )
                for hook in self.hooks:
                    row = hook.edit_row(row, request, edit, record)
                yield row


def _chained(spools: Sequence[Spool[AnswerRow]]) -> Iterator[AnswerRow]:
    return chain.from_iterable(spools)
