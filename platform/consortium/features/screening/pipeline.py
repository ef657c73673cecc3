"""The entrance: a party batch's messages, those of attackers spoilt on purpose, on their way through screening."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from consortium.data.attackers import attacks_of
from consortium.data.party_batch import PartyBatch
from consortium.data.stream import Stream
from consortium.features.attacks.attack_messages import misbehave
from consortium.features.screening.checks import Screened, UpdateValidator
from consortium.merging.bucketing import buckets_of
from consortium.merging.method import Contribution, MergeMethod
from consortium.merging.methods.norm_bound import NormBound
from consortium.merging.norms import sends_weighted_updates
from consortium.merging.reference_norms import ReferenceNorms
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis
from consortium.scenario.schema import Scenario


class UpdatePipeline:
    """Where parties' messages are judged, before they are added up.

    Args:
        scenario: the scenario as resolved.
        stream: who asks for what.
        methods: arm → its merge method.

    Attributes:
        all_reference_norms: layer → what is usual in the unedited model; to be set before anything is judged.
    """

    def __init__(self, scenario: Scenario, stream: Stream, methods: Mapping[str, MergeMethod]) -> None:
        self.all_reference_norms: Mapping[int, ReferenceNorms] = {}
        self._scenario = scenario
        self._stream = stream
        self._methods = methods

    def screen(
        self, batch: PartyBatch, basis: Basis, sent: Sequence[Contribution], solver: CovarianceSolver | None
    ) -> Screened:
        """What is admitted of the messages of a party batch's parties, bounded where the method bounds, and who is
        refused.

        Args:
            batch: the batch; nobody's message is spoilt who is excluded.
            basis: what the messages should be about.
            sent: one message of each of its parties, in their order, as they should be.
            solver: the parties' own, where they solve.
        """
        parties, method = self._scenario.party_batch(batch.number), self._methods[basis.arm]
        most_asked = max(self._num_asked(basis.round, party) for party in parties)
        most_edits = most_asked * (1 + self._scenario.conflicts.num_paraphrases)
        system_trace = None
        if solver is not None and sends_weighted_updates(method):
            system_trace = float(solver.system_KK().diagonal().sum())
        max_norm = self._scenario.screening.max_norm
        validator = UpdateValidator(
            basis, self.all_reference_norms[basis.layer], max_norm, most_edits, system_trace, buckets_of(method)
        )
        screened = validator.screen(
            [
                (party, message)
                for party, own in zip(parties, sent, strict=True)
                for message in ([own] if party in batch.excluded else self._made_of(own, basis.round, party))
            ]
        )
        if isinstance(method, NormBound):
            return replace(
                screened, admitted=[method.clipped(each, validator.reference_norms) for each in screened.admitted]
            )
        return screened

    def _made_of(self, message: Contribution, round_number: int, party: int) -> list[Contribution]:
        """What a party sends for its message: the message, unless it attacks and takes part."""
        takes_part = self._scenario.attacks and self._num_asked(round_number, party)
        attacks = attacks_of(self._scenario, round_number, party) if takes_part else []
        return misbehave(attacks, message) if attacks else [message]

    def _num_asked(self, round_number: int, party: int) -> int:
        return self._stream.num_requests(round_number, range(party, party + 1))
