"""The audit as a hook: each worker says which edits its answer speaks for, and the audit which merge holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from consortium.features.audit.inclusion_record import InclusionRecord, inclusion_record_of
from consortium.features.hooks import Messages, PartyHook, RoundHook, RoundRecord
from consortium.records.rows import AuditRow


class InclusionRecords(PartyHook):
    """Every answer comes with an inclusion record for the edits in it."""

    name = "audit"

    def on_messages(self, messages: Messages) -> Messages:
        """The report is the inclusion record."""
        found = inclusion_record_of(messages.batch.number, messages.edits, messages.num_summed)
        return messages.reporting(self.name, found)


class Audit(RoundHook):
    """Writes down which merge holds which edits."""

    name = "audit"

    def tables(self, round_number: int, record: RoundRecord) -> Mapping[str, Sequence[Any]]:
        """The audit, arm after arm, layer after layer, whichever was merged first."""
        places = {spec.arm: place for place, spec in enumerate(self.scenario.merge.methods)}
        order = sorted(record.merged, key=lambda each: (places[each.arm], each.layer, each.kind, each.number))
        rows = []
        for each in order:
            inclusion_record: InclusionRecord = each.reports[self.name]
            out = frozenset(party for arm, party in record.excluded if arm == each.arm)
            kind = "collect" if each.kind == "merge" else each.kind
            key = (kind, each.arm, round_number, each.layer, out, each.number)
            row = AuditRow(
                round=round_number,
                arm=each.arm,
                layer=each.layer,
                party_batch=each.number,
                kind=each.kind,
                num_edits=inclusion_record.num_edits,
                num_summed=inclusion_record.num_summed,
                digest=inclusion_record.digest,
                worker=each.worker,
                num_attempts=1 + record.lost_calls[key],
                num_dropped=record.dropped[key],
            )
            rows.append(row)
        return {"audit": rows}


AT_PARTIES = InclusionRecords
AT_COORDINATOR = Audit
