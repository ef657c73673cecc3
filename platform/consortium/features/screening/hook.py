"""Screening as a hook: every party's own message is judged before it is added to its batch's sum."""

from __future__ import annotations

from dataclasses import replace

from consortium.features.hooks import Messages, PartyHook, RoundHook, RoundRecord
from consortium.features.screening.checks import UpdateValidator
from consortium.merging.bucketing import buckets_of
from consortium.merging.methods.norm_bound import NormBound
from consortium.merging.norms import sends_weighted_updates
from consortium.records.rows import RoundRow


class ScreenedParties(PartyHook):
    """Where parties' messages are judged, and bounded where the merge method bounds them."""

    name = "screening"

    def on_messages(self, messages: Messages) -> Messages:
        """What is admitted, and who is refused; the report is the largest size among what is admitted."""
        if messages.is_removal:
            return messages
        screened = self._validator(messages).screen(messages.sent)
        method, admitted = messages.method, screened.admitted
        if isinstance(method, NormBound):
            admitted = [(party, method.clipped(each, messages.reference_norms)) for party, each in admitted]
        found = replace(messages, sent=admitted, rejections=screened.rejections)
        return found.reporting(self.name, screened.max_norm_ratio)

    def _validator(self, messages: Messages) -> UpdateValidator:
        scenario, stream = self.data.scenario, self.data.stream
        parties = scenario.party_batch(messages.batch.number)
        most_asked = max(stream.num_requests(messages.basis.round, range(party, party + 1)) for party in parties)
        solver, system_trace = messages.solver, None
        if solver is not None and sends_weighted_updates(messages.method):
            system_trace = float(solver.system_KK().diagonal().sum())
        return UpdateValidator(
            messages.basis,
            messages.reference_norms,
            scenario.screening.max_norm,
            most_asked * (1 + scenario.conflicts.num_paraphrases),
            system_trace,
            buckets_of(messages.method),
        )


class Screening(RoundHook):
    """Writes down how large the messages were that were added."""

    name = "screening"

    def round_row(self, row: RoundRow, record: RoundRecord) -> RoundRow:
        """With the largest size of a message that was admitted, in multiples of what is usual."""
        relative_norms = [each.reports.get(self.name, 0.0) for each in record.merged if each.arm == row.arm]
        return replace(row, max_norm_ratio=max(relative_norms, default=None))


AT_PARTIES = ScreenedParties
AT_COORDINATOR = Screening
